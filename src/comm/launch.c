/*
 * launch.c - how many processes the launcher started, from the environment.
 *
 * Called by: world.c, to notice N singletons that each believe to be rank 0 of 1, which
 * is what a launcher of another MPI, or srun without --mpi=pmix, makes of a program.
 */
#include "private.h"

#include <stdlib.h>

/* The number that a variable holds; 0 when it is unset or no number. */
static long number(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    if (!text)
        return 0;
    long n = strtol(text, &end, 10);
    return end != text && *end == '\0' && n > 0 ? n : 0;
}

/*
 * The innermost launcher is asked first: mpirun inside a Slurm job starts its daemons by
 * srun, whose step counts those.  In Slurm only a step counts: a plain start in an
 * allocation of N tasks is a job of one, whatever SLURM_NTASKS says.
 */
long sim_comm_launched(sim_start *how)
{
    long n = number("OMPI_COMM_WORLD_SIZE");
    *how = SIM_START_MPIRUN;
    if (n == 0)
        n = number("PMI_SIZE"); /* MPICH, Intel MPI, srun --mpi=pmi2 */
    if (getenv("SLURM_STEP_ID") && (n == 0 || number("SLURM_STEP_NUM_TASKS") == n)) {
        *how = SIM_START_SRUN;
        n = number("SLURM_STEP_NUM_TASKS");
    }
    if (n == 0 && number("PMIX_RANK") > 0)
        n = number("PMIX_RANK") + 1; /* at least */
    if (n > 1)
        return n;
    *how = SIM_START_ALONE;
    return 1;
}
