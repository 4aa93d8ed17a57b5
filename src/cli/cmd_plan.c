/*
 * cmd_plan.c - `simile plan JOB.yaml`: a dry run.
 *
 * Checks the job against its data and a number of ranks, prints memory by item, blocks and
 * time, draws views, and writes a Slurm script.  Reports the errors that pretrain would.
 */
#include "cli.h"
#include "plan_memory.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/report.h"
#include "simile/thread.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    sim_job_source source;
    size_t ranks, nodes;
    int threads;
    double memory, time_s;
    const char *preview, *sbatch, *value;
    bool keys, force;
} arguments;

enum {
    KEY_RANKS = 256,
    KEY_NODES,
    KEY_THREADS,
    KEY_MEMORY,
    KEY_TIME,
    KEY_PREVIEW,
    KEY_SBATCH,
    KEY_VALUE,
    KEY_KEYS,
    KEY_FORCE
};

static const struct argp_option options[] = {
    {"ranks", KEY_RANKS, "P", 0, "number of ranks (default 1)", 0},
    {"nodes", KEY_NODES, "N", 0, "for --sbatch: number of nodes (default 1)", 0},
    {"threads", KEY_THREADS, "T", 0, "threads per rank, for the time estimate", 0},
    {"memory", KEY_MEMORY, "64G", 0, "fail if the plan exceeds this memory per rank", 0},
    {"time", KEY_TIME, "12:00:00", 0,
     "number of segments of this length; also the maximum time of --sbatch: a duration "
     "(12h), or as in Slurm (720 minutes, 12:00:00, 0-12)",
     0},
    {"preview", KEY_PREVIEW, "FILE.png", 0, "draw 8 images with their augmented views",
     0},
    {"sbatch", KEY_SBATCH, "FILE.sbatch", 0,
     "write a Slurm script with nodes, ranks, threads, memory, time and signal lead "
     "time; submit it with sbatch FILE.sbatch",
     0},
    {"value", KEY_VALUE, "KEY", 0,
     "print the value of a key, such as run or data.train, and exit; a list has one item "
     "per line",
     0},
    {"keys", KEY_KEYS, NULL, 0, "list all keys of a job and exit", 0},
    {"force", KEY_FORCE, NULL, 0,
     "replace the files of --preview and --sbatch if they exist", 0},
    {0}};

static size_t parse_plan_count(const struct argp_state *state, const char *name,
                               const char *arg)
{
    char *end = NULL;
    long n = strtol(arg, &end, 10);
    if (end == arg || *end || n < 1 || n > 1 << 20)
        argp_error(state, "%s requires a number >= 1, not \"%s\"", name, arg);
    return (size_t)n;
}

static error_t parse_plan_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_RANKS:
        a->ranks = parse_plan_count(state, "--ranks", arg);
        return 0;
    case KEY_NODES:
        a->nodes = parse_plan_count(state, "--nodes", arg);
        return 0;
    case KEY_THREADS:
        a->threads = (int)parse_plan_count(state, "--threads", arg);
        return 0;
    case KEY_MEMORY:
        if (!sim_cli_bytes(arg, &a->memory))
            argp_error(state, "--memory requires a size such as 64G, not \"%s\"", arg);
        return 0;
    case KEY_TIME:
        if (!sim_clock_limit(arg, &a->time_s) || a->time_s <= 0)
            argp_error(
                state,
                "--time requires a time such as 12:00:00, 90 (minutes, as in Slurm) "
                "or 12h, not \"%s\"",
                arg);
        return 0;
    case KEY_PREVIEW:
        a->preview = arg;
        return 0;
    case KEY_SBATCH:
        a->sbatch = arg;
        return 0;
    case KEY_VALUE:
        a->value = arg;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case KEY_KEYS:
        a->keys = true;
        return 0;
    case ARGP_KEY_ARG:
        if (!sim_cli_job_argument(&a->source, arg, state))
            argp_error(state, "\"%s\" is not key=value", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->source.path && !a->keys)
            argp_error(state, "a job file is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static sim_status print_table(const sim_option_table *table)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    SIM_TRY(sim_config_help(table, &text));
    SIM_TRY(sim_cli_print(NULL, text));
done:
    sim_free(text);
    return st;
}

