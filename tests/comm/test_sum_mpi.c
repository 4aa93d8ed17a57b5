/*
 * test_sum_mpi.c - sums, reductions, gathers and agreement on 1 to 4 ranks. Each rank computes the
 * expected values from all inputs.
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/memory.h"
#include "simile/random.h"

static const sim_comm *comm;

static float value(size_t leaf, size_t i)
{
    sim_random r = {
        .purpose = SIM_RANDOM_TEST, .sample = (uint32_t)leaf, .draw = (uint32_t)i};
    return sim_random_between(&r, -1, 1);
}

static float reference_sum(size_t lo, size_t hi, size_t i)
{
    if (hi - lo == 1)
        return value(lo, i);
    size_t middle = lo + (hi - lo) / 2;
    return reference_sum(lo, middle, i) + reference_sum(middle, hi, i);
}

static double reference_sum_doubles(size_t base, size_t lo, size_t hi, size_t i)
{
    if (hi - lo == 1)
        return (double)value(base + lo, i);
    size_t middle = lo + (hi - lo) / 2;
    return reference_sum_doubles(base, lo, middle, i) +
           reference_sum_doubles(base, middle, hi, i);
}

static sim_range local_range(size_t n)
{
    return sim_partition_range(sim_comm_partition(comm), n);
}

static bool sum_is_right(size_t leaves, size_t n)
{
    float *nodes = NULL;
    sim_tree_stack stack;
    sim_range local = local_range(leaves);
    size_t capacity = sim_comm_sum_leaves_capacity(sim_comm_partition(comm), leaves, n);
    size_t depth = sim_tree_depth(leaves, local) * n;
    ASSERT_OK(sim_alloc(&nodes, (capacity > depth ? capacity : depth) + n, "test/sum"));
    sim_tree_stack_begin(&stack, n, leaves, local, nodes);
    for (size_t leaf = local.lo; leaf < local.hi; leaf++) {
        float *slot = sim_tree_stack_top(&stack);
        for (size_t i = 0; i < n; i++)
            slot[i] = value(leaf, i);
        sim_tree_stack_push(&stack);
    }
    sim_comm_sum_leaves(comm, leaves, n, nodes);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        float expected = reference_sum(0, leaves, i);
        ok &= memcmp(&nodes[i], &expected, sizeof expected) == 0;
    }
    sim_free(nodes);
    return ok;
}

static void sums_have_the_bits_of_one_rank(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2,  3,  4,  5,  6,  7,  8,
                                    9, 12, 16, 24, 31, 32, 33, 64};
    bool ok = true;
    for (size_t piece = 0; piece <= 7; piece += 7) {
        sim_comm_piece_rows(piece);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (size_t n = 1; n < 40; n += 12)
                ok &= sum_is_right(counts[c], n);
    }
    sim_comm_piece_rows(0);
    assert_true(ok);
}

static bool reduction_is_right(const sim_reduce_shape *s)
{
    double leaves[64 * 2], out[64 * 2];
    sim_range units = local_range(s->n_units);
    size_t lo = units.lo * s->leaves_per_unit, hi = units.hi * s->leaves_per_unit;
    size_t total = s->n_units * s->leaves_per_unit;
    size_t per_group = s->leaves_per_group ? s->leaves_per_group : total;
    for (size_t l = lo; l < hi; l++)
        for (size_t i = 0; i < s->width; i++)
            leaves[(l - lo) * s->width + i] = (double)value(l, i);
    sim_comm_reduce_doubles(comm, s, leaves, out);
    bool ok = sim_reduce_groups(s) == total / per_group;
    for (size_t g = 0; g < total / per_group; g++)
        for (size_t i = 0; i < s->width; i++)
            ok &= out[g * s->width + i] ==
                  reference_sum_doubles(g * per_group, 0, per_group, i);
    return ok;
}

static void reductions_have_the_bits_of_one_rank(void **state)
{
    (void)state;
    bool ok = true;
    for (size_t units = 1; units <= 16; units++)
        for (size_t per_unit = 1; per_unit <= 4; per_unit++)
            for (size_t group = 0; group <= units * per_unit; group++) {
                const sim_reduce_shape s = {.n_units = units,
                                            .leaves_per_unit = per_unit,
                                            .leaves_per_group = group,
                                            .width = 2,
                                            .merge = sim_merge_sum};
                bool fits =
                    group == 0 || ((units * per_unit) % group == 0 &&
                                   (group % per_unit == 0 || per_unit % group == 0));
                ok &= !fits || reduction_is_right(&s);
            }
    assert_true(ok);
}

/* Merged moments depend on the order of merges. */
static void reductions_of_nodes_have_the_bits_of_reductions_of_leaves(void **state)
{
    (void)state;
    enum { WIDTH = 4 };
    bool ok = true;
    for (size_t n = 1; n <= 33; n++) {
        double leaves[33 * WIDTH], nodes[33 * WIDTH], expected[WIDTH], out[WIDTH];
        const sim_range local = local_range(n);
        sim_range local_nodes[SIM_TREE_MAX_NODES], ranges[33];
        for (size_t l = 0; l < n; l++) {
            ranges[l] = (sim_range){l, l + 1};
            for (size_t i = 0; i < WIDTH; i++)
                leaves[l * WIDTH + i] = (double)value(l, i);
        }
        size_t n_local_nodes = sim_tree_nodes(n, local, local_nodes);
        for (size_t j = 0; j < n_local_nodes; j++) {
            size_t count = local_nodes[j].hi - local_nodes[j].lo;
            double part[33 * WIDTH];
            memcpy(part, leaves + local_nodes[j].lo * WIDTH,
                   count * WIDTH * sizeof *part);
            sim_tree_reduce_doubles(count, WIDTH, ranges, count, part, sim_merge_moments,
                                    nodes + j * WIDTH);
        }
        sim_tree_reduce_doubles(n, WIDTH, ranges, n, leaves, sim_merge_moments, expected);
        sim_comm_reduce_nodes(comm, n, WIDTH, nodes, sim_merge_moments, out);
        ok &= memcmp(out, expected, sizeof expected) == 0;
    }
    assert_true(ok);
}

