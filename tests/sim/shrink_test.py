#!/usr/bin/env python3
"""A wrong turn fails; the failure is shortened; the command that is printed fails in the same way.

usage: shrink_test.py SIM
"""
import re
import subprocess
import sys


def run(sim, *arguments):
    done = subprocess.run([sim, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def main(sim):
    code, text = run(sim, "--world", "billing", "--turn", "resend_old_unchecked", "--seeds", "1..2000")
    assert code == 1, "the turn was not seen:\n" + text
    before, after = re.findall(r"^  (\d+) steps, (\d+) faults; replay: sim (.*)$", text, re.M)
    assert int(after[0]) <= int(before[0]) and int(after[1]) < int(before[1]), "not shorter:\n" + text
    why = re.search(r"^shrunk: (.*)$", text, re.M).group(1)
    code, text = run(sim, *after[2].split())
    assert code == 1 and why in text, "it does not replay:\n" + text
    assert "fault: " in text, "the trace names no fault:\n" + text


main(sys.argv[1])
