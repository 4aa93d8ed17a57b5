/*
 * test_tree.c - the reduction tree: the same bits for every partition of the leaves.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"
#include "simile/tree.h"

enum { MAX_LEAVES = 64, MAX_PARTS = 9, WIDTH = 5 };

static float value(size_t leaf, size_t i)
{
    sim_random r = {
        .purpose = SIM_RANDOM_TEST, .sample = (uint32_t)leaf, .draw = (uint32_t)i};
    return sim_random_between(&r, -1, 1);
}

/* The definition: split [lo, hi) at lo + (hi - lo)/2, add left and right. */
static float reference_sum(size_t lo, size_t hi, size_t i)
{
    if (hi - lo == 1)
        return value(lo, i);
    size_t middle = lo + (hi - lo) / 2;
    return reference_sum(lo, middle, i) + reference_sum(middle, hi, i);
}

/* Reduces the leaves of one owner; its maximal nodes are stored at `partials`. */
static size_t reduce_range(size_t n_leaves, sim_range range, float *partials,
                           sim_range *nodes)
{
    sim_tree_stack stack;
    sim_tree_stack_begin(&stack, WIDTH, n_leaves, range, partials);
    for (size_t leaf = range.lo; leaf < range.hi; leaf++) {
        float *slot = sim_tree_stack_top(&stack);
        for (size_t i = 0; i < WIDTH; i++)
            slot[i] = value(leaf, i);
        sim_tree_stack_push(&stack);
    }
    size_t n = sim_tree_nodes(n_leaves, range, nodes);
    assert_int_equal(stack.height, n);
    return n;
}

static void any_partition_gives_the_bits_of_the_definition(void **state)
{
    (void)state;
    for (size_t v = 1; v <= MAX_LEAVES; v++)
        for (size_t p = 1; p <= MAX_PARTS; p++) {
            static float partials[MAX_PARTS * SIM_TREE_MAX_NODES * WIDTH];
            static double doubles[MAX_PARTS * SIM_TREE_MAX_NODES];
            static sim_range nodes[MAX_PARTS * SIM_TREE_MAX_NODES];
            size_t n = 0, covered = 0;
            for (size_t r = 0; r < p; r++) {
                sim_range part = sim_tree_part(v, p, r);
                assert_int_equal(part.lo, covered);
                covered = part.hi;
                n += reduce_range(v, part, partials + n * WIDTH, nodes + n);
            }
            assert_int_equal(covered, v);
            for (size_t j = 0; j < n; j++)
                doubles[j] = (double)partials[j * WIDTH];
            double out = 0;
            sim_tree_reduce_doubles(v, 1, nodes, n, doubles, sim_merge_sum, &out);
            const float *sum =
                sim_tree_reduce_floats(v, WIDTH, nodes, n, partials, WIDTH);
            for (size_t i = 0; i < WIDTH; i++) {
                float expected = reference_sum(0, v, i);
                assert_memory_equal(&sum[i], &expected, sizeof expected);
            }
            assert_true(out - (double)reference_sum(0, v, 0) < 1e-5 &&
                        out - (double)reference_sum(0, v, 0) > -1e-5);
        }
}

static void powers_of_two_give_single_nodes(void **state)
{
    (void)state;
    sim_range nodes[SIM_TREE_MAX_NODES];
    for (size_t v = 1; v <= 64; v *= 2)
        for (size_t p = 1; p <= v; p *= 2)
            for (size_t r = 0; r < p; r++)
                assert_int_equal(sim_tree_nodes(v, sim_tree_part(v, p, r), nodes), 1);
}

/*
 * The ranges of P = 2^k ranks are the nodes at depth k if P divides V, and for P = 1, 2 and 4.
 * Otherwise floor(r V / P) and the midpoints may differ, first for V = 11 and P = 8; ranks then
 * own several nodes.
 */
static void other_numbers_of_leaves_may_give_several_nodes(void **state)
{
    (void)state;
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t first_v = 0, first_p = 0, max_nodes = 0;
    for (size_t v = 1; v <= 256; v++)
        for (size_t p = 1; p <= v; p *= 2)
            for (size_t r = 0; r < p; r++) {
                size_t n = sim_tree_nodes(v, sim_tree_part(v, p, r), nodes);
                max_nodes = n > max_nodes ? n : max_nodes;
                if (n == 1)
                    continue;
                assert_true(p >= 8 && v % p != 0);
                if (first_v == 0) {
                    first_v = v;
                    first_p = p;
                }
            }
    assert_int_equal(first_v, 11);
    assert_int_equal(first_p, 8);
    assert_int_equal(max_nodes, 5);
}

/* Writes the maximal nodes of leaves [lo, hi), summed by the definition, to `out`. */
static void fill_nodes(size_t n_leaves, size_t lo, size_t hi, float *out)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = sim_tree_nodes(n_leaves, (sim_range){lo, hi}, nodes);
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < WIDTH; i++)
            out[j * WIDTH + i] = reference_sum(nodes[j].lo, nodes[j].hi, i);
}