static void rows_are_gathered_in_global_order(void **state)
{
    (void)state;
    enum { ROW = 3 };
    bool ok = true;
    for (size_t n = 1; n < 50; n += 6)
        for (size_t unit = 1; unit < 9; unit += 3) {
            float local[64 * ROW], all[64 * ROW], collected[64 * ROW];
            size_t units = (n + unit - 1) / unit;
            sim_range u = local_range(units);
            size_t lo = u.lo * unit < n ? u.lo * unit : n,
                   hi = u.hi * unit < n ? u.hi * unit : n;
            for (size_t r = lo; r < hi; r++)
                for (size_t i = 0; i < ROW; i++)
                    local[(r - lo) * ROW + i] = value(r, i);
            sim_comm_piece_rows(n % 2 ? 7 : 0);
            sim_comm_gather_rows(comm, units, unit, n, sizeof(float) * ROW, local, all);
            sim_comm_collect_rows(comm, 0, units, unit, n, sizeof(float) * ROW, local,
                                  collected);
            for (size_t r = 0; r < n; r++)
                for (size_t i = 0; i < ROW; i++) {
                    ok &= all[r * ROW + i] == value(r, i);
                    ok &= comm->rank != 0 || collected[r * ROW + i] == value(r, i);
                }
        }
    sim_comm_piece_rows(0);
    assert_true(ok);
}

static void all_ranks_receive_the_message_of_the_lowest_failing_rank(void **state)
{
    (void)state;
    bool ok = sim_comm_agree(comm, SIM_OK) == SIM_OK;
    for (int bad = 0; bad < comm->size; bad++) {
        sim_status local = SIM_OK;
        char expected[32];
        (void)snprintf(expected, sizeof expected, "failure %d", bad);
        if (comm->rank >= bad)
            local = sim_error_begin(comm->rank == bad ? SIM_E_DATA : SIM_E_IO, __FILE__,
                                    __LINE__, "failure %d", comm->rank);
        ok &= sim_comm_agree(comm, local) == SIM_E_DATA;
        ok &= strstr(sim_error_message(), expected) != NULL;
        ok &= comm->size == 1 || strncmp(sim_error_message(), "rank ", 5) == 0;
    }
    assert_true(ok);
}

static void the_first_ranks_are_a_communicator(void **state)
{
    const sim_comm *all = comm;
    for (int n = 1; n <= all->size; n++) {
        sim_comm *part = NULL;
        assert_int_equal(sim_comm_create(all, n, &part), SIM_OK);
        assert_true((part != NULL) == (all->rank < n));
        if (part) {
            assert_int_equal(part->size, n);
            comm = part;
            sums_have_the_bits_of_one_rank(state);
            reductions_have_the_bits_of_one_rank(state);
            rows_are_gathered_in_global_order(state);
            all_ranks_receive_the_message_of_the_lowest_failing_rank(state);
            comm = all;
        }
        sim_comm_destroy(&part);
        assert_null(part);
        assert_int_equal(sim_comm_agree(all, SIM_OK), SIM_OK);
    }
}

/* The leaves of one node are reduced to one vector; one rank sends nothing but is counted. */
static void contributions_to_gathers_are_counted(void **state)
{
    (void)state;
    enum { ROWS = 2, ROW_BYTES = 12, WIDTH = 2, UNITS = 64 };
    const size_t size = (size_t)comm->size;
    const sim_reduce_shape shape = {
        .n_units = size, .leaves_per_unit = 1, .width = WIDTH, .merge = sim_merge_sum};
    double leaves[WIDTH] = {1, 2}, out[WIDTH];
    char local[ROWS * ROW_BYTES] = {0}, all[UNITS * ROWS * ROW_BYTES];
    const sim_comm_traffic before = sim_comm_traffic_total();

    sim_comm_gather_rows(comm, size, ROWS, size * ROWS, ROW_BYTES, local, all);
    sim_comm_reduce_doubles(comm, &shape, leaves, out);
    sim_comm_reduce_nodes(comm, size, WIDTH, leaves, sim_merge_sum, out);
    const sim_comm_traffic after = sim_comm_traffic_total();
    assert_int_equal(after.gathers - before.gathers, 1);
    assert_int_equal(after.gathered_bytes - before.gathered_bytes, ROWS * ROW_BYTES);
    assert_int_equal(after.reductions - before.reductions, 2);
    assert_int_equal(after.reduced_bytes - before.reduced_bytes,
                     2 * WIDTH * sizeof(double));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_bits_of_one_rank),
        cmocka_unit_test(reductions_have_the_bits_of_one_rank),
        cmocka_unit_test(reductions_of_nodes_have_the_bits_of_reductions_of_leaves),
        cmocka_unit_test(rows_are_gathered_in_global_order),
        cmocka_unit_test(all_ranks_receive_the_message_of_the_lowest_failing_rank),
        cmocka_unit_test(the_first_ranks_are_a_communicator),
        cmocka_unit_test(contributions_to_gathers_are_counted),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 70;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
