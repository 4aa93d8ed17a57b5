/*
 * test_hard_mpi.c - sums of special values, moments, ranks without rows, integer reductions and
 * counters on 1 to 4 ranks. Each rank computes the expected values from all inputs.
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <math.h>

static const sim_comm *comm;
static unsigned seed;

/* One value in four is special: signed zeros, infinities, NaN, the largest and denormal values. */
static float value(size_t leaf, size_t i)
{
    static const float special[] = {-0.0f, 0.0f,  INFINITY, -INFINITY,
                                    NAN,   3e38f, -3e38f,   1e-40f};
    sim_random r = {.seed = seed,
                    .purpose = SIM_RANDOM_TEST,
                    .sample = (uint32_t)leaf,
                    .epoch = (uint32_t)i};
    uint32_t kind = sim_random_below(&r, 32);
    return kind < 8 ? special[kind] : sim_random_between(&r, -1, 1);
}

static float reference_sum(size_t lo, size_t hi, size_t i,
                           float (*leaf_value)(size_t, size_t))
{
    if (hi - lo == 1)
        return leaf_value(lo, i);
    size_t middle = lo + (hi - lo) / 2;
    return reference_sum(lo, middle, i, leaf_value) +
           reference_sum(middle, hi, i, leaf_value);
}

static float minus_zero(size_t leaf, size_t i)
{
    (void)leaf, (void)i;
    return -0.0f;
}

static bool equal_bits(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

/* The maximal nodes are computed by reference_sum, not by sim_tree_stack. */
static bool sum_is_right(size_t leaves, size_t n, float (*leaf_value)(size_t, size_t))
{
    enum { GUARD = 16 };
    sim_range nodes[SIM_TREE_MAX_NODES];
    sim_range local = sim_partition_range(sim_comm_partition(comm), leaves);
    size_t capacity = sim_comm_sum_leaves_capacity(sim_comm_partition(comm), leaves, n);
    size_t n_nodes = sim_tree_nodes(leaves, local, nodes);
    float *v = NULL;
    bool ok = true;

    ASSERT_OK(sim_alloc(&v, capacity + GUARD, "test/sum"));
    for (size_t i = 0; i < capacity + GUARD; i++)
        v[i] = 77.0f;
    for (size_t j = 0; j < n_nodes; j++)
        for (size_t i = 0; i < n; i++)
            v[j * n + i] = reference_sum(nodes[j].lo, nodes[j].hi, i, leaf_value);
    sim_comm_sum_leaves(comm, leaves, n, v);
    for (size_t i = 0; i < n; i++)
        ok &= equal_bits(v[i], reference_sum(0, leaves, i, leaf_value));
    for (size_t i = capacity; i < capacity + GUARD; i++)
        ok &= v[i] == 77.0f;
    sim_free(v);
    return ok;
}

static void sums_of_special_values_and_unequal_ranges_match_one_rank(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 5, 8, 29, 64};
    char bad[160] = "";
    for (seed = 1; seed <= 2; seed++)
        for (size_t leaves = 1; leaves <= 64; leaves++)
            for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
                sim_comm_piece_rows(seed == 1 ? 7 : 0);
                if (!sum_is_right(leaves, sizes[k], value))
                    (void)snprintf(bad, sizeof bad, "seed %u leaves %zu n %zu", seed,
                                   leaves, sizes[k]);
                if (!sum_is_right(leaves, sizes[k], minus_zero))
                    (void)snprintf(bad, sizeof bad, "-0.0 leaves %zu n %zu", leaves,
                                   sizes[k]);
            }
    sim_comm_piece_rows(0);
    seed = 0;
    if (bad[0])
        fail_msg("%s", bad);
}

static void repeated_reductions_do_not_allocate(void **state)
{
    (void)state;
    float *v = NULL;
    double leaves[14], out[14];
    const sim_reduce_shape s = {7, 1, 0, 2, sim_merge_sum};
    ASSERT_OK(sim_alloc(
        &v, sim_comm_sum_leaves_capacity(sim_comm_partition(comm), 7, 100), "test/sum"));
    uint64_t calls = 0;
    for (int round = 0; round < 3; round++) {
        if (round == 1)
            calls = sim_memory_calls();
        memset(leaves, 0, sizeof leaves);
        sim_comm_reduce_doubles(comm, &s, leaves, out);
        sim_comm_sum_leaves(comm, 7, 100, v);
    }
    calls = sim_memory_calls() - calls;
    sim_free(v);
    assert_int_equal(calls, 0);
}

