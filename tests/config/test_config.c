/*
 * test_config.c - valid and invalid jobs, overrides, the resolved job.
 */
#include "simile_test.h"

#include "simile/config.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <unistd.h>

typedef struct {
    double lr;
    int64_t steps;
    bool flag;
    int kind;
    char text[SIM_OPTION_TEXT_BYTES];
} options;

typedef struct {
    double p;
} item;

static const sim_option item_rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(item, p), 0, 1, "0.5", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
};
static const sim_option_table items[] = {{"flip", item_rows, 1, sizeof(item)},
                                         {"gray", item_rows, 1, sizeof(item)}};
static const sim_option rows[] = {
    {"lr", SIM_OPTION_REAL, offsetof(options, lr), 0, 10, "0.1", NULL, "", "rate",
     SIM_IDENTITY, NULL, NULL},
    {"steps", SIM_OPTION_INT, offsetof(options, steps), 1, 1000, "10", NULL, "steps",
     "length", SIM_IDENTITY, NULL, NULL},
    {"deep.flag", SIM_OPTION_BOOL, offsetof(options, flag), 0, 0, "false", NULL, "",
     "flag", SIM_FREE_KEY, NULL, NULL},
    {"kind", SIM_OPTION_ENUM, offsetof(options, kind), 0, 0, "sgd", "sgd|lars", "",
     "kind", SIM_IDENTITY, NULL, NULL},
    {"name", SIM_OPTION_TEXT, offsetof(options, text), 0, 0, "it's", NULL, "", "name",
     SIM_FREE_KEY, NULL, NULL},
};
static const sim_option_table table = {"opt", rows, 5, sizeof(options)};

typedef struct {
    sim_option_items list;
} list_options;
static const sim_option list_rows[] = {
    {"list", SIM_OPTION_ITEMS, offsetof(list_options, list), 0, 0, NULL, "flip|gray", "",
     "ops", SIM_IDENTITY, items, NULL},
};
static const sim_option_table list_table = {"aug", list_rows, 1, sizeof(list_options)};

static sim_status parse_job(const char *text, size_t n, options *o, list_options *l)
{
    sim_config *c = NULL;
    sim_status st = sim_config_parse(text, n, "job.yaml", &c);
    if (st == SIM_OK)
        st = sim_config_fill(c, &table, o);
    if (st == SIM_OK)
        st = sim_config_fill(c, &list_table, l);
    if (st == SIM_OK)
        st = sim_config_finish(c);
    sim_config_destroy(&c);
    return st;
}

static void keys_and_defaults_are_stored_in_the_struct(void **state)
{
    (void)state;
    options o;
    list_options l;
    const char *text = "opt: {lr: 1e-3, kind: lars, deep: {flag: true}}\n"
                       "aug:\n  list: [flip, {op: gray, p: 0.25}]\n";
    ASSERT_OK(parse_job(text, strlen(text), &o, &l));
    assert_true(o.lr == 1e-3 && o.steps == 10 && o.flag && o.kind == 1);
    assert_string_equal(o.text, "it's");
    assert_true(l.list.given && l.list.n == 2 && l.list.op[1] == 1);
    for (size_t i = 0; i < 2; i++) {
        item parsed;
        memcpy(&parsed, &l.list.values[i], sizeof parsed);
        assert_true(parsed.p == (i == 0 ? 0.5 : 0.25));
    }
}

/* Invalid jobs and a part of the expected error message. */
static const char *const bad_jobs[][2] = {
    {"opt: {lrr: 1}", "did you mean opt.lr?"},
    {"opt:\n  lr: 0.1\n  lr: 0.2\n", "job.yaml:3: opt.lr "},
    {"opt: {lr: nan}", "not a number"},
    {"opt: {lr: inf}", "not a number"},
    {"opt: {lr: 0x10}", "not a number"},
    {"opt: {lr: 1e400}", "not a number"},
    {"opt: {lr: 11}", "(0 to 10)"},
    {"opt: {lr: -0.5}", "(0 to 10)"},
    {"opt: {lr: [1, 2]}", "job.yaml:1: opt.lr "},
    {"opt: {steps: 1.5}", "not a whole number"},
    {"opt: {steps: 0}", "opt.steps: 0 "},
    {"opt: {deep: {flag: yes}}", "not true or false"},
    {"opt: {kind: lasr}", "did you mean lars?"},
    {"opt: {lr: }", "job.yaml:1: opt.lr "},
    {"opt: {lr: ~}", "job.yaml:1: opt.lr "},
    {"opt: {lr: &a 1}", "anchors"},
    {"opt: {lr: *a}", "aliases"},
    {"opt: !!map {lr: 1}", "tags"},
    {"opt: {lr: 1}\n---\nopt: {lr: 2}\n", "job.yaml:2: "},
    {"a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}", "deeper"},
    {"- 1\n- 2\n", "key: value"},
    {"just text", "key: value"},
    {"opt: {name: \"a\\tb\"}", "control character"},
    {"opt: {lr: 1", "not YAML"},
    {"opt: {name: \xc3\x28}", "not YAML"},
    {"aug: {list: [{op: flipp}]}", "flip|gray"},
    {"aug: {list: [{op: flip, q: 1}]}", "flip has no key q, expected one of op|p"},
    {"aug: {list: [{p: 1}]}", "aug.list.0.op "},
    {"aug: {list: 3}", "job.yaml:1: aug.list "},
    {"? [a]\n: 1\n", "job.yaml:1: "},
    {"nothing: 1", " nothing"},
};

