#!/usr/bin/env python3
"""A schedule is what its seed says, and nothing else. A wrong turn fails; the failure is shortened; the command that is printed fails in the
same way.

usage: replay_test.py SIM
"""
import collections
import re
import subprocess
import sys

SEEDS = 12  # of each world, one after the other in one process and each in a process of its own


def run(sim, *arguments):
    done = subprocess.run([sim, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def counts(sim, world, first, last):
    """What happened: faults by kind, schedules, rows, checks."""
    code, text = run(sim, "--world", world, "--seeds", "%d..%d" % (first, last))
    assert code == 0, text
    return collections.Counter({what: int(count) for count, what in re.findall(r"\b(\d+) +([A-Za-z][^,\n]*)", text)})


def schedules_repeat(sim):
    for world in re.findall(r"^world +(\S+)$", run(sim, "--list")[1], re.M):
        alone = sum((counts(sim, world, seed, seed) for seed in range(1, SEEDS + 1)), collections.Counter())
        together = counts(sim, world, 1, SEEDS)
        assert alone == together and together["schedules"] == SEEDS, "%s does not repeat itself: %s" % (world, (alone - together) + (together - alone))


def failures_replay(sim):
    code, text = run(sim, "--world", "billing", "--turn", "resend_old_unchecked", "--seeds", "1..2000")
    assert code == 1, "the turn was not seen:\n" + text
    before, after = re.findall(r"^  (\d+) steps, (\d+) faults; replay: sim (.*)$", text, re.M)
    assert int(after[0]) <= int(before[0]) and int(after[1]) < int(before[1]), "not shorter:\n" + text
    why = re.search(r"^shrunk: (.*)$", text, re.M).group(1)
    code, text = run(sim, *after[2].split())
    assert code == 1 and why in text, "it does not replay:\n" + text
    assert "fault: " in text, "the trace names no fault:\n" + text


schedules_repeat(sys.argv[1])
failures_replay(sys.argv[1])
