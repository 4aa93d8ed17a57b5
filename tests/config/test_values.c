/*
 * test_values.c - accepted and refused values of every type, overrides, resolved jobs.
 */
#include "job.h"

/* Texts of opt.steps and their values, determined by hand. */
static const struct {
    const char *text;
    int64_t value;
} integers[] = {
    {"0", 0},
    {"+7", 7},
    {"-12", -12},
    {"007", 7},
    {"1e4", 10000},
    {"1.5E3", 1500},
    {"2.0", 2},
    {"1000e-3", 1},
    {"9007199254740991", INT64_C(9007199254740991)},
    {"-9007199254740991", INT64_C(-9007199254740991)},
};

static void integers_may_be_written_as_any_decimal(void **state)
{
    (void)state;
    static job_options o;
    char text[128];
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        int n =
            snprintf(text, sizeof text, "path: x\nopt: {steps: %s}", integers[i].text);
        ASSERT_OK(job_parse(text, (size_t)n, &o));
        assert_true(o.steps == integers[i].value);
    }
}

static const char *const bad_values[][2] = {
    {"opt: {steps: 1_000}", "job.yaml:2: opt.steps: \"1_000\" is not a number"},
    {"opt: {steps: 1.5}", "not a whole number"},
    {"opt: {steps: 9007199254740993}", "not a whole number"},
    {"opt: {steps: 1.00000000000000000001}", "not a whole number"},
    {"opt: {steps: 1e19}", "(-1e+18 to 1e+18 steps)"},
    {"opt: {steps: 0x10}", "not a number"},
    {"opt: {steps: 1e}", "not a number"},
    {"opt: {steps: \"5\"}", "quotes"},
    {"opt: {steps: ' 5'}", "quotes"},
    {"opt: {rate: nan}", "not a number"},
    {"opt: {rate: .nan}", "not a number"},
    {"opt: {rate: -inf}", "not a number"},
    {"opt: {rate: .}", "not a number"},
    {"opt: {rate: 1e400}", "not a number"},
    {"opt: {rate: 1e-400}", "opt.rate: \"1e-400\" "},
    {"opt: {rate: 1,5}", "job.yaml:2: opt.5 "},
    {"opt: {rate: -0}", "write 0"},
    {"opt: {rate: -0.0e7}", "write 0"},
    {"opt: {steps: -0}", "write 0"},
    {"opt: {rate: 2e300}", "opt.rate: 2e300 is out of range (0 to 1e+300 per step)"},
    {"opt: {flag: yes}", "true or false"},
    {"opt: {flag: On}", "true or false"},
    {"opt: {flag: True}", "true or false"},
    {"opt: {flag: 1}", "true or false"},
    {"opt: {flag: 'true'}", "quotes"},
    {"opt: {kind: admw}", "sgd|lars|adamw; did you mean adamw?"},
    {"opt: {kind: [sgd]}", "job.yaml:2: opt.kind "},
    {"opt: {kind: []}", "job.yaml:2: opt.kind "},
    {"opt: {kind: {}}", "job.yaml:2: opt.kind "},
    {"opt: {}", "job.yaml:2: opt "},
    {"opt:", "job.yaml:2: opt "},
    {"opt: {rate: NULL}", "job.yaml:2: opt.rate "},
    {"opt: 3", " opt;"},
    {"opt: {note: \"a\\u0085b\"}", "control character, U+0085"},
    {"opt: {note: \"a\\u2028b\"}", "U+2028"},
    {"opt: {note: \"\\uFFFE\"}", "U+FFFE"},
    {"opt: {note: \"a\\0b\"}", "job.yaml:2: opt.note "},
    {"opt: {kind: \"\\e[31m\"}", "opt.kind: \"?[31m\" "},
    {"optt: {rate: 1}", "optt.rate; did you mean opt.rate?"},
    {"opt: {temperature: 1}", "opt.temperature; `simile plan --keys`"},
    {"veiw: {ops: [flip]}", "veiw.ops.0; did you mean view.ops?"},
    {"view: {ops: [{op: crp}]}", "did you mean crop?"},
    {"view: {ops: [flop]}", "did you mean flip?"},
    {"view: {ops: [{op: flip, size: 3}]}", "flip has no key size, expected one of op|p"},
    {"kidn: lars", "kidn; did you mean opt.kind?"},
    {"opt: {kind: rmsprop}", "sgd|lars|adamw"},
    {"view: {ops: [{op: crop, sise: 3}]}", "did you mean size?"},
    {"view: {ops: [{op: crop, size: 100}]}", "(1 to 99 pixels)"},
    {"view: {ops: [[flip]]}", "view.ops.0.op is required, one of flip|crop"},
    {"view: {ops: [[]]}", "flip|crop"},
    {"view: {ops: [{}]}", "job.yaml:2: "},
    {"view: {ops: [~]}", "job.yaml:2: view.ops"},
    {"view: {ops: {op: flip}}", "job.yaml:2: view.ops "},
    {"view: {ops: flip}", "job.yaml:2: view.ops "},
    {"a.b: 1", "\"a.b\" "},
    {"1: {\"\\e\": 2}", "\"?\" "},
};