/* Merges means and centred squares of leaves of 3 samples; compares with two passes over all. */
static void moments_are_those_of_all_samples(void **state)
{
    (void)state;
    enum { C = 4, SAMPLES = 3, LEAVES = 24 };
    double leaves[LEAVES * 2 * C], out[LEAVES * 2 * C], max_error = 0;
    static const size_t groups[] = {0, 2, 4, 8, 24};
    seed = 0;
    for (size_t k = 0; k < sizeof groups / sizeof groups[0]; k++) {
        const sim_reduce_shape s = {12, 2, groups[k], 2 * C, sim_merge_moments};
        sim_range u = sim_partition_range(sim_comm_partition(comm), 12);
        size_t per = groups[k] ? groups[k] : LEAVES;
        for (size_t l = 2 * u.lo; l < 2 * u.hi; l++)
            for (size_t c = 0; c < C; c++) {
                double mean = 0, v = 0;
                for (size_t x = 0; x < SAMPLES; x++)
                    mean += sin((double)(l * SAMPLES + x) + (double)c) / SAMPLES;
                for (size_t x = 0; x < SAMPLES; x++) {
                    double d = sin((double)(l * SAMPLES + x) + (double)c) - mean;
                    v += d * d / SAMPLES;
                }
                leaves[(l - 2 * u.lo) * 2 * C + c] = mean;
                leaves[(l - 2 * u.lo) * 2 * C + C + c] = v;
            }
        sim_comm_reduce_doubles(comm, &s, leaves, out);
        for (size_t g = 0; g < LEAVES / per; g++)
            for (size_t c = 0; c < C; c++) {
                double mean = 0, v = 0, n = (double)(per * SAMPLES);
                for (size_t x = g * per * SAMPLES; x < (g + 1) * per * SAMPLES; x++)
                    mean += sin((double)x + (double)c) / n;
                for (size_t x = g * per * SAMPLES; x < (g + 1) * per * SAMPLES; x++)
                    v += (sin((double)x + (double)c) - mean) *
                         (sin((double)x + (double)c) - mean) / SAMPLES;
                max_error = fmax(max_error, fabs(out[g * 2 * C + c] - mean));
                max_error = fmax(max_error, fabs(out[g * 2 * C + C + c] - v));
            }
    }
    assert_true(max_error < 1e-12);
}

static void rows_are_gathered_in_place_and_to_any_root(void **state)
{
    (void)state;
    bool ok = true;
    for (int root = 0; root < comm->size; root++)
        for (size_t n = 1; n <= 23; n++) {
            uint64_t all[24], one[24], local[24];
            size_t units = (n + 4) / 5; /* 1 unit on 4 ranks: three have no rows */
            sim_range u = sim_partition_range(sim_comm_partition(comm), units);
            size_t lo = u.lo * 5 < n ? u.lo * 5 : n, hi = u.hi * 5 < n ? u.hi * 5 : n;
            memset(all, 0xee, sizeof all);
            memset(one, 0xee, sizeof one);
            for (size_t r = lo; r < hi; r++)
                all[r] = local[r - lo] = r * 1000003;
            sim_comm_piece_rows(n % 3 ? 2 : 0);
            sim_comm_gather_rows(comm, units, 5, n, sizeof *all, all + lo, all);
            sim_comm_collect_rows(comm, root, units, 5, n, sizeof *one, local, one);
            for (size_t r = 0; r < 24; r++) {
                uint64_t expected = r < n ? r * 1000003 : 0xeeeeeeeeeeeeeeee;
                ok &= all[r] == expected && (comm->rank != root || one[r] == expected);
            }
        }
    sim_comm_piece_rows(0);
    assert_true(ok);
}

