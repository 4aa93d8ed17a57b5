/*
 * test_launch.c - detection of N singletons from the environment, and the deadline for the start.
 */
#include "simile_test.h"

#include "private.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void the_number_of_processes_follows_from_the_environment(void **state)
{
    (void)state;
    static const struct {
        long n;
        sim_start how;
        const char *const env[9];
    } cases[] = {
        {1, SIM_START_ALONE, {NULL}},
        /* started directly in an allocation of 4 tasks */
        {1, SIM_START_ALONE, {"SLURM_NTASKS", "4", "SLURM_PROCID", "0", NULL}},
        {1, SIM_START_ALONE, {"SLURM_STEP_NUM_TASKS", "4", NULL}},
        {4, SIM_START_SRUN, {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "4", NULL}},
        {4,
         SIM_START_SRUN,
         {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "4", "PMI_SIZE", "4", NULL}},
        /* mpirun -np 1, whose daemons srun started */
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

static void processes_that_cannot_connect_are_detected(void **state)
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

/* mpirun of MPICH sets PMI_SIZE; Open MPI then starts as a world of size 1. */
static void singletons_are_refused_with_the_right_command(void **state)
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

static void fill_pipe(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(fd, "", 1) == 1)
        continue;
    assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
}

/* Exit code of a child process that begins a deadline and ends it in time or never; is_full: its stderr is
 * a full pipe that nobody reads until it has ended. */
static int run_deadline(bool in_time, bool is_full, char output[512])
{
    int ends[2], status = 0;
    size_t used = 0;
    ssize_t n = 0;
    assert_int_equal(pipe(ends), 0);
    if (is_full)
        fill_pipe(ends[1]);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        sim_comm_deadline_begin(0.1, "replaced");
        sim_comm_deadline_begin(0, "never");
        sim_comm_deadline_begin(in_time ? 1e6 : 0.1, "the test waits");
        if (!in_time)
            for (;;)
                (void)pause();
        sim_comm_deadline_end();
        sim_comm_deadline_end();
        _exit(3);
    }
    (void)close(ends[1]);
    if (is_full)
        assert_int_equal(waitpid(pid, &status, 0), pid);
    while (used < 511 && (n = read(ends[0], output + used, 511 - used)) > 0)
        used += (size_t)n;
    output[used] = '\0';
    (void)close(ends[0]);
    if (!is_full)
        assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_start_that_hangs_is_ended_with_a_message(void **state)
{
    (void)state;
    char output[512];
    assert_int_equal(run_deadline(true, false, output), 3);
    assert_string_equal(output, "");
    assert_int_equal(run_deadline(false, true, output), SIM_E_BUG);
    assert_int_equal(run_deadline(false, false, output), SIM_E_BUG);
    assert_non_null(strstr(output, "simile: the test waits for 0.1 s on "));
}

static void the_deadline_can_be_set(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } cases[] = {{"90", 90}, {"0.5", 0.5}, {"0", 0}, {"-3", 600}, {"soon", 600}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)setenv("SIMILE_START_SECONDS", cases[i].text, 1);
        assert_true(sim_comm_start_seconds() == cases[i].seconds);
    }
    (void)unsetenv("SIMILE_START_SECONDS");
    assert_true(sim_comm_start_seconds() == 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_number_of_processes_follows_from_the_environment),
        cmocka_unit_test(processes_that_cannot_connect_are_detected),
        cmocka_unit_test(a_start_that_hangs_is_ended_with_a_message),
        cmocka_unit_test(the_deadline_can_be_set),
        cmocka_unit_test(singletons_are_refused_with_the_right_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