static void invalid_values_are_refused_with_the_reason(void **state)
{
    (void)state;
    static job_options o;
    char text[256];
    for (size_t i = 0; i < sizeof bad_values / sizeof bad_values[0]; i++) {
        int n = snprintf(text, sizeof text, "path: x\n%s", bad_values[i][0]);
        ASSERT_REFUSED(job_parse(text, (size_t)n, &o), SIM_E_CONFIG, bad_values[i][1]);
    }
}

static void a_missing_required_key_is_named(void **state)
{
    (void)state;
    static job_options o;
    ASSERT_REFUSED(job_parse("{}", 2, &o), SIM_E_CONFIG, "job.yaml: path is required");
    ASSERT_REFUSED(job_parse("", 0, &o), SIM_E_CONFIG, "job.yaml: path is required");
}

static void the_length_of_texts_is_limited(void **state)
{
    (void)state;
    static job_options o;
    char text[SIM_OPTION_TEXT_BYTES + 16] = "path: ";
    size_t at = strlen(text);
    memset(text + at, 'x', SIM_OPTION_TEXT_BYTES);
    ASSERT_OK(job_parse(text, at + SIM_OPTION_TEXT_BYTES - 1, &o));
    assert_int_equal(strlen(o.path), SIM_OPTION_TEXT_BYTES - 1);
    ASSERT_REFUSED(job_parse(text, at + SIM_OPTION_TEXT_BYTES, &o), SIM_E_CONFIG,
                   "longer than 1023 bytes");
}

static void lists_have_at_most_sixteen_items(void **state)
{
    (void)state;
    static job_options o;
    for (size_t n = 16; n <= 17; n++) {
        char text[256] = "path: x\nview:\n  ops:\n";
        for (size_t i = 0; i < n; i++)
            memcpy(text + strlen(text), "  - flip\n", sizeof "  - flip\n");
        if (n == 16) {
            ASSERT_OK(job_parse(text, strlen(text), &o));
            assert_true(o.ops.given && o.ops.n == 16);
        } else {
            ASSERT_REFUSED(job_parse(text, strlen(text), &o), SIM_E_CONFIG, "16 items");
        }
    }
}

static void an_empty_list_differs_from_an_absent_one(void **state)
{
    (void)state;
    static job_options o;
    ASSERT_OK(job_parse("path: x", 7, &o));
    assert_false(o.ops.given);
    ASSERT_OK(job_parse("{path: x, view: {ops: []}}", 26, &o));
    assert_true(o.ops.given && o.ops.n == 0);
}

/* ---- overrides ---- */

static const char base_job[] = "path: x\nopt: {rate: 1, kind: lars}\n"
                               "view: {ops: [flip, {op: crop, size: 9}]}\n";

static sim_status override(size_t n, const char *const *texts, job_options *o)
{
    char path[32], copies[4][128], *overrides[4];
    const int numbers[] = {3, 5, 6, 9};
    sim_config *c = NULL;
    job_write(path, base_job, sizeof base_job - 1);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(copies[i], sizeof copies[i], "%s", texts[i]);
        overrides[i] = copies[i];
    }
    sim_status st = sim_config_read(path, n, overrides, numbers, &c);
    st = st == SIM_OK ? job_fill(c, o) : st;
    sim_config_destroy(&c);
    (void)remove(path);
    return st;
}

static job_item item_of(const job_options *o, size_t i)
{
    job_item parsed;
    memcpy(&parsed, &o->ops.values[i], sizeof parsed);
    return parsed;
}

static void an_override_replaces_the_value_of_the_file(void **state)
{
    (void)state;
    static job_options o;
    ASSERT_OK(override(2, (const char *const[]){"opt.rate=3", "path=a=b"}, &o));
    assert_true(o.rate == 3 && o.kind == 1);
    assert_string_equal(o.path, "a=b");
    /* A mapping replaces the whole section: kind has its default value. */
    ASSERT_OK(override(2, (const char *const[]){"opt={rate: 5}", "opt.steps=4"}, &o));
    assert_true(o.rate == 5 && o.kind == 0 && o.steps == 4);
    ASSERT_OK(override(1, (const char *const[]){"view.ops=[{op: flip, p: 0.25}]"}, &o));
    assert_true(o.ops.n == 1 && item_of(&o, 0).p == 0.25);
    ASSERT_OK(override(1, (const char *const[]){"view.ops.1.size=7"}, &o));
    assert_true(o.ops.n == 2 && item_of(&o, 1).size == 7);
    ASSERT_OK(override(2, (const char *const[]){"view.ops=[]", "opt.note='~'"}, &o));
    assert_true(o.ops.given && o.ops.n == 0);
    assert_string_equal(o.note, "~");
}

