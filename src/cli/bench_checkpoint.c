/*
 * bench_checkpoint.c - `simile bench checkpoint`: time and memory of a save and a load, for an
 * encoder with optimizer and, optionally, a momentum encoder and a queue.
 *
 * In: sizes; the values are initial weights.  Out: one JSON object for all ranks.  Writes into a
 * temporary run directory below --dir and removes it, and those of benches that were killed.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/loss.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIR = 2, SOURCES = 4 };

typedef struct {
    const sim_bench_state *spec;
    sim_method method;
    sim_optimizer *optimizer;
    sim_queue *queue;
    sim_state_source sources[SOURCES];
    size_t n_sources;
    double *save_s, *load_s;
} bench;

/* ---- the state ---- */

static sim_status visit_method(void *object, const sim_visitor *v)
{
    bench *b = object;
    return b->method.row->visit(b->method.self, v);
}

static sim_status visit_optimizer(void *object, const sim_visitor *v)
{
    bench *b = object;
    return sim_optimizer_visit(b->optimizer, v);
}

static sim_status visit_queue(void *object, const sim_visitor *v)
{
    bench *b = object;
    return sim_queue_visit(b->queue, "queue", v);
}

/* Visits the weights a second time, under the names of a momentum encoder. */
static sim_status rename_group(void *ctx, const char *group, const sim_tensor *t)
{
    const sim_visitor *v = ctx;
    char name[160];
    if (strncmp(group, "weights/", 8) != 0)
        return SIM_OK;
    (void)snprintf(name, sizeof name, "momentum/%s", group + 8);
    return sim_visit(v, name, t);
}

static sim_status visit_copy(void *object, const sim_visitor *v)
{
    const sim_visitor renamed = {.visit = rename_group, .ctx = (void *)v};
    return visit_method(object, &renamed);
}

static void add_source(bench *b, sim_status (*visit)(void *, const sim_visitor *))
{
    b->sources[b->n_sources++] = (sim_state_source){visit, b};
}

static sim_status create_state(const sim_comm *c, const sim_job *job, bench *b)
{
    sim_status st = SIM_OK;
    sim_parameter *list = NULL;
    size_t n = 0;
    const sim_method_env env = {.comm = c,
                                .partition = sim_comm_partition(c),
                                .encoder = &job->encoder,
                                .batchnorm = &job->batchnorm,
                                .h = 32,
                                .w = 32,
                                .c = 3,
                                .batch = PAIR * (size_t)c->size,
                                .block = PAIR};
    const sim_queue_shape shape = {
        .k = b->spec->queue,
        .rows = {.n = env.batch, .unit = PAIR, .views = 1, .d = b->spec->dim}};

    SIM_TRY(sim_method_create(job->method, &env, &job->method_options, &b->method));
    SIM_TRY(sim_method_parameters(&b->method, &list, &n));
    SIM_TRY(sim_optimizer_create(&job->optimizer, list, n, &b->optimizer));
    add_source(b, visit_method);
    add_source(b, visit_optimizer);
    if (b->spec->momentum_copy)
        add_source(b, visit_copy);
    if (b->spec->queue > 0) {
        SIM_TRY(sim_queue_create(c, &shape, &b->queue));
        sim_queue_draw(b->queue, 0);
        add_source(b, visit_queue);
    }
    SIM_TRY(sim_alloc(&b->save_s, 2 * (size_t)b->spec->repeats, "cli/bench"));
    b->load_s = b->save_s + b->spec->repeats;
done:
    sim_free(list);
    return st;
}

static void destroy_state(bench *b)
{
    sim_queue_destroy(&b->queue);
    sim_optimizer_destroy(&b->optimizer);
    if (b->method.self)
        sim_method_destroy(&b->method);
    sim_free(b->save_s);
}

/* ---- the run directory ---- */

/* Removes a directory and the files in it. A directory with subdirectories remains. */
static void remove_directory(const char *path)
{
    sim_names names = {0};
    char file[4800];
    if (sim_directory_list(path, &names) != SIM_OK)
        return;
    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", path, names.names[i]);
        SIM_IGNORE(sim_file_remove(file));
    }
    sim_names_clear(&names);
    SIM_IGNORE(sim_directory_remove(path));
}

void sim_bench_remove_run(const char *path)
{
    static const char *const parts[] = {"checkpoints", "results"};
    char part[4400];

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        (void)snprintf(part, sizeof part, "%s/%s", path, parts[i]);
        if (!sim_path_is_link(part))
            remove_directory(part);
    }
    remove_directory(path);
}

/* Bytes of the files of the newest checkpoint, the only one in the directory. */
static sim_status bytes_written(const sim_run *run, int64_t *n_bytes)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char directory[4200], path[4500];
    int fd = -1;
    uint64_t n = 0;

    SIM_TRY(sim_run_path(run, "checkpoints", directory, sizeof directory));
    SIM_TRY(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        SIM_TRY(sim_file_open_read(path, &fd, &n));
        SIM_TRY(sim_file_close(&fd, path));
        *n_bytes += (int64_t)n;
    }
done:
    sim_names_clear(&names);
    return st;
}

/* ---- timing ---- */

static double max_elapsed_s(const sim_comm *c, double start)
{
    double elapsed_s = sim_clock_s() - start;
    sim_comm_max_f64(c, &elapsed_s, 1);
    return elapsed_s;
}

