/*
 * test_scalar.c - the gradient of a trained number on its way through the tree.
 */
#include "simile_test.h"

#include "scalar.h"

#include "simile/tree.h"

#include <math.h>
#include <string.h>

enum { MOST_BLOCKS = 9, STRIDE = 3, AT = 1 };

/* What `ranks` ranks hand to the tree, summed by it. */
static float sum_of(size_t n_blocks, size_t ranks, double value)
{
    sim_range nodes[MOST_BLOCKS * SIM_TREE_MAX_NODES];
    float grads[SIM_TREE_MAX_NODES * STRIDE], leaves[MOST_BLOCKS * SIM_TREE_MAX_NODES];
    size_t n = 0;

    for (size_t r = 0; r < ranks; r++) {
        const sim_batch_shape s = {.n_blocks = n_blocks,
                                   .blocks = sim_tree_part(n_blocks, ranks, r),
                                   .views = 2,
                                   .slots = 4};
        size_t have = sim_tree_nodes(n_blocks, s.blocks, nodes + n);
        sim_scalar_gradient(&s, value, AT, grads, STRIDE);
        for (size_t j = 0; j < have; j++)
            leaves[n + j] = grads[j * STRIDE + AT];
        n += have;
    }
    return *sim_tree_reduce_floats(n_blocks, 1, nodes, n, leaves, 1);
}

static void it_is_the_value_itself_on_any_number_of_ranks(void **state)
{
    (void)state;
    static const double values[] = {1.5, -3e-5, 0.0, -0.0};
    for (size_t blocks = 1; blocks <= MOST_BLOCKS; blocks++)
        for (size_t ranks = 1; ranks <= blocks; ranks++)
            for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
                float got = sum_of(blocks, ranks, values[i]), want = (float)values[i];
                if (memcmp(&got, &want, sizeof got) != 0)
                    fail_msg("%g of %zu blocks on %zu ranks is %g", values[i], blocks,
                             ranks, (double)got);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_value_itself_on_any_number_of_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