static void a_key_may_be_overridden_once(void **state)
{
    (void)state;
    static job_options o;
    static const char *const resolved_again[][3] = {
        {"path=y", "path=y", "argument 5: path is already set by argument 3"},
        {"opt.rate=2", "opt.rate=3", "argument 5: opt.rate is already set by argument 3"},
        {"opt.steps=4", "opt={rate: 5}",
         "argument 5: opt.steps is already set by argument 3"},
        {"opt={rate: 5}", "opt.rate=6",
         "argument 5: opt.rate is already set by argument 3"},
        {"view.ops=[]", "view.ops=[flip]",
         "argument 5: view.ops is already set by argument 3"},
    };
    for (size_t i = 0; i < sizeof resolved_again / sizeof *resolved_again; i++)
        ASSERT_REFUSED(override(2, &resolved_again[i][0], &o), SIM_E_CONFIG,
                       resolved_again[i][2]);
}

static void set_default_replaces_the_default_of_the_table(void **state)
{
    (void)state;
    static job_options o;
    sim_config *c = NULL;
    char *text = NULL;
    ASSERT_OK(sim_config_parse(base_job, sizeof base_job - 1, "job.yaml", &c));
    sim_config_set_default(c, "opt.rate", "0.25");
    sim_config_set_default(c, "opt.steps", "77");
    ASSERT_OK(job_fill(c, &o));
    assert_true(o.rate == 1 && o.steps == 77 && !o.flag);
    ASSERT_OK(sim_config_resolved(c, &text));
    assert_non_null(strstr(text, "steps: 77\n"));
    sim_free(text);
    sim_config_destroy(&c);
}

static const char *const bad_overrides[][2] = {
    {"opt.rate", "argument 3: \"opt.rate\" is not key=value"},
    {"=1", "argument 3: \"=1\" is not key=value"},
    {"opt..rate=1", "\"opt..rate"},
    {".opt=1", "\".opt"},
    {"opt.=1", "\"opt."},
    {"o pt=1", "\"o pt"},
    {"\033[m=1", "\"?[m"},
    {"opt.rate=", "argument 3: opt.rate has no value"},
    {"opt.rate=#1", "argument 3: opt.rate has no value"},
    {"opt.rate=~", "argument 3: opt.rate has no value"},
    {"opt.rate={}", "argument 3: opt.rate "},
    {"opt.rate.x=1", "opt.rate "},
    {"opt.rate=-1", "argument 3: opt.rate: -1 is out of range"},
    {"opt.rate=1\n---\n2", "argument 3: "},
    {"opt.rate=&a 1", "argument 3: anchors"},
    {"opt.rate=*a", "argument 3: aliases"},
    {"opt.rate=[1", "argument 3: not YAML"},
    {"opt.rate=\xff", "argument 3: not YAML: byte 0xff"},
    {"opt={rate: 1, rate: 2}", "argument 3: opt.rate "},
    {"opt.rat=1", "opt.rat; did you mean opt.rate?"},
    {"opt=5", " opt; `simile plan --keys`"},
    {"rate=5", " rate; did you mean opt.rate?"},
    {"view.ops.5.op=flip", " view.ops.5.op"},
    {"view.ops.0.p=1", "view.ops.0 "},
};

static void invalid_overrides_are_reported_by_number(void **state)
{
    (void)state;
    static job_options o;
    for (size_t i = 0; i < sizeof bad_overrides / sizeof bad_overrides[0]; i++)
        ASSERT_REFUSED(override(1, &bad_overrides[i][0], &o), SIM_E_CONFIG,
                       bad_overrides[i][1]);
    ASSERT_REFUSED(override(2, (const char *const[]){"path=y", "opt.steps=x"}, &o),
                   SIM_E_CONFIG, "argument 5: opt.steps");
}

static void peek_and_error_use_dotted_keys(void **state)
{
    (void)state;
    sim_config *c = NULL;
    ASSERT_OK(sim_config_parse(base_job, sizeof base_job - 1, "job.yaml", &c));
    assert_string_equal(sim_config_peek(c, "opt.kind"), "lars");
    assert_null(sim_config_peek(c, "opt"));
    ASSERT_REFUSED(sim_config_error(c, "opt.kind", "needs %d", 7), SIM_E_CONFIG,
                   "job.yaml:2: opt.kind: needs 7");
    ASSERT_REFUSED(sim_config_error(c, "opt.flag", "why"), SIM_E_CONFIG,
                   "job.yaml: opt.flag: why");
    sim_config_destroy(&c);
}