/* Defaults that a method sets for keys of other modules. */
static sim_status print_defaults(const sim_method_row *row)
{
    sim_status st = SIM_OK;
    char line[256];
    for (size_t i = 0; i < row->n_defaults; i++) {
        (void)snprintf(line, sizeof line, "  %s defaults to [%s]\n", row->defaults[i].key,
                       row->defaults[i].value);
        SIM_TRY(sim_cli_print(NULL, line));
    }
done:
    return st;
}

static sim_status print_keys(void)
{
    sim_status st = SIM_OK;
    const sim_option_table *const tables[] = {&sim_train_table,     &sim_encoder_table,
                                              &sim_batchnorm_table, &sim_optimizer_table,
                                              &sim_schedule_table,  &sim_augment_table,
                                              &sim_evaluate_table};

    SIM_TRY(sim_cli_print(NULL, "Keys of a job: type [default] unit: meaning\n"));
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        SIM_TRY(print_table(tables[i]));
    for (size_t i = 0; i < sim_methods_count(); i++) {
        char head[128];
        (void)snprintf(head, sizeof head, "with method.name: %s (%s)\n",
                       sim_methods_at(i)->name, sim_methods_at(i)->paper);
        SIM_TRY(sim_cli_print(NULL, head));
        SIM_TRY(print_table(sim_methods_at(i)->table));
        SIM_TRY(print_defaults(sim_methods_at(i)));
    }
done:
    return st;
}

/* The items of a list, one per line; NULL if the key is not one. */
static const char *peek_list(const sim_config *c, const char *key, char *out,
                             size_t out_bytes)
{
    char item[256];
    size_t used = 0;

    for (size_t i = 0; used < out_bytes; i++) {
        (void)snprintf(item, sizeof item, "%s.%zu", key, i);
        const char *text = sim_config_peek(c, item);
        if (!text)
            break;
        used +=
            (size_t)snprintf(out + used, out_bytes - used, "%s%s", i ? "\n" : "", text);
    }
    return used ? out : NULL;
}

static sim_status print_value(const arguments *a)
{
    sim_status st = SIM_OK;
    char list[SIM_OPTION_MAX_TEXTS * SIM_OPTION_TEXT_BYTES];
    sim_job *job = NULL;
    sim_evaluate_options evaluate;
    sim_job_texts texts = {0};
    sim_config *c = NULL;

    SIM_TRY(sim_new(&job, "cli/job"));
    SIM_TRY(sim_cli_job_load(&a->source, job, &evaluate, &texts));
    SIM_TRY(sim_config_parse(texts.resolved, strlen(texts.resolved), a->source.path, &c));
    const char *text = sim_config_peek(c, a->value);
    if (!text)
        text = peek_list(c, a->value, list, sizeof list);
    SIM_CHECK(text, SIM_E_CONFIG,
              "%s: the job has no key \"%s\"; `simile plan --keys` lists the keys",
              a->source.path, a->value);
    SIM_TRY(sim_cli_print_exact(text));
    SIM_TRY(sim_cli_print(NULL, "\n"));
done:
    sim_config_destroy(&c);
    sim_job_texts_clear(&texts);
    sim_free(job);
    return st;
}

/* ---- the plan ---- */

/* Files that the command reads; the script counts as one for the preview. */
enum {
    INPUT_JOB,
    INPUT_TEST,
    INPUT_CLASSES,
    INPUT_TRAIN,
    INPUT_SCRIPT = INPUT_TRAIN + SIM_OPTION_MAX_TEXTS,
    N_INPUTS
};

typedef struct {
    const arguments *args;
    sim_job *job;
    sim_evaluate_options evaluate;
    sim_dataset *data;
    sim_online_eval *online; /* NULL: no evaluations during training */
    sim_schedule_plan plan;
    plan_memory fullest;    /* of the rank that needs most; set by print_memory */
    double step_s, total_s; /* set by print_time */
    const char *inputs[N_INPUTS];
    sim_output preview, sbatch;
    char target[PATH_MAX]; /* of the preview */
} dry_run;

/* Both outputs replace none of the files that the job reads, and not each other. */
static void list_outputs(dry_run *d)
{
    const arguments *a = d->args;
    const sim_output out = {
        .force = a->force, .inputs = d->inputs, .n_inputs = N_INPUTS - 1};

    d->inputs[INPUT_JOB] = a->source.path;
    for (size_t k = 0; k < d->job->train.train.n; k++)
        d->inputs[INPUT_TRAIN + k] = d->job->train.train.text[k];
    d->inputs[INPUT_CLASSES] = d->job->train.classes;
    d->inputs[INPUT_TEST] = d->job->train.test;
    d->inputs[INPUT_SCRIPT] = a->sbatch;
    d->sbatch = d->preview = out;
    d->sbatch.path = a->sbatch;
    d->sbatch.option = "--sbatch";
    d->sbatch.kind = "this script";
    d->preview.path = a->preview;
    d->preview.option = "--preview";
    d->preview.kind = "to be replaced by a picture";
    d->preview.n_inputs = N_INPUTS;
}

