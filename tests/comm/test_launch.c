/*
 * test_launch.c - N singletons are noticed from the environment, plain starts are not refused.
 */
#include "simile_test.h"

#include "private.h"

static long launched(const char *const *env, sim_start *how)
{
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE", "PMI_SIZE",     "PMIX_RANK",    "SLURM_STEP_ID",
        "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_PROCID", "PMI_RANK",
        "OMPI_MCA_pmix"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unsetenv(names[i]);
    for (; *env; env += 2)
        (void)setenv(env[0], env[1], 1);
    return sim_comm_launched(how);
}

static void the_environment_tells_how_many_were_started(void **state)
{
    (void)state;
    static const struct {
        long n;
        sim_start how;
        const char *const env[9];
    } cases[] = {
        {1, SIM_START_ALONE, {NULL}},
        /* ./simile in a 4-task sbatch allocation */
        {1, SIM_START_ALONE, {"SLURM_NTASKS", "4", "SLURM_PROCID", "0", NULL}},
        {1, SIM_START_ALONE, {"SLURM_STEP_NUM_TASKS", "4", NULL}},
        {4, SIM_START_SRUN, {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "4", NULL}},
        {4,
         SIM_START_SRUN,
         {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "4", "PMI_SIZE", "4", NULL}},
        /* mpirun -np 1 on a daemon that srun started */
        {1,
         SIM_START_ALONE,
         {"OMPI_COMM_WORLD_SIZE", "1", "SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS",
          "2"}},
        {4, SIM_START_MPIRUN, {"OMPI_COMM_WORLD_SIZE", "4", NULL}},
        {8, SIM_START_MPIRUN, {"PMI_SIZE", "8", NULL}},
        {3, SIM_START_MPIRUN, {"PMIX_RANK", "2", NULL}},
        {1, SIM_START_ALONE, {"OMPI_COMM_WORLD_SIZE", "four", NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_start how;
        assert_int_equal(launched(cases[i].env, &how), cases[i].n);
        assert_int_equal(how, cases[i].how);
    }
}

static void processes_that_cannot_find_each_other_are_noticed(void **state)
{
    (void)state;
    static const struct {
        bool scattered;
        const char *const env[7];
    } cases[] = {
        {false, {NULL}},
        {false, {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "1", NULL}},
        {true, {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "2", NULL}},
        {false,
         {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "2", "PMIX_RANK", "0", NULL}},
        {false,
         {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "2", "PMI_RANK", "0", NULL}},
        {false,
         {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "2", "OMPI_MCA_pmix", "s1",
          NULL}},
        {false, {"OMPI_COMM_WORLD_SIZE", "2", NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_start how;
        (void)launched(cases[i].env, &how);
        assert_int_equal(sim_comm_is_scattered(), cases[i].scattered);
    }
}

/* PMI_SIZE is what MPICH's mpirun would set; Open MPI starts as a world of one. */
static void singletons_are_refused_with_the_command_to_type(void **state)
{
    (void)state;
    const char *const env[] = {"PMI_SIZE", "4", NULL};
    const sim_comm *c = NULL;
    char name[] = "simile pretrain", *args[] = {name, NULL}, **argv = args;
    int argc = 1;
    sim_start how;
    (void)launched(env, &how);
    ASSERT_REFUSED(sim_comm_begin(&argc, &argv, &c), SIM_E_USAGE,
                   "mpirun -np 4 simile pretrain");
    assert_null(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_tells_how_many_were_started),
        cmocka_unit_test(processes_that_cannot_find_each_other_are_noticed),
        cmocka_unit_test(singletons_are_refused_with_the_command_to_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
