"""Every system call, every failure: a sample of the cases that `python3 -m inject` (tests/inject) runs in full."""
import os
import resource
import shutil

import pytest

from harness import tools
from harness.lone_collector import Books, cells_of
from harness.process import wait_for
from inject import campaign
from inject.verdict import FAILED, NOT_REACHED

pytestmark = pytest.mark.xdist_group("inject")  # they share worlds
SEED = int(os.environ.get("SANDGLASS_INJECT_SEED", "1"))
# How many cases, and whose calls fail.
SAMPLE = {"collector-start": (9, {"program"}), "collector-recovery": (9, {"program"}), "collector-r1": (14, {"program", "librdkafka"}),
          "aggregator": (6, {"program", "libhiredis"}), "exporter": (8, {"program", "libcurl"}), "aggregator-restore": (3, {"program", "librdkafka", "libhiredis"})}


@pytest.fixture(scope="module", name="worlds")
def fixture_worlds():
    """A function that gives a program's world; programs share it where they can."""
    made = {}

    def give(program):
        kind = "lone" if program in campaign.LONE else "whole"
        if kind not in made:
            folder = os.path.join(tools.STATE, "system", "inject-%d-%s" % (os.getpid(), kind))
            made[kind] = campaign.make_world(program, folder), folder
        return made[kind][0]

    yield give
    for world, folder in made.values():
        world.close()
        if not world.failed:
            shutil.rmtree(folder)


@pytest.mark.parametrize("program", SAMPLE)
def test_whatever_call_fails_nothing_is_lost_or_doubled_and_every_stop_says_why(worlds, program):
    count, objects = SAMPLE[program]
    world = worlds(program)
    faults = campaign.choose(world, program, objects)
    cases = [world.run(program, fault) for fault in campaign.sample(faults, count, SEED)]
    print("\n".join(map(str, cases)))
    broken = ["%s\nagain: python3 -m inject --program %s --fault '%s'" % (case, program, case.fault) for case in cases if case.result == FAILED]
    world.failed = world.failed or bool(broken)
    assert not broken, "\n".join(broken)
    assert sum(case.result != NOT_REACHED for case in cases) > count / 2, "the faults miss their calls"


def test_a_limit_on_file_sizes_is_a_full_spool_and_no_death(make_collector):
    collector, books = make_collector(spool_segment_bytes="1k"), Books()
    wire = collector.greet()
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    for number in range(40):  # more than a segment, which cannot get a successor now
        books.take(wire.say("sandbox.created", number, sandbox="box-%d" % number, team="t", project="p", vcpus=1, mem_mib=1, disk_mib=1,
                            origin="create", create_ms=1))
    wait_for("the spool to be full", lambda: collector.metric("spool_full"), 10, alive=collector.process.alive)
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wire.wait_acked()
    assert cells_of(collector.rows()) == books.end()