/* Of an existing script it is known at the end only whether it is the same. */
static sim_status check_outputs(dry_run *d)
{
    sim_status st = SIM_OK;
    sim_output script = d->sbatch;
    char target[PATH_MAX];

    script.is_own = true;
    if (script.path)
        SIM_TRY(sim_output_check(&script, target));
    if (d->preview.path)
        SIM_TRY(sim_output_check(&d->preview, d->target));
done:
    return st;
}

static sim_status print_line(const char *fmt, ...) SIM_PRINTF(1, 2);
static sim_status print_line(const char *fmt, ...)
{
    char text[2 * PATH_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return sim_cli_print_line(text);
}

/* Micro-batches of the largest share; 1 if all its blocks pass together. */
static size_t count_micro_batches(const dry_run *d)
{
    const sim_partition first = {.size = d->args->ranks};
    const sim_method_env env = sim_job_env(d->job, &d->plan, first);
    size_t share = (d->plan.n_blocks + d->args->ranks - 1) / d->args->ranks;
    size_t blocks = sim_method_micro_blocks(&env);
    return blocks ? (share + blocks - 1) / blocks : 1;
}

static sim_status print_micro_batches(const dry_run *d)
{
    sim_status st = SIM_OK;
    size_t n = count_micro_batches(d);
    if (n > 1)
        SIM_TRY(
            print_line("passes    in micro-batches of %lld images per rank, up to %zu\n",
                       (long long)d->job->train.micro_batch, n));
done:
    return st;
}

static sim_status print_data(const dry_run *d)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(d->data);
    char *lines = NULL, per_epoch[48] = "";

    if (about->mixture.weighted)
        (void)snprintf(per_epoch, sizeof per_epoch, ", %zu per epoch", d->plan.n_images);
    SIM_TRY(print_line("data      %zu images%s, fingerprint %s\n", about->n_images,
                       per_epoch, about->fingerprint));
    SIM_TRY(sim_dataset_explain(d->data, &lines));
    for (const char *at = lines; *at; at += strcspn(at, "\n") + 1)
        SIM_TRY(print_line("          %.*s\n", (int)strcspn(at, "\n"), at));
done:
    sim_free(lines);
    return st;
}

/* Of any data set that has groups, whether or not the job uses them. */
static sim_status print_groups(const dry_run *d)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    if (!sim_dataset_about(d->data)->has_groups)
        goto done;
    SIM_TRY(sim_job_describe_groups(d->data, &text));
    SIM_TRY(print_line("groups    %s%s\n", text,
                       sim_job_uses_groups(d->job) ? "" : "; not used by this job"));
done:
    sim_free(text);
    return st;
}

static sim_status print_shape(const dry_run *d)
{
    sim_status st = SIM_OK;
    size_t p = d->args->ranks, n = d->plan.n_blocks;

    SIM_TRY(print_data(d));
    SIM_TRY(print_groups(d));
    SIM_TRY(print_line("batch     %lld images = %zu blocks of %lld; %zu rank%s, ",
                       (long long)d->job->train.batch, n, (long long)d->job->train.block,
                       p, p == 1 ? "" : "s"));
    SIM_TRY(n % p ? print_line("of %zu or %zu blocks\n", n / p, n / p + 1)
                  : print_line("of %zu block%s\n", n / p, n / p == 1 ? "" : "s"));
    SIM_TRY(print_micro_batches(d));
    SIM_TRY(print_line("views     %zu per image, %zu x %zu x %zu%s\n", d->plan.views,
                       d->plan.h, d->plan.w, d->plan.c,
                       d->job->train.views_from == SIM_VIEWS_FROM_GROUP
                           ? "; all but the first show other images of the group"
                           : ""));
    if (d->plan.small.n > 0)
        SIM_TRY(print_line("small     %zu views per image, %zu x %zu x %zu\n",
                           d->plan.small.n, d->plan.small.h, d->plan.small.w, d->plan.c));
    SIM_TRY(print_line("steps     %lld, %zu per epoch, %zu images dropped per epoch\n",
                       (long long)d->plan.total_steps, d->plan.steps_per_epoch,
                       d->plan.left_over));
done:
    return st;
}

