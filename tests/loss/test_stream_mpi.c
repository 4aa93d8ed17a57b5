/*
 * test_stream_mpi.c - losses whose columns are gathered or streamed, on 1 to 4 ranks: both have the
 * bits of one rank, which every rank also computes. Their memory: what is announced, and less than
 * that of all columns.
 *
 * simile-test: timeout 300
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/kernel.h"
#include "simile/loss.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

static const sim_comm *comm;
static const sim_comm alone = {.rank = 0, .size = 1};

/* ---- inputs: all rows on every rank ---- */

enum { COLUMN_TILE = 512, CLASSES = 7 };

typedef struct {
    size_t n, d, unit, views;
    float *z; /* [views][n][d] */
    int32_t *labels;
} inputs;

static inputs make_inputs(size_t n, size_t d, size_t unit, size_t views)
{
    inputs x = {.n = n, .d = d, .unit = unit, .views = views};
    float *norm = NULL;

    ASSERT_OK(sim_alloc(&x.z, views * n * d, "test/stream"));
    ASSERT_OK(sim_alloc(&norm, views * n, "test/stream"));
    ASSERT_OK(sim_alloc(&x.labels, n, "test/stream"));
    for (size_t v = 0; v < views; v++)
        for (size_t i = 0; i < n * d; i++) {
            sim_random r = {.purpose = SIM_RANDOM_TEST, .draw = (uint32_t)i};
            sim_random own = {.purpose = SIM_RANDOM_TEST,
                              .sample = (uint32_t)v + 1,
                              .draw = (uint32_t)i};
            x.z[v * n * d + i] =
                sim_random_between(&r, -1, 1) + 0.7f * sim_random_between(&own, -1, 1);
        }
    sim_unit_rows(views * n, d, x.z, x.z, norm);
    for (size_t i = 0; i < n; i++)
        x.labels[i] = (int32_t)(i * i % CLASSES);
    sim_free(norm);
    return x;
}

static void free_inputs(inputs *x)
{
    sim_free(x->z);
    sim_free(x->labels);
}

/* ---- the losses ---- */

typedef struct {
    const char *name;
    sim_ntxent_options ntxent;
    sim_cross_options cross;
    double scale; /* of the sigmoid loss */
    bool labels, no_da, no_db;
} loss_case;

static const loss_case losses[] = {
    {.name = "ntxent", .ntxent = {.temperature = 0.1}},
    {.name = "ntxent, small T", .ntxent = {.temperature = 0.01}},
    {.name = "part of the rows", .ntxent = {.temperature = 0.1, .anchors = {30, 600}}},
    {.name = "dcl", .ntxent = {.temperature = 0.2, .decoupled = true}},
    {.name = "dclw", .ntxent = {.temperature = 0.1, .decoupled = true, .weighted = true}},
    {.name = "dclw flow",
     .ntxent = {.temperature = 0.1, .weighted = true, .weight_flow = true}},
    {.name = "supcon", .ntxent = {.temperature = 0.1}, .labels = true},
    {.name = "supcon in",
     .ntxent = {.temperature = 0.1, .inside = true, .inside_mean = true},
     .labels = true},
    {.name = "softmax", .cross = {.temperature = 0.1}},
    {.name = "softmax, any length", .cross = {.temperature = 0.5, .any_length = true}},
    {.name = "both directions", .cross = {.temperature = 0.2, .columns = true}},
    {.name = "without db", .cross = {.temperature = 1, .factor = 2}, .no_db = true},
    {.name = "without da", .cross = {.temperature = 0.1}, .no_da = true},
    {.name = "sigmoid", .scale = 10},
};
enum { N_LOSSES = sizeof losses / sizeof losses[0] };

typedef struct {
    sim_range rows;
    float *dz; /* [views][rows][d] */
    sim_loss_report report;
    size_t bytes, announced;
} result;

static void run_ntxent(const sim_comm *c, const inputs *x, const loss_case *l,
                       const sim_rows_shape *shape, const float *z, result *r)
{
    sim_contrast *e = NULL;
    sim_ntxent_options o = l->ntxent;
    const size_t before = sim_memory_bytes();

    o.labels = l->labels ? x->labels : NULL;
    ASSERT_OK(sim_contrast_create(c, shape, &e));
    r->bytes = sim_memory_bytes() - before;
    r->announced = sim_contrast_bytes(sim_comm_partition(c), shape);
    sim_ntxent(e, &o, z, r->dz, &r->report);
    sim_contrast_destroy(&e);
}