static void bad_jobs_are_refused_with_location_and_reason(void **state)
{
    (void)state;
    options o;
    list_options l;
    for (size_t i = 0; i < sizeof bad_jobs / sizeof bad_jobs[0]; i++)
        ASSERT_REFUSED(parse_job(bad_jobs[i][0], strlen(bad_jobs[i][0]), &o, &l),
                       SIM_E_CONFIG, bad_jobs[i][1]);
}

static void a_million_levels_are_refused(void **state)
{
    (void)state;
    enum { N = 1000000 };
    options o;
    list_options l;
    char *text = malloc(N);
    for (int i = 0; i < 2; i++) {
        memset(text, i ? '[' : '{', N);
        assert_int_equal(parse_job(text, N, &o, &l), SIM_E_CONFIG);
    }
    free(text);
}

static void overrides_replace_values_and_are_numbered_in_messages(void **state)
{
    (void)state;
    char path[] = "/tmp/simile-test-XXXXXX";
    int fd = mkstemp(path);
    const char *text = "opt: {lr: 1, deep: {flag: false}}\naug: {list: [flip, flip]}\n";
    assert_true(write(fd, text, strlen(text)) > 0);
    (void)close(fd);
    char a[] = "opt.lr=2", b[] = "aug.list=[gray]", c[] = "opt.deep.flag=true",
         d[] = "opt.lr.x=1";
    char *good[] = {a, b, c}, *bad_overrides[] = {d};
    const int numbers[] = {3, 4, 6};
    sim_config *config = NULL;
    options o;
    list_options l;
    ASSERT_OK(sim_config_read(path, 3, good, numbers, &config));
    ASSERT_OK(sim_config_fill(config, &table, &o));
    ASSERT_OK(sim_config_fill(config, &list_table, &l));
    assert_true(o.lr == 2 && o.flag && l.list.n == 1 && l.list.op[0] == 1);
    sim_config_destroy(&config);
    ASSERT_REFUSED(sim_config_read(path, 1, bad_overrides, numbers, &config),
                   SIM_E_CONFIG, "argument 3");
    (void)unlink(path);
    ASSERT_REFUSED(sim_config_read(path, 0, NULL, NULL, &config), SIM_E_INPUT,
                   "No such file");
}

static void the_resolved_job_resolves_to_itself(void **state)
{
    (void)state;
    const char *text =
        "opt: {lr: 0.30000000000000004, name: \"it's: #text\"}\naug: {list: [flip]}\n";
    char *resolved = NULL, *resolved_again = NULL, *identity = NULL;
    options o;
    list_options l;
    for (int i = 0; i < 2; i++) {
        sim_config *c = NULL;
        const char *from = i ? resolved : text;
        ASSERT_OK(sim_config_parse(from, strlen(from), "job.yaml", &c));
        ASSERT_OK(sim_config_fill(c, &table, &o));
        ASSERT_OK(sim_config_fill(c, &list_table, &l));
        ASSERT_OK(sim_config_finish(c));
        ASSERT_OK(sim_config_resolved(c, i ? &resolved_again : &resolved));
        if (i)
            ASSERT_OK(sim_config_identity(c, &identity));
        sim_config_destroy(&c);
    }
    assert_string_equal(resolved, resolved_again);
    assert_true(o.lr == 0.30000000000000004);
    assert_string_equal(o.text, "it's: #text");
    assert_non_null(strstr(identity, "opt.lr: 0.30000000000000004\n"));
    assert_null(strstr(identity, "opt.name"));
    sim_free(resolved);
    sim_free(resolved_again);
    sim_free(identity);
}

static void mutated_jobs_are_accepted_or_refused(void **state)
{
    (void)state;
    const char *good = "opt: {lr: 1e-3, kind: lars, deep: {flag: true}, name: 'x'}\n"
                       "aug:\n  list: [flip, {op: gray, p: 0.25}]\n";
    char text[256];
    options o;
    list_options l;
    for (uint32_t seed = 0; seed < 10000; seed++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = seed};
        size_t n = strlen(good);
        memcpy(text, good, n);
        for (uint32_t k = 0; k <= sim_random_below(&r, 4); k++)
            text[sim_random_below(&r, (uint32_t)n)] = (char)sim_random_below(&r, 256);
        sim_status st = parse_job(text, n, &o, &l);
        if (st != SIM_OK && st != SIM_E_CONFIG)
            fail_msg("seed %u: %d %s", seed, (int)st, sim_error_message());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_defaults_are_stored_in_the_struct),
        cmocka_unit_test(bad_jobs_are_refused_with_location_and_reason),
        cmocka_unit_test(a_million_levels_are_refused),
        cmocka_unit_test(overrides_replace_values_and_are_numbered_in_messages),
        cmocka_unit_test(the_resolved_job_resolves_to_itself),
        cmocka_unit_test(mutated_jobs_are_accepted_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