/* The borrowed parts of a dry run that determine its memory. */
static plan_input memory_input(const dry_run *d)
{
    return (plan_input){.job = d->job,
                        .about = sim_dataset_about(d->data),
                        .online = d->online,
                        .plan = &d->plan,
                        .ranks = d->args->ranks};
}

static sim_status print_bytes(const char *item, size_t bytes, const char *when)
{
    return print_line("  %-20s %8.1f MB%s\n", item, (double)bytes / 1e6, when);
}

/* The error of a plan that exceeds --memory, with a micro_batch that does not. */
static sim_status refuse_memory(const dry_run *d)
{
    sim_status st = SIM_OK;
    const plan_input in = memory_input(d);
    plan_proposal found;
    char text[256] = "";

    SIM_TRY(sim_cli_plan_micro_batch(&in, d->args->memory, &found));
    if (found.micro_batch && d->job->batchnorm.group == 0)
        (void)snprintf(text, sizeof text,
                       "batchnorm.group=%lld micro_batch=%lld needs %.2f GB (another "
                       "result, and about a third more time); or ",
                       (long long)found.group, (long long)found.micro_batch,
                       (double)found.peak / 1e9);
    else if (found.micro_batch)
        (void)snprintf(text, sizeof text,
                       "micro_batch=%lld needs %.2f GB (the same result, and about a "
                       "third more time); or ",
                       (long long)found.micro_batch, (double)found.peak / 1e9);
    SIM_CHECK(false, SIM_E_CONFIG,
              "the plan needs %.2f GB per rank, more than --memory %.2f GB; %suse more "
              "ranks, a smaller batch, or a narrower encoder",
              (double)d->fullest.peak / 1e9, d->args->memory / 1e9, text);
done:
    return st;
}

static sim_status print_memory(dry_run *d)
{
    sim_status st = SIM_OK;
    plan_memory *m = &d->fullest;
    const plan_input in = memory_input(d);

    SIM_TRY(sim_cli_plan_fullest(&in, m));
    SIM_TRY(print_line("memory of the rank that needs most\n"));
    for (size_t i = 0; i < m->n; i++)
        if (m->rows[i].bytes)
            SIM_TRY(print_bytes(m->rows[i].item, m->rows[i].bytes, ""));
    if (d->online)
        SIM_TRY(print_bytes("test set", m->evaluation, ""));
    SIM_TRY(print_bytes("checkpoint", m->checkpoint, ", transient"));
    if (d->online)
        SIM_TRY(print_bytes("evaluations", m->evaluation_transient, ", transient"));
    SIM_TRY(print_bytes("program and MPI", PROGRAM_BYTES, ", about"));
    SIM_TRY(print_bytes("at most", m->peak, ""));
    if (d->args->memory > 0 && (double)m->peak > d->args->memory)
        SIM_TRY(refuse_memory(d));
done:
    return st;
}

/* Times two steps of one block on one rank, and scales by blocks and threads. */
static sim_status print_time(dry_run *d)
{
    sim_status st = SIM_OK;
    const sim_comm alone = {.rank = 0, .size = 1};
    sim_job one = *d->job;
    sim_step_speed speed;
    char text[64];
    size_t blocks = (d->plan.n_blocks + d->args->ranks - 1) / d->args->ranks;
    double micro_batches = (double)count_micro_batches(d);

    one.train.batch = one.train.block > 1 ? one.train.block : 2;
    one.train.block = one.train.batch;
    one.batchnorm.group = 0;
    SIM_TRY(sim_train_measure(&alone, &one, d->plan.h, d->plan.w, d->plan.c,
                              &d->plan.small, 2, &speed));
    /* All micro-batches but one pass forward twice. */
    double again = speed.parts.forward * (micro_batches - 1) / micro_batches;
    double step = (speed.best_s + again) * (double)blocks;
    double total = step * (double)d->plan.total_steps;
    d->step_s = step;
    d->total_s = total;
    sim_clock_span(total, text, sizeof text);
    SIM_TRY(print_line(
        "time      about %.2f s per step, %.0f images/s, %s in total (measured: one "
        "block on %d thread%s took %.2f s)\n",
        step, (double)d->job->train.batch / step, text, sim_threads(),
        sim_threads() == 1 ? "" : "s", speed.best_s));
    sim_clock_span(d->args->time_s, text, sizeof text);
    if (d->args->time_s > 0)
        SIM_TRY(print_line(
            "segments  %.0f of %s (--time)\n",
            total <= d->args->time_s ? 1.0 : (double)(long)(total / d->args->time_s) + 1,
            text));
done:
    return st;
}