/* View 0 against view 1. */
static void run_cross(const sim_comm *c, const loss_case *l, sim_rows_shape shape,
                      const float *z, result *r)
{
    sim_cross *e = NULL;
    const size_t before = sim_memory_bytes(), view = (r->rows.hi - r->rows.lo) * shape.d;
    float *da = l->no_da ? NULL : r->dz, *db = l->no_db ? NULL : r->dz + view;

    shape.views = 1;
    ASSERT_OK(sim_cross_create(c, &shape, &e));
    r->bytes = sim_memory_bytes() - before;
    r->announced = sim_cross_bytes(sim_comm_partition(c), &shape);
    if (l->scale > 0)
        sim_cross_sigmoid(e, l->scale, -5, z, z + view, da, db, &r->report);
    else
        sim_cross_softmax(e, &l->cross, z, z + view, da, db, &r->report);
    sim_cross_destroy(&e);
}

static result compute(const sim_comm *c, const inputs *x, const loss_case *l,
                      sim_gather gather, size_t stream_rows)
{
    const sim_rows_shape shape = {.n = x->n,
                                  .unit = x->unit,
                                  .views = x->views,
                                  .d = x->d,
                                  .gather = gather,
                                  .stream_rows = stream_rows};
    result r = {.rows = sim_rows_local(sim_comm_partition(c), &shape)};
    const size_t local = r.rows.hi - r.rows.lo, floats = local * x->d;
    float *z = NULL;

    ASSERT_OK(sim_alloc(&z, x->views * floats, "test/stream"));
    ASSERT_OK(sim_alloc(&r.dz, x->views * floats, "test/stream"));
    for (size_t v = 0; v < x->views && floats > 0; v++)
        memcpy(z + v * floats, x->z + (v * x->n + r.rows.lo) * x->d, floats * sizeof *z);
    if (l->ntxent.temperature > 0)
        run_ntxent(c, x, l, &shape, z, &r);
    else
        run_cross(c, l, shape, z, &r);
    sim_free(z);
    return r;
}

/* Whether the rows of this rank have the bits of `one`, which contains all rows. */
static bool same_bits(const inputs *x, const result *r, const result *one)
{
    const size_t floats = (r->rows.hi - r->rows.lo) * x->d;
    bool same = memcmp(&r->report, &one->report, sizeof r->report) == 0;
    for (size_t v = 0; v < x->views; v++)
        same &= memcmp(r->dz + v * floats, one->dz + (v * x->n + r->rows.lo) * x->d,
                       floats * sizeof(float)) == 0;
    return same;
}

/* ---- tests ---- */

static int failures; /* asserted after the last collective call of a test */

static void expect(bool ok, const char *what, const char *loss, const inputs *x)
{
    if (ok)
        return;
    failures++;
    print_error("%s: %s: n %zu unit %zu views %zu, rank %d of %d\n", what, loss, x->n,
                x->unit, x->views, comm->rank, comm->size);
}

static void check_loss(const inputs *x, const loss_case *l)
{
    result one = compute(&alone, x, l, SIM_GATHER_STREAM, COLUMN_TILE);
    result all = compute(comm, x, l, SIM_GATHER_ALL, 0);
    result streamed = compute(comm, x, l, SIM_GATHER_STREAM, COLUMN_TILE);
    result large = compute(comm, x, l, SIM_GATHER_STREAM, 0);

    expect(same_bits(x, &all, &one), "bits of all", l->name, x);
    expect(same_bits(x, &streamed, &one), "bits of small chunks", l->name, x);
    expect(same_bits(x, &large, &one), "bits of stream", l->name, x);
    expect(all.bytes == all.announced && streamed.bytes == streamed.announced &&
               large.bytes == large.announced && one.bytes == one.announced,
           "bytes", l->name, x);
    sim_free(one.dz);
    sim_free(all.dz);
    sim_free(streamed.dz);
    sim_free(large.dz);
}

static bool takes(const loss_case *l, size_t views)
{
    const bool two_views =
        l->ntxent.temperature <= 0 || l->ntxent.weighted || l->ntxent.anchors.hi > 0;
    return views == 2 || !two_views;
}

/*
 * Chunks and groups of 512: with 1,100 pairs 2 ranks pass two groups, the last of which is short. Units
 * of 7 slots divide leaves and column tiles; with few units some ranks have no rows.
 */
static void a_stream_has_the_bits_of_one_rank(void **state)
{
    (void)state;
    static const struct {
        size_t n, d, unit, views;
    } shapes[] = {{1100, 9, 7, 2}, {70, 16, 32, 2}, {33, 5, 32, 3}};
    failures = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        inputs x = make_inputs(shapes[i].n, shapes[i].d, shapes[i].unit, shapes[i].views);
        for (size_t k = 0; k < N_LOSSES; k++)
            if (takes(&losses[k], x.views))
                check_loss(&x, &losses[k]);
        free_inputs(&x);
    }
    assert_int_equal(failures, 0);
}

static void threads_do_not_change_the_bits_of_a_stream(void **state)
{
    (void)state;
    inputs x =
        make_inputs(1300, 8, 512, 2); /* units of whole groups, the last one short */
    failures = 0;
    sim_threads_set(3);
    check_loss(&x, &losses[0]);
    sim_threads_set(comm->rank % 2 + 1); /* ranks may have different numbers */
    check_loss(&x, &losses[0]);
    sim_threads_set(1);
    free_inputs(&x);
    assert_int_equal(failures, 0);
}

