/*
 * test_methods_mpi.c - every row of methods.def on 1 to 4 ranks: loss, gradient and state of each
 * step have the bits of a single rank, whether rows are gathered or streamed, and a method restored from its saved state continues with
 * the bits of the original.
 *
 * simile-test: timeout 600
 */
#include "step_hash.h"

#include "simile/kernel.h"

static const sim_comm *comm;
static const sim_comm alone = {.rank = 0, .size = 1};

/* ---- results ---- */

/* The steps of a case on a single rank, on all ranks, on all ranks with streamed rows, and by a method that was created from scratch and
 * restored from the state of all ranks before the last step. */
typedef struct {
    char name[sizeof((method_case *)NULL)->name];
    step_hash one[STEPS], all[STEPS], streamed[STEPS], restored;
} case_result;

enum { MAX_CASES = 512 };
static case_result results[MAX_CASES];
static int n_results, n_references;

static case_result *next_result(int *n)
{
    if (*n == MAX_CASES)
        fail_msg("more than %d cases", MAX_CASES);
    return &results[(*n)++];
}

/* Cases are divided over the ranks. */
static void compute_reference(const method_case *c)
{
    int i = n_references;
    case_result *r = next_result(&n_references);
    if (i % comm->size != comm->rank)
        return;
    trainer t = trainer_create(&alone, c);
    for (uint32_t step = 0; step < STEPS; step++)
        r->one[step] = run_step(&t, step);
    trainer_destroy(&t);
}

static void run_streamed(const method_case *c, case_result *r)
{
    sim_method_env env = case_env(comm);
    env.gather = sim_method_gather(c->row, &c->options, SIM_GATHER_STREAM);
    trainer t = trainer_create_in(&env, c);
    for (uint32_t step = 0; step < STEPS; step++)
        r->streamed[step] = run_step(&t, step);
    trainer_destroy(&t);
}

static void run_on_all_ranks(const method_case *c)
{
    int i = n_results;
    case_result *r = next_result(&n_results);
    trainer t = trainer_create(comm, c);

    memcpy(r->name, c->name, sizeof r->name);
    sim_comm_broadcast(comm, i % comm->size, r->one, sizeof r->one);
    for (uint32_t step = 0; step < LAST; step++)
        r->all[step] = run_step(&t, step);
    saved_state saved = state_save(&t);
    r->all[LAST] = run_step(&t, LAST);
    trainer_destroy(&t);
    t = trainer_create(comm, c);
    state_restore(&t, &saved);
    r->restored = run_step(&t, LAST);
    trainer_destroy(&t);
    state_destroy(&saved);
    run_streamed(c, r);
}

static int run_all_cases(void **state)
{
    (void)state;
    for_each_case(compute_reference);
    for_each_case(run_on_all_ranks);
    return 0;
}

/* ---- tests ---- */

static void expect_same(const case_result *r, uint32_t step, const step_hash *got,
                        const step_hash *want)
{
    const char *differs = step_hash_difference(got, want);
    if (differs)
        fail_msg("%s, step %u, rank %d of %d: the %s differs", r->name, step, comm->rank,
                 comm->size, differs);
}

static void every_method_has_the_same_bits_on_any_number_of_ranks(void **state)
{
    (void)state;
    for (int i = 0; i < n_results; i++)
        for (uint32_t step = 0; step < STEPS; step++)
            expect_same(&results[i], step, &results[i].all[step], &results[i].one[step]);
}

static void every_method_has_the_same_bits_with_streamed_rows(void **state)
{
    (void)state;
    for (int i = 0; i < n_results; i++)
        for (uint32_t step = 0; step < STEPS; step++)
            expect_same(&results[i], step, &results[i].streamed[step],
                        &results[i].one[step]);
}

static void a_restored_method_continues_with_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < n_results; i++)
        expect_same(&results[i], LAST, &results[i].restored, &results[i].all[LAST]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_has_the_same_bits_on_any_number_of_ranks),
        cmocka_unit_test(every_method_has_the_same_bits_with_streamed_rows),
        cmocka_unit_test(a_restored_method_continues_with_the_same_bits),
    };
    if (sim_kernels_pick("auto") != SIM_OK ||
        sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, run_all_cases, NULL);
    sim_comm_end();
    return failed != 0;
}
