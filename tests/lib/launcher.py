"""The command that starts ranks, before -np N: SIMILE_MPIEXEC, which tests/CMakeLists.txt sets for the MPI
of the build."""
import os

MPIEXEC = os.environ.get("SIMILE_MPIEXEC", "mpirun --oversubscribe --bind-to none").split()


def on_ranks(n):
    """Words before a command that start it on n ranks; none for one."""
    return [*MPIEXEC, "-np", str(n)] if n > 1 else []
