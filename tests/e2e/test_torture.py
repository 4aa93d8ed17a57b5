#!/usr/bin/python3
"""Ten attempts of tests/torture.

simile-test: timeout 7200 processors 3 labels long
"""
import os
import subprocess
import sys

sys.exit(subprocess.run([sys.executable, os.path.join(os.environ["SIMILE_SOURCE"], "tests", "torture"), "--attempts", "10"]).returncode)
