"""Which cases are run, and in what order."""
import collections
import os
import random
import shutil
import traceback

from harness.process import port_share

from . import lone, whole
from .faults import enumerate_faults
from .verdict import ABORTED, FAILED, STOPPED

# Whose calls are counted and failed, by program. Of memory only that of our own code: librdkafka and libcurl's TLS end the process by design
# when they get none; the others answer with an error, which is ours to handle.
OBJECTS = {
    "collector-start": ["program"], "collector-recovery": ["program"],
    "collector-r1": ["program", "librdkafka", "libmicrohttpd"],
    "aggregator": ["program", "librdkafka", "libmicrohttpd", "libhiredis"],
    whole.RESTORE: ["program", "librdkafka", "libhiredis"],
    "exporter": ["program", "librdkafka", "libmicrohttpd", "libhiredis", "libcurl"],
}
PROGRAMS = tuple(OBJECTS)
LONE = ("collector-start", "collector-recovery")
ABORTS_WITHOUT_MEMORY = ("librdkafka",)
CASES_PER_WORLD = 150  # the checks grow with the hours


class Lone:
    """The world of a collector alone."""

    def __init__(self, folder):
        self.folder, self.number, self.failed = folder, 0, False
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.left_behind = lone.leave_behind(os.path.join(folder, "left"))

    def _place(self, program):
        self.number += 1
        return os.path.join(self.folder, "case-%d" % self.number), self.left_behind if program == "collector-recovery" else None

    def count(self, program, objects):
        """See lone.count."""
        return lone.count(*self._place(program), objects)

    def run(self, program, fault):
        """See lone.run."""
        folder, left_behind = self._place(program)
        return lone.run(fault, folder, left_behind)

    def close(self):
        """Nothing runs."""


def make_world(program, folder):
    """The world in which a program's cases are run."""
    return (Lone if program in LONE else whole.World)(folder)


def choose(world, program, objects=None, calls=None, every=False):
    """All cases of a program: faults, by what a run without one has called."""
    found = []
    for name in OBJECTS[program]:
        if objects and name not in objects:
            continue
        counts = world.count(program, name)
        if name in ABORTS_WITHOUT_MEMORY:
            counts.pop("memory")
        found += enumerate_faults(counts, name, calls, every)
    return found


def sample(faults, count, seed):
    """So many of them (all: None) in an order of the seed's, in which no call comes again before all others have been."""
    shuffled, seen = list(faults), collections.Counter()
    random.Random(seed).shuffle(shuffled)
    rank = []
    for fault in shuffled:
        rank.append((seen[(fault.objects, fault.call)], fault))
        seen[(fault.objects, fault.call)] += 1
    return [fault for _, fault in sorted(rank, key=lambda pair: pair[0])][:count]


def plan(options, programs):
    """[(program, its cases)]: listed once, so that several workers share one list and none is left out."""
    cases = []
    for program in programs:
        faults = [options.fault]
        if not options.fault:
            world = make_world(program, os.path.join(options.dir, program + "-count"))
            try:
                faults = choose(world, program, options.objects, options.calls, options.all_calls)
            finally:
                world.close()
        cases.append((program, sample(faults, options.sample, options.seed)))
    return cases


def run_part(part):
    """Every n-th case of a plan: what one of several workers does, with ports of its own."""
    options, planned, number = part
    share, shares = port_share()
    os.environ["SANDGLASS_PORTS"] = "%d/%d" % (share + number * shares, shares * options.worlds)
    try:
        return run_cases(options, planned, number)
    except Exception:
        traceback.print_exc()  # now, and not when all other workers have ended
        raise


def run_cases(options, planned, number):
    """See run_part."""
    cases = []
    for program, faults in planned:
        folder = os.path.join(options.dir, "%s-%d" % (program, number))
        world, done = make_world(program, folder), 0
        try:
            for fault in faults[number::options.worlds]:
                if done == CASES_PER_WORLD:
                    world.close()
                    world, done = make_world(program, folder), 0
                case = world.run(program, fault)
                cases.append(case)
                done += 1
                if case.result in (ABORTED, FAILED, STOPPED):
                    print(case, flush=True)
        finally:
            world.close()
    return cases
