"""Runs the program."""
import os
import subprocess

SIMILE = os.environ["SIMILE"]


def simile(*words, ranks=1, code=0):
    """Returns the completed process, with stdout and stderr; checks its exit code."""
    launcher = [] if ranks == 1 else ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    done = subprocess.run([*launcher, SIMILE, *words], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    return done
