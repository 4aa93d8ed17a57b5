/*
 * bench_checkpoint.c - `simile bench checkpoint`: seconds of a save and a load, their share
 * of a run, and memory, for an encoder with optimizer, and at will a momentum copy and a
 * queue.
 *
 * In: sizes; the values are the first draw.  Out: JSON, global.  Writes into a run directory
 * of its own below --dir, which it removes.
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
    const sim_bench_state *ask;
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

/* The weights once more, under the names of a momentum copy. */
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
    const sim_visitor renamed = {.see = rename_group, .ctx = (void *)v};
    return visit_method(object, &renamed);
}

static void add_source(bench *b, sim_status (*visit)(void *, const sim_visitor *))
{
    b->sources[b->n_sources++] = (sim_state_source){visit, b};
}

static sim_status create(const sim_comm *c, const sim_job *job, bench *b)
{
    sim_status st = SIM_OK;
    sim_parameter *list = NULL;
    size_t n = 0;
    const sim_method_env env = {.comm = c,
                                .encoder = &job->encoder,
                                .batchnorm = &job->batchnorm,
                                .h = 32,
                                .w = 32,
                                .c = 3,
                                .batch = PAIR * (size_t)c->size,
                                .block = PAIR};
    const sim_queue_shape shape = {
        .k = b->ask->queue,
        .rows = {.n = env.batch, .unit = PAIR, .views = 1, .d = b->ask->dim}};

    SIM_TRY(sim_method_create(job->method, &env, &job->method_options, &b->method));
    SIM_TRY(sim_method_parameters(&b->method, &list, &n));
    SIM_TRY(sim_optimizer_create(&job->optimizer, list, n, &b->optimizer));
    add_source(b, visit_method);
    add_source(b, visit_optimizer);
    if (b->ask->momentum_copy)
        add_source(b, visit_copy);
    if (b->ask->queue > 0) {
        SIM_TRY(sim_queue_create(c, &shape, &b->queue));
        sim_queue_draw(b->queue, 0);
        add_source(b, visit_queue);
    }
    SIM_TRY(sim_alloc(&b->save_s, 2 * (size_t)b->ask->repeats, "cli/bench"));
    b->load_s = b->save_s + b->ask->repeats;
done:
    sim_free(list);
    return st;
}

static void destroy(bench *b)
{
    sim_queue_destroy(&b->queue);
    sim_optimizer_destroy(&b->optimizer);
    if (b->method.self)
        sim_method_destroy(&b->method);
    sim_free(b->save_s);
}

/* ---- its folder ---- */

/* Empties a folder of files and removes it; what is no file of ours makes it stay. */
static void remove_folder(const char *path)
{
    sim_names names = {0};
    char file[4300];
    if (sim_directory_list(path, &names) != SIM_OK)
        return;
    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", path, names.names[i]);
        SIM_IGNORE(sim_file_remove(file));
    }
    sim_names_clear(&names);
    SIM_IGNORE(sim_directory_remove(path));
}

static void clean(const sim_comm *c, const sim_run *run)
{
    static const char *const parts[] = {"checkpoints", "results"};
    char path[4200];
    if (c->rank != 0)
        return;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (sim_run_path(run, parts[i], path, sizeof path) == SIM_OK)
            remove_folder(path);
    remove_folder(run->path);
}

/* Bytes of the newest checkpoint's files, of which the folder holds one. */
static sim_status bytes_written(const sim_run *run, int64_t *n_bytes)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char folder[4200], path[4500];
    int fd = -1;
    uint64_t n = 0;

    SIM_TRY(sim_run_path(run, "checkpoints", folder, sizeof folder));
    SIM_TRY(sim_directory_list(folder, &names));
    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names.names[i]);
        SIM_TRY(sim_file_open_read(path, &fd, &n));
        SIM_TRY(sim_file_close(&fd, path));
        *n_bytes += (int64_t)n;
    }
done:
    sim_names_clear(&names);
    return st;
}

/* ---- timing ---- */

static double since(const sim_comm *c, double start)
{
    double took = sim_clock_s() - start;
    sim_comm_max_f64(c, &took, 1);
    return took;
}

static sim_status save(const sim_comm *c, const sim_run *run, bench *b, int i)
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
    b->save_s[i > 0 ? i - 1 : 0] = since(c, start);
    return st;
}

