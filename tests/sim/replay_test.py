#!/usr/bin/env python3
"""A schedule is what its seed says, and nothing else. A wrong turn fails; the failure is shortened; the command that is printed fails in the
same way. A schedule that crashes, or is ended for it never ends, is named by whoever is left.

usage: replay_test.py SIM
"""
import collections
import os
import re
import signal
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


def busy_child(parent):
    """The process that runs the schedules of this one, when it has worked for a while: it then spends all but microseconds within some schedule."""
    with open("/proc/%d/task/%d/children" % (parent, parent), encoding="ascii") as file:
        children = file.read().split()
    if not children:
        return 0
    with open("/proc/%s/stat" % children[0], encoding="ascii") as file:
        ticks = int(file.read().rpartition(")")[2].split()[11])
    return int(children[0]) if ticks > 0 else 0


def ends_are_told(sim):
    for number in (signal.SIGABRT, signal.SIGVTALRM):
        with subprocess.Popen([sim, "--world", "pipeline", "--seeds", "1..100000"], stdout=subprocess.PIPE, text=True) as parent:
            child = 0
            while not child:
                assert parent.poll() is None, "it ended by itself"
                child = busy_child(parent.pid)
            os.kill(child, number)
            text = parent.communicate()[0]
        assert parent.returncode == 1, text
        seed = re.search(r"^FAILED: pipeline seed (\d+): the program ended in the middle of it: ", text, re.M).group(1)
        assert "replay: sim --world pipeline --seeds %s..%s --trace" % (seed, seed) in text, text


schedules_repeat(sys.argv[1])
failures_replay(sys.argv[1])
ends_are_told(sys.argv[1])
