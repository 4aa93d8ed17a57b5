/*
 * bench_loss.c - `simile bench loss`: NT-Xent of random unit rows, with gradients.
 *
 * In: the number of pairs and of dimensions.  Out: one JSON object for all ranks.  The time of the
 * products alone, 6 N^2 d operations for N rows, is measured beside it. A part of the rows can be compared
 * with all columns, where all rows would take hours.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/loss.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

enum { VIEWS = 2, UNIT = 32 };
enum { PRODUCT_ROWS = 128, PRODUCT_COLUMNS = 512 }; /* as in the loss */

typedef struct {
    const sim_comm *comm;
    sim_rows_shape shape;
    sim_contrast *contrast;
    size_t local; /* rows per view of this rank */
    float *z, *dz, *norm;
    sim_range rows; /* pairs that are anchors */
    int steps;
    double *seconds; /* [steps] */
} bench;

static void fill_rows(size_t view, void *ctx)
{
    bench *b = ctx;
    const size_t floats = b->local * b->shape.d;
    const sim_range rows = sim_rows_local(sim_comm_partition(b->comm), &b->shape);
    sim_random r = {
        .purpose = SIM_RANDOM_TEST, .seed = (uint32_t)view, .sample = (uint32_t)rows.lo};

    for (size_t i = 0; i < floats; i++)
        b->z[view * floats + i] = sim_random_between(&r, -1, 1);
}

static sim_status create(bench *b)
{
    sim_status st = SIM_OK;
    const sim_range rows = sim_rows_local(sim_comm_partition(b->comm), &b->shape);

    b->local = rows.hi - rows.lo;
    SIM_TRY(sim_contrast_create(b->comm, &b->shape, &b->contrast));
    SIM_TRY(sim_alloc(&b->z, VIEWS * b->local * b->shape.d, "cli/bench"));
    SIM_TRY(sim_alloc(&b->dz, VIEWS * b->local * b->shape.d, "cli/bench"));
    SIM_TRY(sim_alloc(&b->norm, VIEWS * b->local, "cli/bench"));
    SIM_TRY(sim_alloc(&b->seconds, (size_t)b->steps, "cli/bench"));
    sim_for(VIEWS, fill_rows, b);
    sim_unit_rows(VIEWS * b->local, b->shape.d, b->z, b->z, b->norm);
done:
    return st;
}

static void destroy(bench *b)
{
    sim_contrast_destroy(&b->contrast);
    sim_free(b->z);
    sim_free(b->dz);
    sim_free(b->norm);
    sim_free(b->seconds);
}

static double time_loss(bench *b)
{
    const sim_ntxent_options options = {.temperature = 0.1, .anchors = b->rows};
    sim_loss_report report = {0};

    sim_comm_barrier(b->comm);
    const double start = sim_clock_s();
    sim_ntxent(b->contrast, &options, b->z, b->dz, &report);
    double took = sim_clock_s() - start;
    sim_comm_max_f64(b->comm, &took, 1);
    return took;
}

/* After one call that allocates scratch memory; sorted. */
static void time_losses(bench *b)
{
    (void)time_loss(b);
    for (int i = 0; i < b->steps; i++)
        b->seconds[i] = time_loss(b);
    sim_bench_sort(b->seconds, (size_t)b->steps);
}

/* All rows of the fullest rank, relative to those that are compared on the rank with most of them. */
static double all_rows_relative(const bench *b)
{
    const sim_range own = sim_rows_local(sim_comm_partition(b->comm), &b->shape);
    const size_t lo = own.lo > b->rows.lo ? own.lo : b->rows.lo;
    const size_t hi = own.hi < b->rows.hi ? own.hi : b->rows.hi;
    int64_t most[2] = {(int64_t)(own.hi - own.lo), lo < hi ? (int64_t)(hi - lo) : 0};

    sim_comm_max_i64(b->comm, most, 2);
    return (double)most[0] / (double)most[1];
}

static void print_part(const bench *b, sim_json *j, double all_relative)
{
    if (b->rows.hi == 0)
        return;
    sim_json_int(j, "first_row", (int64_t)b->rows.lo);
    sim_json_int(j, "end_row", (int64_t)b->rows.hi);
    sim_json_real(j, "loss_s_extrapolated", b->seconds[0] * all_relative);
}

static sim_status print(const bench *b, double products_s)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    int64_t bytes[2] = {(int64_t)sim_memory_process_peak(), (int64_t)sim_memory_bytes()};
    const double all_relative = b->rows.hi ? all_rows_relative(b) : 1;

    sim_comm_max_i64(b->comm, bytes, 2);
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "bench", "loss");
    sim_json_int(j, "batch", (int64_t)b->shape.n);
    sim_json_int(j, "dim", (int64_t)b->shape.d);
    sim_json_real(j, "loss_s", b->seconds[0]);
    sim_json_real(j, "loss_s_median", b->seconds[b->steps / 2]);
    sim_json_real(j, "loss_s_max", b->seconds[b->steps - 1]);
    sim_json_real(j, "products_s", products_s / all_relative);
    print_part(b, j, all_relative);
    sim_json_real(j, "buffers_mb", (double)bytes[1] / 1e6);
    sim_json_real(j, "peak_mb", (double)bytes[0] / 1e6);
    sim_json_int(j, "ranks", b->comm->size);
    sim_json_int(j, "threads", sim_threads());
    sim_json_text(j, "kernels", sim_kernels_name());
    SIM_TRY(sim_bench_environment(b->comm, j, NULL));
    SIM_TRY(sim_cli_print_json(b->comm, j, false));
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_bench_loss(const sim_comm *c, const sim_bench_loss_spec *spec)
{
    sim_status st = SIM_OK;
    const size_t d = spec->dim;
    bench b = {.comm = c,
               .shape = {.n = spec->batch,
                         .unit = UNIT,
                         .views = VIEWS,
                         .d = d,
                         .gather = spec->gather},
               .rows = spec->rows,
               .steps = spec->steps};
    const double rows = VIEWS * (double)spec->batch;
    double rate = 0;

    SIM_TRY(sim_comm_agree(c, create(&b)));
    SIM_TRY(sim_comm_agree(
        c, sim_bench_product_rate(PRODUCT_ROWS, PRODUCT_COLUMNS, d, &rate)));
    SIM_ASSERT(b.seconds);
    time_losses(&b);
    SIM_TRY(print(&b, 3 * rows * rows * (double)d / rate / c->size));
done:
    destroy(&b);
    return st;
}
