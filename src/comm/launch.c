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
 * The innermost launcher is asked first: mpirun in a Slurm job starts its daemons by srun,
 * and that step counts daemons.  Of Slurm only a step counts: a plain start inside an
 * allocation of N tasks is a job of one, whatever SLURM_NTASKS says.
 */
long sim_comm_launched(sim_start *how)
{
    long mpirun = number("OMPI_COMM_WORLD_SIZE");
    long pmi = number("PMI_SIZE"); /* MPICH, Intel MPI, and srun --mpi=pmi2 */
    long step = getenv("SLURM_STEP_ID") ? number("SLURM_STEP_NUM_TASKS") : 0;
    long rank = number("PMIX_RANK");
    long n = 1;

    *how = SIM_START_MPIRUN;
    if (mpirun > 0) {
        n = mpirun;
    } else if (step > 0 && (pmi == 0 || pmi == step)) {
        n = step;
        *how = SIM_START_SRUN;
    } else if (pmi > 0) {
        n = pmi;
    } else if (rank > 0) {
        n = rank + 1; /* there are at least so many */
    }
    if (n == 1)
        *how = SIM_START_ALONE;
    return n;
}

bool sim_comm_is_scattered(void)
{
    /* PMIx, PMI, or a component that somebody chose by name (Slurm's own PMI-1 sets none). */
    static const char *const ways[] = {"PMIX_RANK", "PMI_RANK", "PMI_SIZE",
                                       "OMPI_MCA_pmix"};
    sim_start how;

    if (sim_comm_launched(&how) == 1 || how != SIM_START_SRUN)
        return false;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (getenv(ways[i]))
            return false;
    return true;
}
