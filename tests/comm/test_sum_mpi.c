/*
 * test_sum_mpi.c - sums, folds, gathers and agreement on 1 to 4 ranks against plain folds of
 * everything on each rank.
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

static float plain(size_t lo, size_t hi, size_t i)
{
    if (hi - lo == 1)
        return value(lo, i);
    size_t middle = lo + (hi - lo) / 2;
    return plain(lo, middle, i) + plain(middle, hi, i);
}

static double plain_doubles(size_t base, size_t lo, size_t hi, size_t i)
{
    if (hi - lo == 1)
        return (double)value(base + lo, i);
    size_t middle = lo + (hi - lo) / 2;
    return plain_doubles(base, lo, middle, i) + plain_doubles(base, middle, hi, i);
}

static sim_range mine_of(size_t n)
{
    return sim_partition_range(sim_comm_partition(comm), n);
}

static bool sum_is_right(size_t leaves, size_t n)
{
    float *nodes = NULL;
    sim_tree_stack f;
    sim_range mine = mine_of(leaves);
    size_t room = sim_comm_sum_leaves_capacity(sim_comm_partition(comm), leaves, n);
    size_t depth = sim_tree_depth(leaves, mine) * n;
    ASSERT_OK(sim_alloc(&nodes, (room > depth ? room : depth) + n, "test/sum"));
    sim_tree_stack_begin(&f, n, leaves, mine, nodes);
    for (size_t leaf = mine.lo; leaf < mine.hi; leaf++) {
        float *slot = sim_tree_stack_top(&f);
        for (size_t i = 0; i < n; i++)
            slot[i] = value(leaf, i);
        sim_tree_stack_push(&f);
    }
    sim_comm_sum_leaves(comm, leaves, n, nodes);
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        float want = plain(0, leaves, i);
        good &= memcmp(&nodes[i], &want, sizeof want) == 0;
    }
    sim_free(nodes);
    return good;
}

static void sums_have_the_bits_of_one_rank(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2,  3,  4,  5,  6,  7,  8,
                                    9, 12, 16, 24, 31, 32, 33, 64};
    bool good = true;
    for (size_t piece = 0; piece <= 7; piece += 7) {
        sim_comm_piece_rows(piece);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (size_t n = 1; n < 40; n += 12)
                good &= sum_is_right(counts[c], n);
    }
    sim_comm_piece_rows(0);
    assert_true(good);
}

static bool fold_is_right(const sim_reduce_shape *s)
{
    double leaves[64 * 2], out[64 * 2];
    sim_range units = mine_of(s->n_units);
    size_t lo = units.lo * s->leaves_per_unit, hi = units.hi * s->leaves_per_unit;
    size_t total = s->n_units * s->leaves_per_unit;
    size_t per_group = s->leaves_per_group ? s->leaves_per_group : total;
    for (size_t l = lo; l < hi; l++)
        for (size_t i = 0; i < s->width; i++)
            leaves[(l - lo) * s->width + i] = (double)value(l, i);
    sim_comm_reduce_doubles(comm, s, leaves, out);
    bool good = sim_reduce_groups(s) == total / per_group;
    for (size_t g = 0; g < total / per_group; g++)
        for (size_t i = 0; i < s->width; i++)
            good &=
                out[g * s->width + i] == plain_doubles(g * per_group, 0, per_group, i);
    return good;
}

static void folds_have_the_bits_of_one_rank(void **state)
{
    (void)state;
    bool good = true;
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
                good &= !fits || fold_is_right(&s);
            }
    assert_true(good);
}

/* Moments do not add up the same in another order. */
static void folds_of_nodes_have_the_bits_of_folds_of_leaves(void **state)
{
    (void)state;
    enum { WIDTH = 4 };
    bool good = true;
    for (size_t n = 1; n <= 33; n++) {
        double leaves[33 * WIDTH], nodes[33 * WIDTH], want[WIDTH], out[WIDTH];
        const sim_range mine = mine_of(n);
        sim_range mines[SIM_TREE_MAX_NODES], ranges[33];
        for (size_t l = 0; l < n; l++) {
            ranges[l] = (sim_range){l, l + 1};
            for (size_t i = 0; i < WIDTH; i++)
                leaves[l * WIDTH + i] = (double)value(l, i);
        }
        size_t own = sim_tree_nodes(n, mine, mines);
        for (size_t j = 0; j < own; j++) {
            size_t count = mines[j].hi - mines[j].lo;
            double part[33 * WIDTH];
            memcpy(part, leaves + mines[j].lo * WIDTH, count * WIDTH * sizeof *part);
            sim_tree_reduce_doubles(count, WIDTH, ranges, count, part, sim_merge_moments,
                                    nodes + j * WIDTH);
        }
        sim_tree_reduce_doubles(n, WIDTH, ranges, n, leaves, sim_merge_moments, want);
        sim_comm_reduce_nodes(comm, n, WIDTH, nodes, sim_merge_moments, out);
        good &= memcmp(out, want, sizeof want) == 0;
    }
    assert_true(good);
}

static void rows_arrive_in_global_order(void **state)
{
    (void)state;
    enum { ROW = 3 };
    bool good = true;
    for (size_t n = 1; n < 50; n += 6)
        for (size_t unit = 1; unit < 9; unit += 3) {
            float mine[64 * ROW], all[64 * ROW], one[64 * ROW];
            size_t units = (n + unit - 1) / unit;
            sim_range u = mine_of(units);
            size_t lo = u.lo * unit < n ? u.lo * unit : n,
                   hi = u.hi * unit < n ? u.hi * unit : n;
            for (size_t r = lo; r < hi; r++)
                for (size_t i = 0; i < ROW; i++)
                    mine[(r - lo) * ROW + i] = value(r, i);
            sim_comm_piece_rows(n % 2 ? 7 : 0);
            sim_comm_gather_rows(comm, units, unit, n, sizeof(float) * ROW, mine, all);
            sim_comm_collect_rows(comm, 0, units, unit, n, sizeof(float) * ROW, mine,
                                  one);
            for (size_t r = 0; r < n; r++)
                for (size_t i = 0; i < ROW; i++) {
                    good &= all[r * ROW + i] == value(r, i);
                    good &= comm->rank != 0 || one[r * ROW + i] == value(r, i);
                }
        }
    sim_comm_piece_rows(0);
    assert_true(good);
}

static void all_ranks_learn_the_lowest_failing_story(void **state)
{
    (void)state;
    bool good = sim_comm_agree(comm, SIM_OK) == SIM_OK;
    for (int bad = 0; bad < comm->size; bad++) {
        sim_status mine = SIM_OK;
        char want[32];
        (void)snprintf(want, sizeof want, "trouble %d", bad);
        if (comm->rank >= bad)
            mine = sim_error_begin(comm->rank == bad ? SIM_E_DATA : SIM_E_IO, __FILE__,
                                   __LINE__, "trouble %d", comm->rank);
        good &= sim_comm_agree(comm, mine) == SIM_E_DATA;
        good &= strstr(sim_error_message(), want) != NULL;
        good &= comm->size == 1 || strncmp(sim_error_message(), "rank ", 5) == 0;
    }
    assert_true(good);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_bits_of_one_rank),
        cmocka_unit_test(folds_have_the_bits_of_one_rank),
        cmocka_unit_test(folds_of_nodes_have_the_bits_of_folds_of_leaves),
        cmocka_unit_test(rows_arrive_in_global_order),
        cmocka_unit_test(all_ranks_learn_the_lowest_failing_story),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 70;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
