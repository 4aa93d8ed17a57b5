/*
 * bench_scaling.c - `simile bench scaling`: strong and weak scaling, measured on the ranks of this job
 * and predicted for up to 1,024 nodes.
 *
 * In: a job and its batch.  Out: one JSON object.  The first 1, 2, 4, ... ranks measure steps in turn,
 * while the others wait.  The model is in bench_scaling_model.c; every measured point is printed
 * beside its prediction.
 */
#include "bench_scaling.h"
#include "cli.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>

/* MAX_POINTS: two for each power of two of ranks. */
enum { MAX_NODES = 1024, MAX_POINTS = 64, CHANNELS = 3, MAX_BLOCK = 32 };
enum { ADD_CHUNK = 1 << 14, ADD_REPEATS = 5 };
enum { SMALL_TRIPS = 100, LARGE_TRIPS = 2, TRIP_REPEATS = 10, LARGE_BYTES = 16 << 20 };

static const double default_latency_us = 2, default_gbits = 100;
static const double us_per_s = 1e6, gbits_per_byte = 8e-9;

typedef enum { WEAK, STRONG } scaling;

typedef struct {
    scaling kind;
    size_t ranks;
    sim_step_speed speed;
} point;

typedef struct {
    const sim_comm *comm;
    sim_job *job;
    const sim_bench_scaling_spec *spec;
    size_t block;
    point points[MAX_POINTS];
    size_t n_points;
    double addition_s;
    sim_scaling_network
        here; /* between the ranks of this job; infinitely fast if there is one */
} bench;

/* ---- steps ---- */

static size_t largest_power_of_two(size_t n)
{
    size_t power = 1;
    while (power <= n / 2)
        power *= 2;
    return power;
}

/* The largest divisor of `images` up to MAX_BLOCK. */
static size_t choose_block(size_t images)
{
    size_t block = images < MAX_BLOCK ? images : MAX_BLOCK;
    while (images % block != 0)
        block--;
    return block;
}

/* Strong scaling divides the batch of one rank, in whole blocks, over all ranks. */
static sim_status check_batch(bench *b)
{
    sim_status st = SIM_OK;
    const size_t ranks = largest_power_of_two((size_t)b->comm->size);

    SIM_CHECK(b->spec->batch % ranks == 0, SIM_E_USAGE,
              "--batch: %zu is not a multiple of %zu, the ranks of strong scaling",
              b->spec->batch, ranks);
    b->block = choose_block(b->spec->batch / ranks);
done:
    return st;
}

static sim_status measure_step(bench *b, const sim_comm *c, point *p)
{
    sim_status st = SIM_OK;
    const size_t side = b->spec->size;

    b->job->train.batch = (int64_t)(b->spec->batch * (p->kind == WEAK ? p->ranks : 1));
    b->job->train.block = (int64_t)b->block;
    SIM_TRY(sim_train_measure(c, b->job, side, side, CHANNELS, NULL, b->spec->steps,
                              &p->speed));
done:
    return st;
}

/* Weak and strong scaling on the first n ranks; `c` is NULL on the others. */
static sim_status measure_both(bench *b, const sim_comm *c, point *weak, point *strong)
{
    sim_status st = SIM_OK;

    if (!c)
        goto done;
    SIM_TRY(measure_step(b, c, weak));
    if (c->size == 1)
        strong->speed = weak->speed; /* the same step */
    else
        SIM_TRY(measure_step(b, c, strong));
done:
    return st;
}

static sim_status measure_ranks(bench *b, size_t ranks)
{
    sim_status st = SIM_OK;
    sim_comm *part = NULL;
    point *weak = &b->points[b->n_points++], *strong = &b->points[b->n_points++];

    *weak = (point){.kind = WEAK, .ranks = ranks};
    *strong = (point){.kind = STRONG, .ranks = ranks};
    SIM_TRY(sim_comm_create(b->comm, (int)ranks, &part));
    SIM_TRY(sim_comm_agree(b->comm, measure_both(b, part, weak, strong)));
done:
    sim_comm_destroy(&part);
    return st;
}

static sim_status measure_points(bench *b)
{
    sim_status st = SIM_OK;

    for (size_t ranks = 1; ranks <= (size_t)b->comm->size; ranks *= 2)
        SIM_TRY(measure_ranks(b, ranks));
done:
    return st;
}

/* ---- additions of the gradient sum ---- */

typedef struct {
    float *to, *from;
    size_t n;
} addition;

