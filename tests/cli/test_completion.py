#!/usr/bin/python3
"""Completion for bash and manual pages: every command and option of --help is completed and has its entry,
keys of a job are completed, and the pages are without warnings of groff.

simile-test: timeout 300
"""
import os
import re
import shutil
import subprocess
import tempfile

SIMILE, SOURCE = os.environ["SIMILE"], os.environ["SIMILE_SOURCE"]


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def complete(*words):
    """What bash offers for the last word."""
    script = (f'source "{SOURCE}/jobs/completion.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _simile; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    return output("bash", "-c", script, "bash", SIMILE, *words).split()


def commands():
    return re.findall(r"^  ([a-z]+) ", output(SIMILE, "--help").split("Commands:\n")[1].split("\n\n")[0], re.M)


def options(command):
    return sorted(set(re.findall(r"^ {2,6}(?:-[^ ]*, )? *(--[a-z][a-z0-9-]*)", output(SIMILE, command, "--help"), re.M)))


def check_completion():
    assert set(complete("")) >= {*commands(), "--help", "--version"} and complete("pre") == ["prepare", "pretrain"]
    for command in commands():
        missing = set(options(command)) - set(complete(command, "--"))
        assert not missing, (command, missing)
    assert complete("report", "--o") == ["--out"]
    keys = re.findall(r"^  ([a-z][a-z0-9_.]*) ", output(SIMILE, "plan", "--keys"), re.M)
    got = complete("pretrain", "job.yaml", "")
    assert {k + "=" for k in keys if "." in k} <= set(got), set(keys)
    assert complete("pretrain", "job.yaml", "optimizer.weight_d") == ["optimizer.weight_decay="]
    assert "knn" in complete("evaluate", "k")
    open("job.yaml", "w").close()
    assert complete("pretrain", "job.y") == ["job.yaml"]


def check_pages():
    if not shutil.which("help2man"):
        print("skipped: manual pages, help2man is not installed")
        return
    subprocess.run([f"{SOURCE}/jobs/man", "pages", SIMILE], check=True)
    assert sorted(os.listdir("pages/man1")) == sorted(["simile.1"] + [f"simile-{c}.1" for c in commands()])
    for command in commands():
        path = f"pages/man1/simile-{command}.1"
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-c", path], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        text = re.sub(r".\x08|\u00ad|\u2010\n *", "", done.stdout).replace("\u2010", "-").replace("\u2212", "-")
        for option in options(command):
            assert option in text, (command, option)
        assert f"simile {command}" in text, command


os.chdir(tempfile.mkdtemp())
check_completion()
check_pages()
shutil.rmtree(os.getcwd())
