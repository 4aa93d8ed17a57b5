/*
 * test_micro_batch_mpi.c - every row of methods.def on 1 to 4 ranks: a step in micro-batches has the
 * bits of a step without, in loss, gradient, weights, running statistics and queue.
 *
 * simile-test: timeout 600
 */
#include "step_hash.h"

#include "simile/kernel.h"

static const sim_comm *comm;

/* Batch norm groups and micro-batches, in images. */
static const struct {
    sim_batchnorm_options bn;
    size_t micro_batch;
} divisions[] = {
    {{.group = BLOCK}, BLOCK},
    {{.group = BLOCK}, 2 * BLOCK}, /* the second micro-batch of three blocks is smaller */
    {{.group = BLOCK, .views = SIM_BN_VIEWS_JOINT}, BLOCK},
    {{.group = 2 * BLOCK}, 2 * BLOCK}, /* on one rank: others have no whole groups */
};
enum { DIVISIONS = sizeof divisions / sizeof divisions[0] };

static void check_case(const method_case *c)
{
    for (size_t i = 0; i < DIVISIONS; i++) {
        sim_method_env env = case_env(comm);
        env.batchnorm = &divisions[i].bn;
        if ((divisions[i].bn.group > BLOCK && comm->size > 1) || (i > 0 && !c->defaults))
            continue;
        trainer whole = trainer_create_in(&env, c);
        env.micro_batch = divisions[i].micro_batch;
        trainer divided = trainer_create_in(&env, c);
        for (uint32_t step = 0; step < STEPS; step++) {
            const step_hash want = run_step(&whole, step), got = run_step(&divided, step);
            const char *differs = step_hash_difference(&got, &want);
            if (differs)
                fail_msg("%s, group %d, micro-batch %zu, step %u, rank %d of %d: the %s "
                         "differs",
                         c->name, (int)divisions[i].bn.group, env.micro_batch, step,
                         comm->rank, comm->size, differs);
        }
        trainer_destroy(&whole);
        trainer_destroy(&divided);
    }
}

static void every_method_has_the_same_bits_in_micro_batches(void **state)
{
    (void)state;
    for_each_case(check_case);
}

/* 6 blocks: the largest share of 2 ranks has 3, that of 4 ranks 2. */
static void a_share_that_fits_passes_at_once(void **state)
{
    (void)state;
    static const size_t expected[][3] = {
        /* ranks, images, blocks */
        {1, 0, 0},         {1, 4 * BLOCK, 4}, {1, 6 * BLOCK, 0}, {2, 2 * BLOCK, 2},
        {2, 3 * BLOCK, 0}, {4, BLOCK, 1},     {4, 2 * BLOCK, 0}, {6, BLOCK, 0}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const sim_method_env env = {.partition = {.size = expected[i][0]},
                                    .batch = BATCH,
                                    .block = BLOCK,
                                    .micro_batch = expected[i][1]};
        assert_int_equal(sim_method_micro_blocks(&env), expected[i][2]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_has_the_same_bits_in_micro_batches),
        cmocka_unit_test(a_share_that_fits_passes_at_once),
    };
    if (sim_kernels_pick("auto") != SIM_OK ||
        sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