static void add_chunk(size_t i, void *ctx)
{
    const addition *a = ctx;
    const size_t lo = i * ADD_CHUNK, hi = lo + ADD_CHUNK < a->n ? lo + ADD_CHUNK : a->n;
    for (size_t j = lo; j < hi; j++)
        a->to[j] += a->from[j];
}

/* Seconds to add n floats, as src/comm/sum.c does. */
static sim_status measure_addition(size_t n, double *seconds)
{
    sim_status st = SIM_OK;
    addition a = {.n = n};

    SIM_TRY(sim_alloc(&a.to, n, "cli/bench"));
    SIM_TRY(sim_alloc(&a.from, n, "cli/bench"));
    for (size_t i = 0; i < n; i++)
        a.from[i] = a.to[i] = 1;
    *seconds = INFINITY;
    for (int i = 0; i < ADD_REPEATS; i++) {
        const double start = sim_clock_s();
        sim_for((n + ADD_CHUNK - 1) / ADD_CHUNK, add_chunk, &a);
        *seconds = fmin(*seconds, sim_clock_s() - start);
    }
done:
    sim_free(a.to);
    sim_free(a.from);
    return st;
}

/* On rank 0, while the others wait. */
static sim_status measure_additions(bench *b)
{
    return b->comm->rank == 0
               ? measure_addition(b->points[0].speed.gradient_floats, &b->addition_s)
               : SIM_OK;
}

/* ---- messages ---- */

typedef struct {
    const sim_comm *comm;
    size_t *owned_by_first, *owned_by_last; /* [size + 1] of the one row */
    char *row, *received;
} ping_pong;

/* One row travels from the last rank to the first, and back. */
static void make_trip(const ping_pong *p, size_t n_bytes)
{
    const sim_range row = {0, 1};
    sim_comm_fetch_rows(p->comm, 0, p->owned_by_last, row, n_bytes, p->row, p->received);
    sim_comm_fetch_rows(p->comm, p->comm->size - 1, p->owned_by_first, row, n_bytes,
                        p->row, p->received);
}

/* Seconds of a message of n_bytes in one direction: the best mean of `trips`. */
static double time_message(const ping_pong *p, size_t n_bytes, int trips)
{
    double best = INFINITY;
    for (int i = 0; i <= TRIP_REPEATS; i++) { /* the first connects the ranks */
        sim_comm_barrier(p->comm);
        const double start = sim_clock_s();
        for (int t = 0; t < trips; t++)
            make_trip(p, n_bytes);
        const double took = (sim_clock_s() - start) / trips / 2;
        best = i > 0 ? fmin(best, took) : best;
    }
    return best;
}

static sim_status create_ping_pong(const sim_comm *c, ping_pong *p)
{
    sim_status st = SIM_OK;
    const size_t size = (size_t)c->size;

    p->comm = c;
    SIM_TRY(sim_alloc(&p->owned_by_first, size + 1, "cli/bench"));
    SIM_TRY(sim_alloc(&p->owned_by_last, size + 1, "cli/bench"));
    SIM_TRY(sim_alloc(&p->row, LARGE_BYTES, "cli/bench"));
    SIM_TRY(sim_alloc(&p->received, LARGE_BYTES, "cli/bench"));
    for (size_t r = 0; r <= size; r++) {
        p->owned_by_first[r] = r > 0;
        p->owned_by_last[r] = r == size;
    }
done:
    return st;
}

static void destroy_ping_pong(ping_pong *p)
{
    sim_free(p->owned_by_first);
    sim_free(p->owned_by_last);
    sim_free(p->row);
    sim_free(p->received);
}

/* On rank 0, between the first and the last rank. */
static sim_status measure_network(bench *b)
{
    sim_status st = SIM_OK;
    ping_pong p = {0};

    b->here = (sim_scaling_network){.latency_s = 0, .bytes_per_s = INFINITY};
    if (b->comm->size == 1)
        goto done;
    SIM_TRY(sim_comm_agree(b->comm, create_ping_pong(b->comm, &p)));
    const double small = time_message(&p, sizeof(float), SMALL_TRIPS);
    const double large = time_message(&p, LARGE_BYTES, LARGE_TRIPS);
    b->here.latency_s = small;
    b->here.bytes_per_s = LARGE_BYTES / fmax(large - small, 1e-9);
done:
    destroy_ping_pong(&p);
    return st;
}

/* ---- prediction ---- */