/* A step of a run allocates nothing. */
static void a_second_call_does_not_allocate(void **state)
{
    (void)state;
    inputs x = make_inputs(96, 8, 8, 2);
    const sim_rows_shape shape = {
        .n = x.n, .unit = x.unit, .views = 2, .d = x.d, .gather = SIM_GATHER_STREAM};
    const sim_range own = sim_rows_local(sim_comm_partition(comm), &shape);
    const sim_ntxent_options o = {.temperature = 0.1, .weighted = true};
    sim_contrast *e = NULL;
    sim_loss_report report;
    float *dz = NULL;
    uint64_t calls = 0;

    ASSERT_OK(sim_alloc(&dz, 2 * x.n * x.d, "test/stream"));
    ASSERT_OK(sim_contrast_create(comm, &shape, &e));
    for (int i = 0; i < 2; i++) {
        calls = sim_memory_calls();
        sim_ntxent(e, &o, x.z + own.lo * x.d, dz, &report);
    }
    calls = sim_memory_calls() - calls;
    sim_contrast_destroy(&e);
    sim_free(dz);
    free_inputs(&x);
    assert_int_equal(calls, 0);
}

static size_t bytes_of(size_t ranks, size_t n, sim_gather gather)
{
    const sim_rows_shape s = {.n = n, .unit = 32, .views = 2, .d = 128, .gather = gather};
    return sim_contrast_bytes((sim_partition){.size = ranks}, &s);
}

/* What does not fall with the ranks are the records of all rows, less than a fifth of the rows. */
static void the_memory_of_a_stream_falls_with_the_ranks(void **state)
{
    (void)state;
    const size_t n = (size_t)1 << 20, rows = 2 * n * 128 * sizeof(float);
    const size_t shared = bytes_of(1024, n, SIM_GATHER_STREAM);

    assert_true(bytes_of(64, n, SIM_GATHER_ALL) > rows);
    assert_true(shared < rows / 5);
    for (size_t ranks = 2; ranks < 1024; ranks *= 2) {
        assert_true(bytes_of(ranks, n, SIM_GATHER_STREAM) <
                    bytes_of(ranks, n, SIM_GATHER_ALL) - rows * 3 / 4);
        assert_true(bytes_of(2 * ranks, n, SIM_GATHER_STREAM) <=
                    bytes_of(ranks, n, SIM_GATHER_STREAM));
    }
}

/* 262,144 pairs of 128 floats are 256 MiB. */
static void auto_streams_above_256_mib(void **state)
{
    (void)state;
    const size_t n = 262144;
    assert_int_equal(bytes_of(8, n, SIM_GATHER_AUTO), bytes_of(8, n, SIM_GATHER_ALL));
    assert_int_equal(bytes_of(8, n + 1, SIM_GATHER_AUTO),
                     bytes_of(8, n + 1, SIM_GATHER_STREAM));
    assert_int_equal(bytes_of(1, n + 1, SIM_GATHER_AUTO),
                     bytes_of(1, n + 1, SIM_GATHER_ALL));
    assert_int_equal(bytes_of(1, n, SIM_GATHER_STREAM), bytes_of(1, n, SIM_GATHER_ALL));
}

static void memory_that_is_exhausted_is_an_error(void **state)
{
    (void)state;
    const sim_rows_shape s = {
        .n = 64, .unit = 8, .views = 1, .d = 4, .gather = SIM_GATHER_STREAM};
    const size_t before = sim_memory_bytes();
    sim_contrast *e = NULL;
    sim_cross *x = NULL;
    const uint64_t first = sim_memory_calls();

    ASSERT_OK(sim_contrast_create(comm, &s, &e));
    const uint64_t calls = sim_memory_calls() - first;
    sim_contrast_destroy(&e);
    for (uint64_t k = 1; k <= calls; k++) {
        sim_memory_fail_at(k);
        assert_int_equal(sim_contrast_create(comm, &s, &e), SIM_E_IO);
        sim_memory_fail_at(k);
        assert_int_equal(sim_cross_create(comm, &s, &x), SIM_E_IO);
        sim_memory_fail_at(0);
        assert_int_equal(sim_memory_bytes(), before);
    }
    sim_error_clear();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_has_the_bits_of_one_rank),
        cmocka_unit_test(threads_do_not_change_the_bits_of_a_stream),
        cmocka_unit_test(a_second_call_does_not_allocate),
        cmocka_unit_test(the_memory_of_a_stream_falls_with_the_ranks),
        cmocka_unit_test(auto_streams_above_256_mib),
        cmocka_unit_test(memory_that_is_exhausted_is_an_error),
    };
    if (sim_kernels_pick("auto") != SIM_OK ||
        sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