static sim_status time_save(const sim_comm *c, const sim_run *run, bench *b, int i)
{
    const sim_checkpoint_options options = {.keep = 1};
    const sim_checkpoint_head head = {.step = 1 + i,
                                      .config = "",
                                      .identity = "bench",
                                      .history = "[]",
                                      .fingerprint = "0"};
    sim_comm_barrier(c);
    double start = sim_clock_s();
    sim_status st =
        sim_checkpoint_write(c, run, &options, &head, b->sources, b->n_sources);
    b->save_s[i > 0 ? i - 1 : 0] = max_elapsed_s(c, start);
    return st;
}

static sim_status time_load(const sim_comm *c, const sim_run *run, bench *b, int i)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;

    sim_comm_barrier(c);
    double start = sim_clock_s();
    SIM_TRY(sim_checkpoint_newest(c, run->path, &k));
    SIM_TRY(sim_comm_agree(c, sim_checkpoint_load(k, b->sources, b->n_sources)));
    b->load_s[i > 0 ? i - 1 : 0] = max_elapsed_s(c, start);
done:
    sim_checkpoint_close(&k);
    return st;
}

/* Resets the peak of resident memory, if the kernel permits it, and returns the current one. */
static int64_t reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        (void)fputs("5", f);
        (void)fclose(f);
    }
    return (int64_t)sim_memory_process_peak();
}

/* Peak since the reset, on rank 0 and the maximum over ranks. */
static void add_peak(const sim_comm *c, sim_json *j, const char *of, int64_t before)
{
    char key[64];
    int64_t local = (int64_t)sim_memory_process_peak() - before, max = local;
    sim_comm_max_i64(c, &max, 1);
    (void)snprintf(key, sizeof key, "%s_extra_mb_rank0", of);
    sim_json_real(j, key, (double)local / 1e6);
    (void)snprintf(key, sizeof key, "%s_extra_mb_most", of);
    sim_json_real(j, key, (double)max / 1e6);
}

static void add_times(sim_json *j, const char *of, double *seconds, int n, double mb)
{
    char key[64];
    sim_bench_sort(seconds, (size_t)n);
    (void)snprintf(key, sizeof key, "%s_s", of);
    sim_json_real(j, key, seconds[0]);
    (void)snprintf(key, sizeof key, "%s_s_median", of);
    sim_json_real(j, key, seconds[n / 2]);
    (void)snprintf(key, sizeof key, "%s_mb_per_s", of);
    sim_json_real(j, key, mb / seconds[n / 2]);
}

static sim_status measure_save_and_load(const sim_comm *c, const sim_run *run, bench *b,
                                        sim_json *j)
{
    sim_status st = SIM_OK;
    const int n = b->spec->repeats;
    int64_t n_bytes = 0;
    const double default_interval_s = 15 * 60;

    /* One untimed save and load, after which all pages of the state are mapped. */
    SIM_TRY(time_save(c, run, b, 0));
    SIM_TRY(time_load(c, run, b, 0));
    int64_t before = reset_peak();
    sim_json_real(j, "resident_mb", (double)before / 1e6);
    for (int i = 1; i <= n; i++)
        SIM_TRY(time_save(c, run, b, i));
    add_peak(c, j, "save", before);
    before = reset_peak();
    for (int i = 1; i <= n; i++)
        SIM_TRY(time_load(c, run, b, i));
    add_peak(c, j, "load", before);
    SIM_TRY(sim_comm_agree(c, c->rank == 0 ? bytes_written(run, &n_bytes) : SIM_OK));
    sim_json_real(j, "mb", (double)n_bytes / 1e6);
    add_times(j, "save", b->save_s, n, (double)n_bytes / 1e6);
    add_times(j, "load", b->load_s, n, (double)n_bytes / 1e6);
    sim_json_real(j, "stall_percent", 100 * b->save_s[n / 2] / default_interval_s);
done:
    return st;
}

sim_status sim_bench_checkpoint(const sim_comm *c, const sim_job *job,
                                const sim_bench_state *spec)
{
    sim_status st = SIM_OK;
    bench b = {.spec = spec};
    sim_run run = {0};
    sim_json *j = NULL;
    char path[4096];

    SIM_TRY(sim_bench_temporary_path(c, spec->dir, path, sizeof path));
    SIM_TRY(sim_run_open(c, path, &run));
    SIM_TRY(sim_comm_agree(c, create_state(c, job, &b)));
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "bench", "checkpoint");
    sim_json_text(j, "arch", spec->arch);
    sim_json_text(j, "width", spec->width);
    sim_json_bool(j, "momentum_copy", spec->momentum_copy);
    sim_json_int(j, "queue", (int64_t)spec->queue);
    sim_json_int(j, "dim", (int64_t)spec->dim);
    sim_json_int(j, "ranks", c->size);
    SIM_TRY(measure_save_and_load(c, &run, &b, j));
    SIM_TRY(sim_bench_environment(c, j, NULL));
    SIM_TRY(sim_cli_print_json(c, j, false));
done:
    sim_json_destroy(&j);
    destroy_state(&b);
    const bool created = c->rank == 0 && run.locked && run.is_new;
    sim_run_close(c, &run);
    if (created)
        sim_bench_remove_run(path);
    return st;
}