static void the_failing_rank_is_named_once(void **state)
{
    (void)state;
    bool ok = true;
    for (int bad = 0; bad < comm->size; bad++) {
        char expected[400];
        sim_status local = SIM_OK;
        sim_error_clear();
        if (comm->rank == bad)
            local =
                sim_error_begin(SIM_E_INPUT, __FILE__, __LINE__, "rank and file %d", bad);
        ok &= sim_comm_agree(comm, local) == SIM_E_INPUT;
        /* a second agreement does not repeat the prefix */
        ok &= sim_comm_agree(comm, SIM_E_INPUT) == SIM_E_INPUT;
        (void)snprintf(expected, sizeof expected,
                       comm->size > 1 ? "rank %d on " : "rank and", bad);
        ok &= strncmp(sim_error_message(), expected, strlen(expected)) == 0;
        const char *second = strstr(sim_error_message() + 1, "rank ");
        ok &= comm->size == 1 || (second && strncmp(second, "rank and file", 13) == 0);
        (void)snprintf(expected, sizeof expected, "rank and file %d", bad);
        ok &= strstr(sim_error_message(), expected) != NULL;
        /* nor does it if other context precedes the prefix */
        sim_error_prefix("z.h5: ");
        ok &= sim_comm_agree(comm, SIM_E_INPUT) == SIM_E_INPUT;
        ok &= strncmp(sim_error_message(), "z.h5: ", 6) == 0;
    }
    sim_error_clear();
    assert_true(ok);
}

static void integers_are_reduced_and_bytes_broadcast_or_combined(void **state)
{
    (void)state;
    int64_t maximum[9], minimum[9], sum[9], r = comm->rank, p = comm->size;
    double doubles[3] = {(double)r, -(double)r, 0.5};
    char text[100];
    bool ok = true;
    for (int64_t i = 0; i < 9; i++)
        maximum[i] = minimum[i] = sum[i] = (r + 1) * ((int64_t)1 << 40) + i;
    sim_comm_piece_rows(7);
    for (int root = 0; root < comm->size; root++) {
        for (int i = 0; i < 100; i++)
            text[i] = (char)(comm->rank == root ? i + root : 0);
        sim_comm_broadcast(comm, root, text, sizeof text);
        for (int i = 0; i < 100; i++)
            ok &= text[i] == (char)(i + root);
    }
    sim_comm_max_i64(comm, maximum, 9);
    sim_comm_min_i64(comm, minimum, 9);
    sim_comm_sum_i64(comm, sum, 9);
    sim_comm_max_f64(comm, doubles, 3);
    for (int i = 0; i < 100; i++) /* each byte is nonzero on one rank */
        text[i] = (char)(i % comm->size == comm->rank ? 255 - i : 0);
    sim_comm_or_bytes(comm, text, sizeof text);
    for (int i = 0; i < 100; i++)
        ok &= text[i] == (char)(255 - i);
    sim_comm_piece_rows(0);
    for (int64_t i = 0; i < 9; i++)
        ok &= maximum[i] == p * ((int64_t)1 << 40) + i &&
              minimum[i] == ((int64_t)1 << 40) + i &&
              sum[i] == p * (p + 1) / 2 * ((int64_t)1 << 40) + p * i;
    ok &= doubles[0] == (double)(p - 1) && doubles[1] == 0.0 && doubles[2] == 0.5;
    double seconds = sim_comm_seconds();
    uint64_t bytes = sim_comm_bytes();
    sim_comm_max_i64(comm, maximum, 9);
    ok &= p == 1 || (sim_comm_seconds() > seconds && sim_comm_bytes() == bytes + 72);
    assert_true(ok);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_special_values_and_unequal_ranges_match_one_rank),
        cmocka_unit_test(repeated_reductions_do_not_allocate),
        cmocka_unit_test(moments_are_those_of_all_samples),
        cmocka_unit_test(rows_are_gathered_in_place_and_to_any_root),
        cmocka_unit_test(the_failing_rank_is_named_once),
        cmocka_unit_test(integers_are_reduced_and_bytes_broadcast_or_combined),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 70;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
