"""Rounds of simile and a peer, interleaved: each round runs all settings of both, one after the other, so that load
of the machine affects both.  A round has one ratio; its median and spread (least to largest) are printed."""
import argparse
import json
import os
import statistics
import subprocess
from collections import namedtuple

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SIMILE = os.path.realpath(os.environ.get("SIMILE", os.path.join(SOURCE, "build/release/simile")))
THREADS = len(os.sched_getaffinity(0))

Result = namedtuple("Result", "rate values", defaults=((),))  # a higher rate is better; values belong to it


def parser(text):
    p = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    return p


def peer(name, *arguments):
    return ["/usr/bin/python3", os.path.join(SOURCE, "tests/peer", name), *map(str, arguments)]


def bench(*arguments, ranks=1):
    front = ["mpirun", "--oversubscribe", "-np", str(ranks)] if ranks > 1 else []
    command = [*front, SIMILE, "bench", *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def interleave(rounds, programs):
    """programs: name -> list of functions, one per setting, that return a Result.  The fastest Result of each round
    by name."""
    out = {name: [] for name in programs}
    for _ in range(rounds):
        for name, settings in programs.items():
            out[name].append(max(run() for run in settings))
    return out


def ratio(ours, theirs):
    """Of the best rounds; median and spread of those of each round."""
    each = [a.rate / b.rate for a, b in zip(ours, theirs)]
    best = max(ours).rate / max(theirs).rate
    return f"{best:.2f} (rounds: median {statistics.median(each):.2f}, {min(each):.2f} to {max(each):.2f})"