/* Pushes the nodes of `step` leaves at a time into a buffer of the stated height and compares with
 * the nodes of the whole range. */
static void push_in_steps(size_t n_leaves, sim_range range, size_t step)
{
    enum { CAPACITY = 2 * SIM_TREE_MAX_NODES, BEYOND = 12345 };
    static float partials[(CAPACITY + 1) * WIDTH], expected[SIM_TREE_MAX_NODES * WIDTH];
    size_t depth = sim_tree_depth_in_steps(n_leaves, range, step);
    sim_range nodes[SIM_TREE_MAX_NODES];
    sim_tree_stack stack;

    assert_true(depth <= CAPACITY);
    partials[depth * WIDTH] = BEYOND;
    sim_tree_stack_begin(&stack, WIDTH, n_leaves, range, partials);
    for (size_t at = range.lo; at < range.hi; at += step) {
        size_t end = at + step < range.hi ? at + step : range.hi;
        fill_nodes(n_leaves, at, end, sim_tree_stack_top(&stack));
        sim_tree_stack_push_nodes(&stack, end);
    }
    size_t n = sim_tree_nodes(n_leaves, range, nodes);
    fill_nodes(n_leaves, range.lo, range.hi, expected);
    assert_int_equal(stack.height, n);
    assert_memory_equal(partials, expected, n * WIDTH * sizeof *expected);
    assert_true(partials[depth * WIDTH] == BEYOND);
}

static void nodes_of_several_leaves_give_the_bits_of_single_leaves(void **state)
{
    (void)state;
    for (size_t v = 1; v <= 40; v++)
        for (size_t lo = 0; lo < v; lo++)
            for (size_t hi = lo + 1; hi <= v; hi++)
                for (size_t step = 1; step <= hi - lo; step++)
                    push_in_steps(v, (sim_range){lo, hi}, step);
}

static void steps_of_one_leaf_have_the_height_of_the_stack(void **state)
{
    (void)state;
    for (size_t v = 1; v <= MAX_LEAVES; v++)
        for (size_t lo = 0; lo < v; lo++)
            assert_int_equal(sim_tree_depth_in_steps(v, (sim_range){lo, v}, 1),
                             sim_tree_depth(v, (sim_range){lo, v}));
}

static size_t log2_up(size_t v)
{
    size_t k = 0;
    while (((size_t)1 << k) < v)
        k++;
    return k;
}

static void the_stack_height_is_logarithmic(void **state)
{
    (void)state;
    for (size_t v = 1; v <= 256; v++) {
        assert_true(sim_tree_depth(v, (sim_range){0, v}) <= log2_up(v) + 1);
        for (size_t p = 1; p <= 9; p++)
            for (size_t r = 0; r < p; r++) {
                sim_range part = sim_tree_part(v, p, r);
                sim_range nodes[SIM_TREE_MAX_NODES];
                size_t depth = sim_tree_depth(v, part);
                assert_true(depth <= 2 * log2_up(v) + 1);
                assert_true(sim_tree_nodes(v, part, nodes) <= depth);
                assert_true((part.lo == part.hi) == (depth == 0));
            }
    }
}

static double reference_sum_double(size_t lo, size_t hi, size_t i)
{
    if (hi - lo == 1)
        return (double)value(lo, i) / 3;
    size_t middle = lo + (hi - lo) / 2;
    return reference_sum_double(lo, middle, i) + reference_sum_double(middle, hi, i);
}

/* Each part reduces its own nodes; the concatenated lists are then reduced, as in comm. */
static void doubles_have_the_bits_of_the_definition(void **state)
{
    (void)state;
    static double partials[MAX_LEAVES * WIDTH];
    static sim_range nodes[MAX_PARTS * SIM_TREE_MAX_NODES];
    for (size_t v = 1; v <= MAX_LEAVES; v++)
        for (size_t p = 1; p <= MAX_PARTS; p++) {
            size_t n = 0;
            double out[WIDTH];
            for (size_t r = 0; r < p; r++)
                n += sim_tree_nodes(v, sim_tree_part(v, p, r), nodes + n);
            for (size_t j = 0; j < n; j++)
                for (size_t i = 0; i < WIDTH; i++)
                    partials[j * WIDTH + i] =
                        reference_sum_double(nodes[j].lo, nodes[j].hi, i);
            sim_tree_reduce_doubles(v, WIDTH, nodes, n, partials, sim_merge_sum, out);
            for (size_t i = 0; i < WIDTH; i++) {
                double expected = reference_sum_double(0, v, i);
                assert_memory_equal(&out[i], &expected, sizeof expected);
            }
        }
}

