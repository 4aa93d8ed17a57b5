/*
 * launch.c - how many processes the launcher started, from the environment.
 *
 * Called by world.c to detect N singletons, each rank 0 of 1: the result of a launcher of
 * another MPI, or of srun without --mpi=pmix.
 */
#include "private.h"

#include <stdlib.h>

/* Value of a variable; 0 if it is unset or not a positive number. */
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
 * The innermost launcher takes precedence: mpirun in a Slurm job starts its daemons by srun,
 * and the size of that step is the number of daemons. Of Slurm only a step is considered: a
 * program started directly in an allocation of N tasks is one process, whatever SLURM_NTASKS
 * is.
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
        n = rank + 1; /* at least */
    }
    if (n == 1)
        *how = SIM_START_ALONE;
    return n;
}

bool sim_comm_is_scattered(void)
{
    /* PMIx, PMI, or a component selected by name (Slurm's own PMI-1 sets none). */
    static const char *const variables[] = {"PMIX_RANK", "PMI_RANK", "PMI_SIZE",
                                            "OMPI_MCA_pmix"};
    sim_start how;

    if (sim_comm_launched(&how) == 1 || how != SIM_START_SRUN)
        return false;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        if (getenv(variables[i]))
            return false;
    return true;
}