/* ---- resolved jobs ---- */

static void resolve(const char *text, char **yaml, char **identity)
{
    static job_options o;
    sim_config *c = NULL;
    ASSERT_OK(sim_config_parse(text, strlen(text), "job.yaml", &c));
    ASSERT_OK(job_fill(c, &o));
    ASSERT_OK(sim_config_resolved(c, yaml));
    ASSERT_OK(sim_config_identity(c, identity));
    sim_config_destroy(&c);
}

static void resolved_job_and_identity_have_the_expected_text(void **state)
{
    (void)state;
    char *yaml = NULL, *identity = NULL;
    resolve("path: 'it''s'\nopt: {rate: 1.50, steps: 1e4}\n"
            "view: {ops: [flip, {size: 5, op: crop}]}\n",
            &yaml, &identity);
    assert_string_equal(yaml,
                        "opt:\n"
                        "  flag: false\n"
                        "  kind: sgd\n"
                        "  note: ''\n"
                        "  rate: 1.5\n"
                        "  steps: 10000\n"
                        "path: 'it''s'\n"
                        "view:\n"
                        "  ops: [{op: flip, p: 0.5}, {op: crop, p: 0.5, size: 5}]\n");
    assert_string_equal(identity,
                        "opt.flag: false\n"
                        "opt.kind: sgd\n"
                        "opt.rate: 1.5\n"
                        "opt.steps: 10000\n"
                        "view.ops: [{op: flip, p: 0.5}, {op: crop, p: 0.5, size: 5}]\n");
    sim_free(yaml);
    sim_free(identity);
}

static void special_values_are_unchanged_by_the_resolved_job(void **state)
{
    (void)state;
    static const char *const jobs[] = {
        "path: ~/x",
        "path: '~'",
        "path: 'null'",
        "path: '  two  blanks  '",
        "path: '''''''# : {}[],&*!|>%@`\"\\'",
        "path: \"\\u00e9\\U0001F600\"",
        "path: x\nopt: {rate: 0.1, steps: -3}",
        "path: x\nopt: {rate: 2.2250738585072014e-308}",
        "path: x\nopt: {rate: 1e300, flag: true, kind: adamw}",
        "path: x\nopt: {rate: 0.30000000000000004, steps: 9007199254740991}",
        "path: x\nview: {ops: []}",
        "path: x\nview: {ops: [{op: crop, p: 0.123456789012345678}]}",
    };
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        char *resolved = NULL, *resolved_again = NULL, *identity = NULL, *same = NULL;
        static job_options a, b;
        resolve(jobs[i], &resolved, &identity);
        resolve(resolved, &resolved_again, &same);
        assert_string_equal(resolved, resolved_again);
        assert_string_equal(identity, same);
        ASSERT_OK(job_parse(jobs[i], strlen(jobs[i]), &a));
        ASSERT_OK(job_parse(resolved, strlen(resolved), &b));
        assert_memory_equal(&a, &b, sizeof a);
        sim_free(resolved);
        sim_free(resolved_again);
        sim_free(identity);
        sim_free(same);
    }
}

static void help_has_one_line_per_key_with_its_range(void **state)
{
    (void)state;
    char *text = NULL;
    ASSERT_OK(sim_config_help(&job_opt, &text));
    assert_string_equal(
        text, "  opt.rate   number   [0.1]  0 to 1e+300 per step   learning rate\n"
              "  opt.steps  integer  [10]   -1e+18 to 1e+18 steps  length\n");
    sim_free(text);
    ASSERT_OK(sim_config_help(&job_top, &text));
    assert_non_null(strstr(text, "[required]"));
    assert_non_null(strstr(text, "    op: crop\n      p     number   [0.5]  0 to 1 "));
    sim_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_may_be_written_as_any_decimal),
        cmocka_unit_test(invalid_values_are_refused_with_the_reason),
        cmocka_unit_test(a_missing_required_key_is_named),
        cmocka_unit_test(the_length_of_texts_is_limited),
        cmocka_unit_test(lists_have_at_most_sixteen_items),
        cmocka_unit_test(an_empty_list_differs_from_an_absent_one),
        cmocka_unit_test(an_override_replaces_the_value_of_the_file),
        cmocka_unit_test(a_key_may_be_overridden_once),
        cmocka_unit_test(set_default_replaces_the_default_of_the_table),
        cmocka_unit_test(invalid_overrides_are_reported_by_number),
        cmocka_unit_test(peek_and_error_use_dotted_keys),
        cmocka_unit_test(resolved_job_and_identity_have_the_expected_text),
        cmocka_unit_test(special_values_are_unchanged_by_the_resolved_job),
        cmocka_unit_test(help_has_one_line_per_key_with_its_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