/* Long vectors are added in chunks by several threads; nodes may have a stride. */
static void long_vectors_have_the_same_bits_on_any_number_of_threads(void **state)
{
    (void)state;
    enum { LEAVES = 6, LONG = 50001, STRIDE = LONG + 7 };
    float *partials = NULL;
    sim_range leaves[LEAVES];
    ASSERT_OK(sim_alloc(&partials, (size_t)LEAVES * STRIDE, "test/long"));
    for (int threads = 1; threads <= 3; threads++) {
        sim_threads_set(threads);
        for (size_t l = 0; l < LEAVES; l++) {
            leaves[l] = (sim_range){l, l + 1};
            for (size_t i = 0; i < LONG; i++)
                partials[l * STRIDE + i] = value(l, i);
        }
        const float *sum =
            sim_tree_reduce_floats(LEAVES, LONG, leaves, LEAVES, partials, STRIDE);
        assert_ptr_equal(sum, partials);
        for (size_t i = 0; i < LONG; i++) {
            float expected = reference_sum(0, LEAVES, i);
            assert_memory_equal(&sum[i], &expected, sizeof expected);
        }
    }
    sim_threads_set(0);
    sim_free(partials);
}

static void parts_are_contiguous_and_balanced(void **state)
{
    (void)state;
    const size_t counts[] = {0, 1, 1000003, SIZE_MAX / 2};
    for (size_t c = 0; c < 4; c++)
        for (size_t p = 1; p < 2000; p += 37) {
            size_t at = 0;
            for (size_t r = 0; r < p; r++) {
                sim_range part = sim_tree_part(counts[c], p, r);
                assert_true(part.lo == at && part.hi >= at);
                assert_true(part.hi - part.lo <= counts[c] / p + 1);
                at = part.hi;
            }
            assert_true(at == counts[c]);
        }
}

/* Compares with floor(rank * n / size) in integers. */
static void a_partition_covers_all_leaves_in_order_of_rank(void **state)
{
    (void)state;
    for (size_t size = 1; size <= MAX_PARTS; size++)
        for (size_t rank = 0; rank < size; rank++) {
            sim_range r = sim_partition_range((sim_partition){size, rank}, 23);
            assert_int_equal(r.lo, rank * 23 / size);
            assert_int_equal(r.hi, (rank + 1) * 23 / size);
        }
}

static void the_sum_of_one_leaf_keeps_negative_zero(void **state)
{
    (void)state;
    float partials[4] = {-0.0f};
    sim_range all = {0, 1};
    const float *sum = sim_tree_reduce_floats(1, 1, &all, 1, partials, 1);
    float expected = -0.0f;
    assert_memory_equal(sum, &expected, sizeof expected);
}

static void merged_moments_equal_those_of_all_samples(void **state)
{
    (void)state;
    enum { LEAVES = 7, LEAF_SAMPLES = 11 };
    double partials[LEAVES * 2], out[2], sum = 0, squares = 0;
    sim_range ranges[LEAVES];
    for (size_t l = 0; l < LEAVES; l++) {
        double mean = 0, m2 = 0;
        for (size_t i = 0; i < LEAF_SAMPLES; i++)
            mean += (double)value(l, i) / LEAF_SAMPLES;
        for (size_t i = 0; i < LEAF_SAMPLES; i++)
            m2 += ((double)value(l, i) - mean) * ((double)value(l, i) - mean);
        partials[2 * l] = mean;
        partials[2 * l + 1] = m2 / LEAF_SAMPLES;
        ranges[l] = (sim_range){l, l + 1};
    }
    sim_tree_reduce_doubles(LEAVES, 2, ranges, LEAVES, partials, sim_merge_moments, out);
    for (size_t l = 0; l < LEAVES; l++)
        for (size_t i = 0; i < LEAF_SAMPLES; i++) {
            sum += (double)value(l, i);
            squares += (double)value(l, i) * (double)value(l, i);
        }
    double n = LEAVES * LEAF_SAMPLES, mean = sum / n,
           variance = squares / n - mean * mean;
    assert_true(out[0] - mean < 1e-12 && mean - out[0] < 1e-12);
    assert_true(out[1] / LEAVES - variance < 1e-12 && variance - out[1] / LEAVES < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_partition_gives_the_bits_of_the_definition),
        cmocka_unit_test(powers_of_two_give_single_nodes),
        cmocka_unit_test(other_numbers_of_leaves_may_give_several_nodes),
        cmocka_unit_test(nodes_of_several_leaves_give_the_bits_of_single_leaves),
        cmocka_unit_test(steps_of_one_leaf_have_the_height_of_the_stack),
        cmocka_unit_test(the_stack_height_is_logarithmic),
        cmocka_unit_test(doubles_have_the_bits_of_the_definition),
        cmocka_unit_test(long_vectors_have_the_same_bits_on_any_number_of_threads),
        cmocka_unit_test(parts_are_contiguous_and_balanced),
        cmocka_unit_test(a_partition_covers_all_leaves_in_order_of_rank),
        cmocka_unit_test(the_sum_of_one_leaf_keeps_negative_zero),
        cmocka_unit_test(merged_moments_equal_those_of_all_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