static sim_scaling_node one_node(const bench *b)
{
    const sim_step_speed *s = &b->points[0].speed;
    return (sim_scaling_node){.batch = (double)b->spec->batch,
                              .encoder_s = s->parts.encoder,
                              .loss_s = s->parts.loss,
                              .update_s = s->parts.update,
                              .addition_s = b->addition_s,
                              .gradient_bytes =
                                  (double)s->gradient_floats * sizeof(float),
                              .gathers = (double)s->traffic.gathers,
                              .gathered_bytes = (double)s->traffic.gathered_bytes,
                              .reductions = (double)s->traffic.reductions,
                              .reduced_bytes = (double)s->traffic.reduced_bytes};
}

/* The value for the nodes of the prediction, and where it comes from. */
typedef struct {
    double value;
    const char *source;
} choice;

static choice choose(double given, double measured, double otherwise, size_t ranks)
{
    if (given > 0)
        return (choice){given, "given"};
    return ranks > 1 ? (choice){measured, "measured"} : (choice){otherwise, "default"};
}

static choice choose_latency_us(const bench *b)
{
    return choose(b->spec->latency_us, b->here.latency_s * us_per_s, default_latency_us,
                  (size_t)b->comm->size);
}

static choice choose_gbits(const bench *b)
{
    return choose(b->spec->bandwidth_gbits, b->here.bytes_per_s * gbits_per_byte,
                  default_gbits, (size_t)b->comm->size);
}

/* ---- output ---- */

/* Efficiency: speed relative to n times that of one node. */
static void put_speed(sim_json *j, double images, double step_s, double efficiency)
{
    sim_json_real(j, "step_s", step_s);
    sim_json_real(j, "images_per_s", images / step_s);
    sim_json_real(j, "efficiency", efficiency);
}

static void put_parts(sim_json *j, const sim_step_parts *p)
{
    sim_json_real(j, "encoder_s", p->encoder);
    sim_json_real(j, "loss_s", p->loss);
    sim_json_real(j, "gather_s", p->gather);
    sim_json_real(j, "gradient_sum_s", p->sum);
    sim_json_real(j, "update_s", p->update);
    sim_json_real(j, "gradient_sum_percent", 100 * p->sum / sim_scaling_step_s(p));
}

static double efficiency(scaling kind, double one_s, double n_s, size_t n)
{
    return one_s / n_s / (kind == STRONG ? (double)n : 1);
}

static const char *scaling_name(scaling kind)
{
    return kind == WEAK ? "weak" : "strong";
}

/* `batch`: of a node in weak scaling, of all nodes in strong scaling. */
static void put_prediction(sim_json *j, const sim_scaling_node *one,
                           const sim_scaling_network *net, scaling kind, size_t n,
                           double batch)
{
    const double images = kind == WEAK ? batch * (double)n : batch;
    const sim_step_parts alone = sim_scaling_predict(one, net, 1, batch);
    const sim_step_parts p = sim_scaling_predict(one, net, n, images);
    const double step_s = sim_scaling_step_s(&p);

    put_speed(j, images, step_s, efficiency(kind, sim_scaling_step_s(&alone), step_s, n));
    put_parts(j, &p);
}

static void put_measured(const bench *b, sim_json *list, const sim_scaling_node *one,
                         const point *p)
{
    sim_json *j = sim_json_object(list, NULL);
    const double images = (double)p->speed.images, step_s = p->speed.best_s;

    sim_json_text(j, "scaling", scaling_name(p->kind));
    sim_json_int(j, "ranks", (int64_t)p->ranks);
    sim_json_int(j, "batch", (int64_t)p->speed.images);
    put_speed(j, images, step_s,
              efficiency(p->kind, b->points[0].speed.best_s, step_s, p->ranks));
    put_parts(j, &p->speed.parts);
    put_prediction(sim_json_object(j, "predicted"), one, &b->here, p->kind, p->ranks,
                   (double)b->spec->batch);
}

static void put_predicted(const bench *b, sim_json *list, const sim_scaling_node *one,
                          const sim_scaling_network *net, scaling kind)
{
    const size_t batch = kind == WEAK ? b->spec->batch : b->spec->global_batch;
    for (size_t n = 1; n <= MAX_NODES; n *= 2) {
        if (kind == STRONG && n > batch)
            return; /* nodes without an image */
        sim_json *j = sim_json_object(list, NULL);
        sim_json_text(j, "scaling", scaling_name(kind));
        sim_json_int(j, "nodes", (int64_t)n);
        sim_json_int(j, "batch", (int64_t)(kind == WEAK ? batch * n : batch));
        put_prediction(j, one, net, kind, n, (double)batch);
    }
}

