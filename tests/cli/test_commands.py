"""Every subcommand that `simile --help` lists: its help, and refusals of a wrong command line.

simile-test: timeout 300 processors 2 labels e2e

Help is printed once on two ranks; all subcommands share one mpirun.  The code that parses command
lines is the same for all subcommands, so that one refusal of each kind runs on two ranks.
"""
import os
import re
import subprocess
import sys

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

SIMILE = os.environ["SIMILE"]
MPIRUN = [*MPIEXEC, "-np"]


def run(ranks, *words):
    launcher = [] if ranks == 1 else [*MPIRUN, str(ranks)]
    return subprocess.run([*launcher, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)


def listed():
    """The names below "Commands:" in `simile --help`, which are the rows of commands.def."""
    text = run(1, SIMILE, "--help").stdout
    names = re.findall(r"^  (\w+) +\S", text.split("Commands:\n")[1].split("\n\n")[0], re.M)
    with open(os.path.join(os.environ["SIMILE_SOURCE"], "src/cli/commands.def")) as f:
        rows = re.findall(r"^SIM_COMMAND\((\w+),", f.read(), re.M)
    assert names == rows and rows, f"--help lists {names}, commands.def has {rows}"
    return names


def usage_of(name, text):
    """The synopsis: from "Usage:" up to the first line that is not indented."""
    lines = text.splitlines()
    assert lines[0].startswith(f"Usage: simile {name} "), f"{name} --help starts with {lines[0]}"
    n = next(i for i in range(1, len(lines)) if not lines[i].startswith(" "))
    return " ".join(lines[:n])


def needs_argument(name, usage):
    """Whether a synopsis has a word outside brackets, in each of its forms."""
    forms = re.split(r"\bor:", usage.replace("Usage:", ""))
    return all(re.sub(r"\[[^]]*\]", "", form.replace(f"simile {name}", "")).strip() for form in forms)


def refused(ranks, what, *words):
    done = run(ranks, SIMILE, *words)
    assert done.returncode == 64, f"{what} on {ranks} ranks: exit {done.returncode}, expected 64\n{done.stderr}"
    message = f"simile {words[0]}: "
    assert done.stderr.count(message) == 1, f"{what} on {ranks} ranks: expected one \"{message}\" in\n{done.stderr}"
    assert not done.stdout, f"{what} on {ranks} ranks: printed to stdout\n{done.stdout}"


def check_alone(name):
    """Checks a subcommand on one rank; returns whether it needs an argument."""
    done = run(1, SIMILE, name, "--help")
    assert done.returncode == 0, f"{name} --help: exit {done.returncode}\n{done.stderr}"
    needs = needs_argument(name, usage_of(name, done.stdout))
    refused(1, f"{name} --no-such-option", name, "--no-such-option")
    if needs:
        refused(1, f"{name} without an argument", name)
    return needs


def check_help_on_two_ranks(names):
    script = 'for name in "$@"; do "$SIMILE" "$name" --help || echo "failed: $name"; done'
    done = run(2, "sh", "-c", script, "sh", *names)
    assert done.returncode == 0 and "failed:" not in done.stdout, done.stdout + done.stderr
    for name in names:
        count = done.stdout.count(f"Usage: simile {name} ")
        assert count == 1, f"{name} --help on 2 ranks: printed {count} times"


commands = listed()
needing = [name for name in commands if check_alone(name)]
check_help_on_two_ranks(commands)
refused(2, f"{commands[0]} --no-such-option", commands[0], "--no-such-option")
refused(2, f"{needing[-1]} without an argument", needing[-1])
assert run(1, SIMILE, "no-such-command").returncode == 64
print("ok:", len(commands), "commands")
