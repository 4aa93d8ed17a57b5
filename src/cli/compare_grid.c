/*
 * compare_grid.c - the runs of a comparison: job files x values of keys x seeds.
 *
 * A configuration is a run without its seed.
 */
#include "compare.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

/* ---- lines "key: value" ---- */

const char *sim_compare_line_value(const char *lines, const char *key, size_t n_key,
                                   size_t *n_value)
{
    for (const char *p = lines; *p;) {
        const size_t n = strcspn(p, "\n");
        if (n >= n_key + 2 && memcmp(p, key, n_key) == 0 &&
            memcmp(p + n_key, ": ", 2) == 0) {
            *n_value = n - n_key - 2;
            return p + n_key + 2;
        }
        p += n + (p[n] == '\n');
    }
    return NULL;
}

const char *sim_compare_value(const comparison *c, const compare_configuration *f,
                              size_t key)
{
    return c->arguments->keys[key].values[f->choice[key]];
}

/* ---- sources of jobs ---- */

static void add_override(sim_job_source *s, char *text, int number)
{
    SIM_ASSERT(s->n_overrides < SIM_MAX_OVERRIDES);
    s->numbers[s->n_overrides] = number;
    s->overrides[s->n_overrides++] = text;
}

/* The job file with KEY=VALUE of all runs, of which seed= is left out on request. */
static sim_job_source source_of_job(const comparison *c, size_t job, bool with_seed)
{
    const sim_job_source *given = &c->arguments->given;
    sim_job_source s = {.path = c->arguments->jobs[job]};

    for (size_t i = 0; i < given->n_overrides; i++)
        if (with_seed || strncmp(given->overrides[i], "seed=", 5) != 0)
            add_override(&s, given->overrides[i], given->numbers[i]);
    return s;
}

static sim_status add_key_words(const comparison *c, const compare_configuration *f,
                                compare_run *r)
{
    sim_status st = SIM_OK;

    for (size_t k = 0; k < c->arguments->n_keys; k++) {
        if ((int)k == c->seed_key)
            continue;
        SIM_TRY(sim_text_format("cli/compare", &r->words[r->n_words], "%s=%s",
                                c->arguments->keys[k].key, sim_compare_value(c, f, k)));
        r->n_words++;
    }
done:
    return st;
}

static int number_of_word(const comparison *c, const char *word)
{
    for (size_t k = 0; k < c->arguments->n_keys; k++) {
        const char *key = c->arguments->keys[k].key;
        const size_t n = strlen(key);
        if (strncmp(word, key, n) == 0 && word[n] == '=')
            return c->arguments->keys[k].number;
    }
    return 0;
}

static void add_words(const comparison *c, const compare_run *r, sim_job_source *s)
{
    for (size_t i = 0; i < r->n_words; i++)
        add_override(s, r->words[i], number_of_word(c, r->words[i]));
}

static void clear_words(compare_run *r)
{
    for (size_t i = 0; i < r->n_words; i++)
        sim_free(r->words[i]);
    r->n_words = 0;
}

/* ---- runs ---- */