static void put_node(sim_json *j, const sim_scaling_node *one)
{
    sim_json_int(j, "batch_per_node", (int64_t)one->batch);
    sim_json_real(j, "encoder_s", one->encoder_s);
    sim_json_real(j, "loss_s", one->loss_s);
    sim_json_real(j, "update_s", one->update_s);
    sim_json_real(j, "addition_s", one->addition_s);
    sim_json_int(j, "gradient_bytes", (int64_t)one->gradient_bytes);
    sim_json_int(j, "gathers", (int64_t)one->gathers);
    sim_json_int(j, "gathered_bytes", (int64_t)one->gathered_bytes);
    sim_json_int(j, "reductions", (int64_t)one->reductions);
    sim_json_int(j, "reduced_bytes", (int64_t)one->reduced_bytes);
}

static void put_assumptions(const bench *b, sim_json *j, const sim_scaling_node *one)
{
    const choice latency = choose_latency_us(b), gbits = choose_gbits(b);
    sim_json *source = NULL;

    sim_json_real(j, "latency_us", latency.value);
    sim_json_real(j, "bandwidth_gbits", gbits.value);
    source = sim_json_object(j, "source");
    sim_json_text(source, "latency_us", latency.source);
    sim_json_text(source, "bandwidth_gbits", gbits.source);
    if (b->comm->size > 1) {
        sim_json *here = sim_json_object(j, "between_ranks");
        sim_json_real(here, "latency_us", b->here.latency_s * us_per_s);
        sim_json_real(here, "bandwidth_gbits", b->here.bytes_per_s * gbits_per_byte);
    }
    put_node(j, one);
    sim_json_text(j, "algorithm",
                  "gradient sum: vector-halving reduce-scatter and all-gather, 2 log2 n "
                  "rounds, 2 (1 - 1/n) gradient_bytes sent per node; all-gathers: log2 n "
                  "rounds, the bytes of n - 1 nodes received");
    sim_json_text(j, "nodes",
                  "one rank each, equal to the rank measured; no overlap of computation "
                  "and messages, no waiting, no contention, loading hidden");
}

static void put_description(const bench *b, sim_json *j)
{
    sim_json_text(j, "bench", "scaling");
    sim_json_text(j, "arch", b->spec->arch);
    sim_json_text(j, "stem", b->spec->stem);
    sim_json_text(j, "width", b->spec->width);
    sim_json_int(j, "size", (int64_t)b->spec->size);
    sim_json_int(j, "batch", (int64_t)b->spec->batch);
    sim_json_int(j, "global_batch", (int64_t)b->spec->global_batch);
    sim_json_int(j, "block", (int64_t)b->block);
    sim_json_int(j, "steps", b->spec->steps);
    sim_json_int(j, "ranks", b->comm->size);
    sim_json_int(j, "threads", sim_threads());
    sim_json_text(j, "kernels", sim_kernels_name());
}

static sim_status print(const bench *b)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    const sim_scaling_node one = one_node(b);
    const sim_scaling_network net = {.latency_s = choose_latency_us(b).value / us_per_s,
                                     .bytes_per_s =
                                         choose_gbits(b).value / gbits_per_byte};

    SIM_TRY(sim_json_create(&j));
    put_description(b, j);
    put_assumptions(b, sim_json_object(j, "assumptions"), &one);
    sim_json *measured = sim_json_array(j, "measured");
    for (size_t i = 0; i < b->n_points; i++)
        if (b->comm->rank == 0) /* the others lack steps of fewer ranks */
            put_measured(b, measured, &one, &b->points[i]);
    sim_json *predicted = sim_json_array(j, "predicted");
    put_predicted(b, predicted, &one, &net, WEAK);
    put_predicted(b, predicted, &one, &net, STRONG);
    SIM_TRY(sim_bench_environment(b->comm, j, NULL));
    SIM_TRY(sim_cli_print_json(b->comm, j, true));
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_bench_scaling(const sim_comm *c, sim_job *job,
                             const sim_bench_scaling_spec *spec)
{
    sim_status st = SIM_OK;
    bench b = {.comm = c, .job = job, .spec = spec};

    SIM_TRY(check_batch(&b));
    SIM_TRY(measure_points(&b));
    SIM_TRY(sim_comm_agree(c, measure_additions(&b)));
    SIM_TRY(measure_network(&b));
    SIM_TRY(print(&b));
done:
    return st;
}