static sim_status write_preview(const dry_run *d)
{
    sim_status st = SIM_OK;
    uint8_t *png = NULL;
    sim_picture picture;

    SIM_TRY(sim_cli_draw_views(d->job, d->data, &png, &picture));
    const sim_piece piece = {png, picture.n_bytes};
    SIM_TRY(sim_file_replace(d->target, &piece, 1));
    SIM_TRY(print_line(
        "views     drawn in %s: one row per image: the original, then two views "
        "in two epochs%s\n",
        d->args->preview,
        d->job->augment.small_views > 0 ? ", and small views of the first" : ""));
done:
    sim_free(png);
    return st;
}

/* ---- a script for Slurm ---- */

static sim_status check_nodes(const arguments *a)
{
    sim_status st = SIM_OK;
    size_t below = a->ranks / a->nodes * a->nodes;
    SIM_CHECK(below == a->ranks, SIM_E_CONFIG,
              "--ranks %zu is not a multiple of --nodes %zu; nearest: --ranks %zu",
              a->ranks, a->nodes, below ? below : a->nodes);
done:
    return st;
}

static sim_status write_sbatch(const dry_run *d)
{
    sim_status st = SIM_OK;
    const arguments *a = d->args;
    const sim_cli_sbatch script = {.out = d->sbatch,
                                   .source = &a->source,
                                   .run = d->job->train.run,
                                   .method = d->job->method->name,
                                   .nodes = a->nodes,
                                   .ranks = a->ranks,
                                   .threads = (size_t)sim_threads(),
                                   .rank_bytes = d->fullest.peak,
                                   .checkpoint_bytes = d->fullest.checkpoint,
                                   .step_s = d->step_s,
                                   .total_s = d->total_s,
                                   .limit_s = a->time_s};

    SIM_TRY(sim_cli_sbatch_write(&script));
    SIM_TRY(print_line("script    in %s; type: sbatch %s\n", a->sbatch, a->sbatch));
done:
    return st;
}

static sim_status plan_job(const arguments *a)
{
    sim_status st = SIM_OK;
    dry_run d = {.args = a};

    SIM_TRY(check_nodes(a));
    SIM_TRY(sim_new(&d.job, "cli/job"));
    SIM_TRY(sim_cli_job_load(&a->source, d.job, &d.evaluate, NULL));
    list_outputs(&d);
    SIM_TRY(check_outputs(&d));
    SIM_TRY(sim_kernels_pick(d.job->train.kernels));
    sim_threads_set(a->threads ? a->threads : (int)d.job->train.threads);
    SIM_TRY(sim_online_eval_create(d.job, &d.evaluate, &d.online));
    SIM_TRY(sim_job_open_train(d.job, &d.data));
    SIM_TRY(sim_job_check(d.job, sim_dataset_about(d.data), a->ranks, &d.plan));
    sim_job_advise(d.job, d.data, &d.plan);
    SIM_TRY(print_shape(&d));
    SIM_TRY(print_memory(&d));
    SIM_TRY(print_time(&d));
    if (a->preview)
        SIM_TRY(write_preview(&d));
    if (a->sbatch)
        SIM_TRY(write_sbatch(&d));
done:
    sim_dataset_close(&d.data);
    sim_online_eval_destroy(&d.online);
    sim_free(d.job);
    return st;
}

sim_status sim_command_plan(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_plan_option,
        .args_doc = "JOB.yaml [key=value ...]",
        .doc =
            "Checks the job against its data and a number of ranks, and prints memory by "
            "item, blocks per rank and a time estimate.\v"
            "Examples:\n"
            "  simile plan job.yaml --ranks 4 --memory 64G --preview views.png\n"
            "  simile plan job.yaml --nodes 2 --ranks 4 --threads 16 --time 24:00:00 "
            "--sbatch job.sbatch"};
    arguments a = {.ranks = 1, .nodes = 1};

    sim_cli_parse(&argp, argc, argv, &a);
    sim_status st = a.keys ? print_keys() : a.value ? print_value(&a) : plan_job(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
    return st;
}
