/*
 * compare_read.c - what is stored of the runs of a comparison: state, metrics, evaluations.
 *
 * Values are those of RUN/metrics.jsonl and RUN/results/.  A result counts if it has the data sets and
 * options of the run.
 */
#include "compare.h"
#include "run_info.h"

#include "simile/config.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RESULT_BYTES = 1 << 24, FAILURE_BYTES = 1 << 16, PATH_BYTES = 4800 };

/* ---- measures ---- */

static compare_measure *add_measure(comparison *c, const compare_measure *m)
{
    SIM_ASSERT(c->n_measures < COMPARE_MAX_MEASURES);
    c->measures[c->n_measures] = *m;
    return &c->measures[c->n_measures++];
}

static void add_metrics(comparison *c)
{
    static const compare_measure metrics[] = {
        {.field = "loss", .key = "loss", .title = "loss", .scale = 1, .decimals = 4},
        {.field = "accuracy",
         .key = "accuracy",
         .title = "training accuracy",
         .scale = 1,
         .decimals = 4},
        {.field = "embedding_std",
         .key = "embedding_std",
         .title = "embedding std",
         .scale = 1,
         .decimals = 4},
        {.field = "images_per_s",
         .key = "images_per_s",
         .title = "images/s",
         .scale = 1,
         .decimals = 1},
        {.field = "elapsed_s",
         .key = "elapsed_s",
         .title = "time, s",
         .scale = 1,
         .decimals = 1},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        add_measure(c, &metrics[i])->is_shown = true;
}

/* A field of the result of an evaluation. */
static void add_field(comparison *c, const sim_evaluation *e, const char *field,
                      compare_source source)
{
    const bool is_untrained = source == MEASURE_UNTRAINED;
    const bool is_fraction = strncmp(field, "top", 3) == 0;
    compare_measure m = {.source = source,
                         .evaluation = e,
                         .field = field,
                         .scale = is_fraction ? 100 : 1,
                         .decimals = is_fraction ? 2 : 4,
                         .is_shown = strcmp(field, "top5") != 0,
                         .is_accuracy = strcmp(field, "top1") == 0 && !is_untrained};
    const char *name = strcmp(e->name, "knn") == 0 ? "kNN" : e->name;
    const char *start = c->arguments->init ? "initial" : "untrained";
    const char *title = strcmp(field, "top1") == 0   ? "top-1 %"
                        : strcmp(field, "top5") == 0 ? "top-5 %"
                                                     : field;

    (void)snprintf(m.key, sizeof m.key, "%s%s%.20s_%.20s", is_untrained ? start : "",
                   is_untrained ? "_" : "", e->name, field);
    (void)snprintf(m.title, sizeof m.title, "%s%s%.20s %.20s", is_untrained ? start : "",
                   is_untrained ? " " : "", name, title);
    (void)add_measure(c, &m);
}

void sim_compare_list_measures(comparison *c)
{
    static const char *const of_classes[] = {"top1", "top5", NULL};
    static const char *const of_images[] = {"rankme", "uniformity", "alignment", NULL};

    for (size_t i = 0; i < c->n_evaluations; i++) {
        const sim_evaluation *e = c->evaluations[i];
        const char *const *fields =
            e->needs == SIM_EVALUATES_CLASSES ? of_classes : of_images;
        for (size_t k = 0; fields[k]; k++)
            add_field(c, e, fields[k], MEASURE_FINAL);
        for (size_t k = 0; fields[k]; k++)
            add_field(c, e, fields[k], MEASURE_UNTRAINED);
    }
    add_metrics(c);
}

/* ---- results of evaluations ---- */

static bool has_fingerprint(const sim_json *result, const char *set,
                            const char *fingerprint)
{
    sim_json *about = NULL;
    const char *stored = NULL;
    return sim_json_get_object(result, set, &about) &&
           sim_json_get_text(about, "fingerprint", &stored) &&
           strcmp(stored, fingerprint) == 0;
}

/* Whether the result has the options that the evaluation takes from the job. */
static bool has_options(const compare_run *r, const sim_evaluation *e,
                        const sim_json *result)
{
    sim_option_storage options;
    char wanted[SIM_OPTION_TEXT_BYTES];
    const char *stored = NULL;
    sim_json *of_result = NULL;

    if (!e->take_defaults)
        return true;
    if (!sim_json_get_object(result, "options", &of_result))
        return false;
    memset(&options, 0, sizeof options);
    e->take_defaults(&r->evaluate, &options);
    for (size_t i = 0; i < e->options.n_rows; i++) {
        const sim_option *row = &e->options.rows[i];
        sim_config_format_option(row, &options, wanted, sizeof wanted);
        if (!sim_json_get_text(of_result, row->name, &stored) ||
            strcmp(stored, wanted) != 0)
            return false;
    }
    return true;
}

static bool is_result_of(const comparison *c, const compare_run *r,
                         const sim_evaluation *e, int64_t step, const sim_json *j)
{
    const char *protocol = NULL, *features = NULL;
    const char *tested =
        *c->test.fingerprint ? c->test.fingerprint : c->train.fingerprint;
    int64_t of_step = -1;

    return sim_json_get_text(j, "protocol", &protocol) &&
           strcmp(protocol, e->name) == 0 && sim_json_get_int(j, "step", &of_step) &&
           of_step == step && sim_json_get_text(j, "features", &features) &&
           strcmp(features, e->classifier ? "classifier" : "backbone") == 0 &&
           has_fingerprint(j, "test", tested) &&
           (e->needs != SIM_EVALUATES_CLASSES ||
            has_fingerprint(j, "train", c->train.fingerprint)) &&
           has_options(r, e, j);
}

static sim_json *load_json(const char *path, size_t limit)
{
    char *text = NULL;
    sim_json *j = NULL;
    size_t n = 0;

    if (sim_path_is_file(path) && sim_file_load(path, limit, &text, &n) == SIM_OK)
        SIM_IGNORE(sim_json_parse(text, n, &j));
    sim_error_clear();
    sim_free(text);
    return j;
}

/* The stored result of an evaluation; NULL: there is none.  The caller destroys it. */
static sim_json *find_result(const comparison *c, const compare_run *r,
                             const sim_evaluation *e, int64_t step)
{
    char directory[PATH_BYTES], path[PATH_BYTES + 300], start[64];
    sim_names names = {0};
    sim_json *found = NULL;

    (void)snprintf(directory, sizeof directory, "%.4096s/results", r->path);
    (void)snprintf(start, sizeof start, "%.40s-step-%09lld", e->name, (long long)step);
    if (sim_path_is_directory(directory))
        SIM_IGNORE(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n && !found; i++) {
        if (strncmp(names.names[i], start, strlen(start)) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%.255s", directory, names.names[i]);
        found = load_json(path, RESULT_BYTES);
        if (found && !is_result_of(c, r, e, step, found))
            sim_json_destroy(&found);
    }
    sim_error_clear();
    sim_names_clear(&names);
    return found;
}

bool sim_compare_has_result(const comparison *c, const compare_run *r,
                            const sim_evaluation *e, int64_t step)
{
    sim_json *j = find_result(c, r, e, step);
    const bool has = j != NULL;
    sim_json_destroy(&j);
    return has;
}

static sim_json *find_untrained(const comparison *c, const compare_run *r,
                                const sim_evaluation *e)
{
    sim_json *j = NULL;

    for (size_t i = 0; i < c->n_runs && !j; i++)
        if (strcmp(c->runs[i].encoder, r->encoder) == 0)
            j = find_result(c, &c->runs[i], e, 0);
    return j;
}

bool sim_compare_has_untrained(const comparison *c, const compare_run *r,
                               const sim_evaluation *e)
{
    sim_json *j = find_untrained(c, r, e);
    const bool has = j != NULL;
    sim_json_destroy(&j);
    return has;
}

const compare_run *sim_compare_first_of_encoder(const comparison *c, const compare_run *r)
{
    const compare_run *first = c->runs;
    while (strcmp(first->encoder, r->encoder) != 0)
        first++;
    return first;
}

/* ---- runs ---- */

/* Copies the values of one source. */
static void take_values(const comparison *c, compare_run *r, compare_source source,
                        const sim_evaluation *e, const sim_json *j)
{
    for (size_t i = 0; j && i < c->n_measures; i++) {
        const compare_measure *m = &c->measures[i];
        if (m->source == source && m->evaluation == e)
            (void)sim_json_get_real(j, m->field, &r->values[i]);
    }
}

static void read_values(const comparison *c, compare_run *r)
{
    sim_json *j = r->is_trained ? sim_run_info_last_interval(r->path) : NULL;

    take_values(c, r, MEASURE_METRIC, NULL, j);
    sim_json_destroy(&j);
    for (size_t i = 0; i < c->n_evaluations; i++) {
        const sim_evaluation *e = c->evaluations[i];
        j = r->is_trained ? find_result(c, r, e, r->n_steps) : NULL;
        take_values(c, r, MEASURE_FINAL, e, j);
        sim_json_destroy(&j);
        j = find_untrained(c, r, e);
        take_values(c, r, MEASURE_UNTRAINED, e, j);
        sim_json_destroy(&j);
    }
}

static void read_failure(compare_run *r)
{
    char path[PATH_BYTES];
    const char *text = "";
    int64_t code = 0;

    (void)snprintf(path, sizeof path, "%.4096s/failure.json", r->path);
    sim_json *j = load_json(path, FAILURE_BYTES);
    r->failure = (compare_failure){0};
    if (j && sim_json_get_int(j, "exit", &code) && sim_json_get_text(j, "error", &text)) {
        r->failure.code = (int)code;
        (void)snprintf(r->failure.text, sizeof r->failure.text, "%s", text);
    }
    sim_json_destroy(&j);
}

void sim_compare_read(const comparison *c, compare_run *r)
{
    run_info info = {.state = RUN_UNKNOWN};

    for (size_t i = 0; i < c->n_measures; i++)
        r->values[i] = NAN;
    if (sim_run_info_is_run(r->path))
        sim_run_info_read(r->path, &info);
    r->is_elsewhere = info.state == RUN_RUNNING;
    r->is_trained = info.state == RUN_COMPLETED && info.step == r->n_steps;
    read_failure(r);
    read_values(c, r);
}

void sim_compare_read_all(comparison *c)
{
    for (size_t i = 0; i < c->n_runs; i++)
        sim_compare_read(c, &c->runs[i]);
}

/* ---- stored jobs ---- */

/* The identity in the newest checkpoint; NULL: there is none, or it cannot be read, which pretrain
 * will report. */
static char *load_identity(const char *run)
{
    char path[PATH_BYTES], *text = NULL;
    const int64_t step = sim_run_last_step(run);
    sim_h5 *file = NULL;

    (void)snprintf(path, sizeof path, "%.4096s/checkpoints/step-%09lld.h5", run,
                   (long long)step);
    if (step >= 0 && (sim_h5_open_read(path, &file) != SIM_OK ||
                      sim_h5_read_text(file, "/identity", &text) != SIM_OK))
        sim_log_warn("%s", sim_error_message());
    sim_error_clear();
    sim_h5_close(&file);
    return text;
}

static sim_status check_line(const compare_run *r, const char *key, size_t n_key,
                             const char *wanted, size_t n_wanted, const char *stored)
{
    sim_status st = SIM_OK;
    size_t n = 0;
    const char *value = sim_compare_line_value(stored, key, n_key, &n);

    SIM_CHECK(!value || (n == n_wanted && memcmp(value, wanted, n) == 0), SIM_E_CONFIG,
              "%s holds a run of another job: %.*s is %.*s there, and %.*s in this job; "
              "restore the old value, or use another --out directory",
              r->path, (int)n_key, key, (int)n, value, (int)n_wanted, wanted);
done:
    return st;
}

static sim_status check_data(const comparison *c, const compare_run *r,
                             const char *stored)
{
    static const char key[] = "fingerprint";
    sim_status st = SIM_OK;
    size_t n = 0;
    const char *value = sim_compare_line_value(stored, key, sizeof key - 1, &n);

    SIM_CHECK(!value || strncmp(value, c->train.fingerprint, n) == 0, SIM_E_DATA,
              "%s was trained on another data set (fingerprint %.8s) than %s (%.8s); "
              "restore the data set, or use another --out directory",
              r->path, value, c->train.path, c->train.fingerprint);
done:
    return st;
}

/* Keys that only one of both has are left to pretrain, which knows the rules for older runs. */
static sim_status check_stored_run(const comparison *c, const compare_run *r)
{
    sim_status st = SIM_OK;
    char *stored = load_identity(r->path);

    if (!stored)
        goto done;
    for (const char *p = r->identity; *p;) {
        const size_t n = strcspn(p, "\n"), n_key = strcspn(p, ":\n");
        if (n_key + 2 <= n)
            SIM_TRY(check_line(r, p, n_key, p + n_key + 2, n - n_key - 2, stored));
        p += n + (p[n] == '\n');
    }
    SIM_TRY(check_data(c, r, stored));
done:
    sim_free(stored);
    return st;
}

sim_status sim_compare_check_stored(const comparison *c)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < c->n_runs; i++)
        SIM_TRY(check_stored_run(c, &c->runs[i]));
done:
    return st;
}