static sim_status load(const sim_comm *c, const sim_run *run, bench *b, int i)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;

    sim_comm_barrier(c);
    double start = sim_clock_s();
    SIM_TRY(sim_checkpoint_newest(c, run->path, &k));
    SIM_TRY(sim_comm_agree(c, sim_checkpoint_load(k, b->sources, b->n_sources)));
    b->load_s[i > 0 ? i - 1 : 0] = since(c, start);
done:
    sim_checkpoint_close(&k);
    return st;
}

/* Resident bytes now; from here on the process's peak starts anew, where Linux lets us. */
static int64_t mark_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        (void)fputs("5", f);
        (void)fclose(f);
    }
    return (int64_t)sim_memory_process_peak();
}

/* The peak since the mark on rank 0, and on the rank where it is largest. */
static void tell_peak(const sim_comm *c, sim_json *j, const char *of, int64_t before)
{
    char key[64];
    int64_t mine = (int64_t)sim_memory_process_peak() - before, most = mine;
    sim_comm_max_i64(c, &most, 1);
    (void)snprintf(key, sizeof key, "%s_extra_mb_rank0", of);
    sim_json_real(j, key, (double)mine / 1e6);
    (void)snprintf(key, sizeof key, "%s_extra_mb_most", of);
    sim_json_real(j, key, (double)most / 1e6);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell_times(sim_json *j, const char *of, double *seconds, int n, double mb)
{
    char key[64];
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    (void)snprintf(key, sizeof key, "%s_s", of);
    sim_json_real(j, key, seconds[0]);
    (void)snprintf(key, sizeof key, "%s_s_median", of);
    sim_json_real(j, key, seconds[n / 2]);
    (void)snprintf(key, sizeof key, "%s_mb_per_s", of);
    sim_json_real(j, key, mb / seconds[n / 2]);
}

static sim_status measure(const sim_comm *c, const sim_run *run, bench *b, sim_json *j)
{
    sim_status st = SIM_OK;
    const int n = b->ask->repeats;
    int64_t n_bytes = 0;
    const double default_interval_s = 15 * 60;

    /* Once untimed: the state's pages are then all there. */
    SIM_TRY(save(c, run, b, 0));
    SIM_TRY(load(c, run, b, 0));
    int64_t before = mark_peak();
    sim_json_real(j, "resident_mb", (double)before / 1e6);
    for (int i = 1; i <= n; i++)
        SIM_TRY(save(c, run, b, i));
    tell_peak(c, j, "save", before);
    before = mark_peak();
    for (int i = 1; i <= n; i++)
        SIM_TRY(load(c, run, b, i));
    tell_peak(c, j, "load", before);
    SIM_TRY(sim_comm_agree(c, c->rank == 0 ? bytes_written(run, &n_bytes) : SIM_OK));
    sim_json_real(j, "mb", (double)n_bytes / 1e6);
    tell_times(j, "save", b->save_s, n, (double)n_bytes / 1e6);
    tell_times(j, "load", b->load_s, n, (double)n_bytes / 1e6);
    sim_json_real(j, "stall_percent", 100 * b->save_s[n / 2] / default_interval_s);
done:
    return st;
}

sim_status sim_bench_checkpoint(const sim_comm *c, const sim_job *job,
                                const sim_bench_state *ask)
{
    sim_status st = SIM_OK;
    bench b = {.ask = ask};
    sim_run run = {0};
    sim_json *j = NULL;
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/simile-bench.%ld", ask->dir, sim_process_id());
    sim_comm_broadcast(c, 0, path, sizeof path);
    SIM_TRY(sim_run_open(c, path, &run));
    SIM_TRY(sim_comm_agree(c, create(c, job, &b)));
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "bench", "checkpoint");
    sim_json_text(j, "arch", ask->arch);
    sim_json_text(j, "width", ask->width);
    sim_json_bool(j, "momentum_copy", ask->momentum_copy);
    sim_json_int(j, "queue", (int64_t)ask->queue);
    sim_json_int(j, "dim", (int64_t)ask->dim);
    sim_json_int(j, "ranks", c->size);
    SIM_TRY(measure(c, &run, &b, j));
    SIM_TRY(sim_cli_print_json(c, j, false));
done:
    sim_json_destroy(&j);
    destroy(&b);
    const bool made = run.locked;
    sim_run_close(c, &run);
    if (made)
        clean(c, &run);
    return st;
}