/* What determines the features of the untrained encoder, and their evaluation. */
static sim_status describe_encoder(const compare_loader *l, char **out)
{
    static const char *const starts[] = {
        "encoder.", "augment.size:", "method.grid:", "seed:", "data.fraction"};
    static const char projector[] = "encoder.projector.";
    sim_status st = SIM_OK;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    for (const char *p = l->texts.identity; *p;) {
        const size_t n = strcspn(p, "\n");
        for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
            if (strncmp(p, starts[i], strlen(starts[i])) == 0 &&
                strncmp(p, projector, sizeof projector - 1) != 0)
                (void)fprintf(text.file, "%.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    (void)fprintf(text.file, "k: %lld\ntemperature: %.17g\nl2: %.17g\nimages: %lld\n",
                  (long long)l->evaluate.knn.k, l->evaluate.knn.temperature,
                  l->evaluate.linear.l2, (long long)l->evaluate.quality_images);
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}

static sim_status keep_job(const compare_loader *l, compare_run *r)
{
    sim_status st = SIM_OK;
    const sim_train_options *t = &l->job->train;

    r->n_steps = l->plan.total_steps;
    r->batch = t->batch;
    r->evaluate = l->evaluate;
    SIM_TRY(sim_text_copy(t->run, "cli/compare", &r->path));
    SIM_TRY(sim_text_copy(t->train_name, "cli/compare", &r->train));
    SIM_TRY(sim_text_copy(t->test, "cli/compare", &r->test));
    SIM_TRY(sim_text_copy(l->texts.identity, "cli/compare", &r->identity));
    SIM_TRY(describe_encoder(l, &r->encoder));
done:
    return st;
}

/* Fills a run of which configuration and seed are set. */
static sim_status create_run(compare_loader *l, compare_run *r)
{
    sim_status st = SIM_OK;
    comparison *c = l->comparison;
    const compare_configuration *f = &c->configurations[r->configuration];
    sim_job_source source = source_of_job(c, f->job, false);

    SIM_TRY(sim_compare_name_run(c, f, r));
    SIM_TRY(add_key_words(c, f, r));
    SIM_TRY(sim_text_format("cli/compare", &r->words[r->n_words], "seed=%lld",
                            (long long)r->seed));
    r->n_words++;
    SIM_TRY(sim_compare_run_word(c->arguments->out, r->name, &r->words[r->n_words]));
    r->n_words++;
    add_words(c, r, &source);
    SIM_TRY(sim_compare_load(l, &source));
    SIM_TRY(keep_job(l, r));
    c->total_steps += r->n_steps;
done:
    if (st != SIM_OK)
        sim_error_prefix("run %zu of %zu (%s): ", (size_t)(r - c->runs) + 1, c->n_runs,
                         r->name ? r->name : "?");
    return st;
}

/* Seed i of a configuration whose first seed is `first`. */
static sim_status seed_of(const comparison *c, int64_t first, size_t i, int64_t *out)
{
    sim_status st = SIM_OK;
    static const sim_option row = {.name = "seed",
                                   .type = SIM_OPTION_INT,
                                   .min = 0,
                                   .max = 4294967295.0,
                                   .unit = "",
                                   .help = ""};

    *out = first + (int64_t)i;
    if (c->seed_key >= 0)
        SIM_TRY(sim_config_option(&row, "--vary seed",
                                  c->arguments->keys[c->seed_key].values[i], out));
done:
    return st;
}

/* The identity of the last job, and the options of its evaluations. */
static sim_status describe_configuration(const compare_loader *l, char **out)
{
    sim_status st = SIM_OK;
    const sim_option_table *t = &sim_evaluate_table;
    char value[SIM_OPTION_TEXT_BYTES];
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    (void)fputs(l->texts.identity, text.file);
    for (size_t i = 0; i < t->n_rows; i++) {
        sim_config_format_option(&t->rows[i], &l->evaluate, value, sizeof value);
        (void)fprintf(text.file, "%s.%s: %s\n", t->section, t->rows[i].name, value);
    }
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}

static sim_status create_seeds(compare_loader *l, size_t configuration, int64_t first)
{
    sim_status st = SIM_OK;
    comparison *c = l->comparison;

    for (size_t i = 0; i < c->n_seeds; i++) {
        compare_run *r = &c->runs[configuration * c->n_seeds + i];
        r->configuration = configuration;
        SIM_TRY(seed_of(c, first, i, &r->seed));
        SIM_TRY(create_run(l, r));
    }
    SIM_TRY(describe_configuration(l, &c->configurations[configuration].identity));
done:
    return st;
}

/* ---- configurations ---- */

static sim_status refuse_equal(const comparison *c, size_t configuration)
{
    sim_status st = SIM_OK;
    const compare_configuration *f = c->configurations;

    for (size_t i = 0; i < configuration; i++)
        SIM_CHECK(strcmp(f[i].resolved, f[configuration].resolved) != 0, SIM_E_CONFIG,
                  "configurations %zu and %zu are the same job; list each value once",
                  i + 1, configuration + 1);
done:
    return st;
}

/* Loads the job of a configuration without its seeds, then creates its runs. */
static sim_status create_configuration(compare_loader *l, size_t i)
{
    sim_status st = SIM_OK;
    comparison *c = l->comparison;
    compare_configuration *f = &c->configurations[i];
    sim_job_source source = source_of_job(c, f->job, c->seed_key < 0);
    compare_run unnamed = {0};

    SIM_TRY(add_key_words(c, f, &unnamed));
    SIM_TRY(sim_compare_run_word(c->arguments->out, "", &unnamed.words[unnamed.n_words]));
    unnamed.n_words++;
    add_words(c, &unnamed, &source);
    st = sim_compare_load(l, &source);
    if (st != SIM_OK) {
        SIM_IGNORE(sim_compare_name_run(c, f, &unnamed));
        sim_error_prefix("run %zu of %zu (%s): ", i * c->n_seeds + 1, c->n_runs,
                         unnamed.name ? unnamed.name : "?");
    }
    SIM_TRY(st);
    if (!c->directory)
        SIM_TRY(sim_text_copy(l->job->train.run, "cli/compare", &c->directory));
    SIM_TRY(sim_text_copy(l->texts.resolved, "cli/compare", &f->resolved));
    SIM_TRY(refuse_equal(c, i));
    SIM_TRY(create_seeds(l, i, l->job->train.seed));
done:
    clear_words(&unnamed);
    sim_free(unnamed.name);
    return st;
}

/* Decodes number i of the product of job files and values; the last key varies fastest. */
static void choose_values(const comparison *c, size_t i, compare_configuration *f)
{
    for (size_t k = c->arguments->n_keys; k-- > 0;) {
        if ((int)k == c->seed_key)
            continue;
        f->choice[k] = i % c->arguments->keys[k].n;
        i /= c->arguments->keys[k].n;
    }
    f->job = i;
}

static sim_status allocate(comparison *c)
{
    sim_status st = SIM_OK;
    const compare_arguments *a = c->arguments;

    c->seed_key = -1;
    c->n_configurations = a->n_jobs;
    for (size_t k = 0; k < a->n_keys; k++) {
        if (strcmp(a->keys[k].key, "seed") == 0)
            c->seed_key = (int)k;
        else
            c->n_configurations *= a->keys[k].n;
        SIM_CHECK(c->n_configurations <= COMPARE_MAX_RUNS, SIM_E_USAGE,
                  "the values of --vary have more than %d combinations",
                  COMPARE_MAX_RUNS);
    }
    c->n_seeds = c->seed_key >= 0 ? a->keys[c->seed_key].n
                 : a->n_seeds > 0 ? (size_t)a->n_seeds
                                  : 1;
    c->n_runs = c->n_configurations * c->n_seeds;
    SIM_CHECK(c->n_runs <= COMPARE_MAX_RUNS, SIM_E_USAGE,
              "there are %zu runs, at most %d", c->n_runs, COMPARE_MAX_RUNS);
    SIM_TRY(sim_alloc(&c->configurations, c->n_configurations, "cli/compare"));
    SIM_TRY(sim_alloc(&c->runs, c->n_runs, "cli/compare"));
done:
    return st;
}

sim_status sim_compare_create(const compare_arguments *a, comparison *c)
{
    sim_status st = SIM_OK;
    compare_loader l = {0};

    c->arguments = a;
    SIM_TRY(allocate(c));
    SIM_TRY(sim_compare_name_jobs(c));
    SIM_TRY(sim_compare_loader_create(c, &l));
    for (size_t i = 0; i < c->n_configurations; i++) {
        choose_values(c, i, &c->configurations[i]);
        SIM_TRY(create_configuration(&l, i));
    }
    SIM_TRY(sim_compare_choose_evaluations(&l));
    sim_compare_list_measures(c);
done:
    sim_compare_loader_destroy(&l);
    return st;
}

static void destroy_run(compare_run *r)
{
    char *const texts[] = {r->name, r->path, r->identity, r->train, r->test, r->encoder};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        sim_free(texts[i]);
    clear_words(r);
}

void sim_compare_destroy(comparison *c)
{
    for (size_t i = 0; c->configurations && i < c->n_configurations; i++) {
        sim_free(c->configurations[i].identity);
        sim_free(c->configurations[i].resolved);
    }
    for (size_t i = 0; c->runs && i < c->n_runs; i++)
        destroy_run(&c->runs[i]);
    for (size_t i = 0; i < COMPARE_MAX_JOBS; i++)
        sim_free(c->stems[i]);
    sim_free(c->configurations);
    sim_free(c->runs);
    sim_free(c->train.path);
    sim_free(c->test.path);
    sim_free(c->directory);
}

/* ---- parts ---- */

bool sim_compare_is_mine(const comparison *c, const compare_run *r)
{
    return c->arguments->n_parts == 0 || r->part == c->arguments->part;
}

static double images_of(const compare_run *r)
{
    return (double)r->n_steps * (double)r->batch;
}

/* The run without a part that trains on most images; of equal ones the first. */
static compare_run *find_largest(comparison *c)
{
    compare_run *largest = NULL;

    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].part == 0 &&
            (!largest || images_of(&c->runs[i]) > images_of(largest)))
            largest = &c->runs[i];
    return largest;
}

sim_status sim_compare_divide(comparison *c, size_t n_parts)
{
    sim_status st = SIM_OK;
    double *images = NULL; /* of each part */

    if (n_parts == 0)
        goto done;
    SIM_TRY(sim_alloc(&images, n_parts, "cli/compare"));
    for (size_t i = 0; i < c->n_runs; i++) {
        compare_run *r = find_largest(c);
        size_t least = 0;
        for (size_t p = 1; p < n_parts; p++)
            least = images[p] < images[least] ? p : least;
        r->part = least + 1;
        images[least] += images_of(r);
    }
done:
    sim_free(images);
    return st;
}
