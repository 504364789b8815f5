"""The campaign: round after round, a fault from the list is done to a pipeline of real programs, real Kafka and real Redis while the fleet goes
on; after each round all books must agree to the unit.

HAPPY PATH  A pipeline lives through some rounds, then one of another topology takes its place. Each round: the fleet starts, the fault is done,
            now and then one of our programs dies while that is recovered from, what is left of it all is mended, the fleet ends, all settles
            (settle.py), and accepted = rolled up = billed + pending (proof.py).
TOLD        Whatever is done must be told by those concerned (torture_told.py), in time when it lasts, and nobody may look well who stands (watch.py).
DRAW        Every topology has its own pack of faults, shuffled by the seed and dealt to the last before it is shuffled anew; the faults that
            even a short campaign has to have lie on top, once over all topologies. What comes up in a round, and every choice of the fault,
            follows from (seed, round, the number of rounds) alone; when things happen does not, so a repeated round is the same schedule, not
            the same interleaving.
FAILURES    The first round that is not exact, does not settle, or whose programs end by themselves stops the campaign: exit code 1, the folder
            stays, and the command is printed that does the same again.
"""
import collections
import os
import random
import shutil
import signal
import time
import traceback

from . import proof, settle, tools, torture_told
from .process import HarnessError
from .torture_faults import FAULTS
from .torture_world import CUSTOMERS, TOPOLOGIES, World, private_mounts

LIFE_ROUNDS_MAX = 20
SETTLE_S = 150
LONG_S = 10  # to settle: the line tells what it was that came last
LASTING_ROUNDS, LASTING_S = 5, 12
AGAIN_SHARE = 0.3  # of the rounds in which one of our programs is killed while the fault is being recovered from


class Plan:
    """What comes up in which round."""

    def __init__(self, seed, rounds, only):
        unknown = set(only) - set(FAULTS)
        if unknown:
            raise HarnessError("no such fault: %s; see --list" % " ".join(sorted(unknown)))
        chosen = [fault for fault in FAULTS.values() if fault.name in only or (not only and fault.drawn)]
        self.seed, self.rounds = seed, rounds
        self.packs = {topology: pack for topology in TOPOLOGIES if (pack := [f for f in chosen if topology in f.topologies])}
        self.life = max(1, min(LIFE_ROUNDS_MAX, -(-rounds // len(self.packs))))
        self.dealt, piles = [], self._first()
        for number in range(rounds):
            topology = list(self.packs)[number // self.life % len(self.packs)]
            if not piles[topology]:
                piles[topology] = list(self.packs[topology])
                random.Random("%d/%s/%d" % (seed, topology, number)).shuffle(piles[topology])
            self.dealt.append((topology, piles[topology].pop()))

    def _first(self):
        """The first pile of each topology, dealt from its end: on top a share of the faults that come first, each with one topology only."""
        random_ = random.Random("%d/first" % self.seed)
        share = {topology: [] for topology in self.packs}
        first = sorted({fault.name: fault for pack in self.packs.values() for fault in pack if fault.first}.values(), key=lambda fault: fault.name)
        random_.shuffle(first)
        for fault in sorted(first, key=lambda fault: len(fault.topologies)):  # whoever has least choice chooses first
            share[min((t for t in share if t in fault.topologies), key=lambda t: len(share[t]))].append(fault)
        for topology, pack in self.packs.items():
            rest = [fault for fault in pack if fault not in share[topology]]
            random_.shuffle(rest)
            share[topology] = rest + share[topology]
        return share

    def lasts(self, number):
        """Whether the fault of a round lasts until whoever must be red for it has to be: one in each row of rounds, the first that has such."""
        begin = number // LASTING_ROUNDS * LASTING_ROUNDS
        return number == next((n for n in range(begin, number + 1) if torture_told.owes_red(self.dealt[n][1])), None)

    def begins_life(self, number):
        """Whether a round has a new pipeline."""
        return number % self.life == 0


class Tally:
    """What the end is told from."""

    def __init__(self):
        self.began = time.monotonic()
        self.rounds = self.events = self.lost = self.double = 0
        self.kinds, self.names, self.told = collections.Counter(), collections.Counter(), collections.Counter()
        self.longest_s, self.longest = 0.0, "-"

    def add(self, number, fault, events, result, took_s, told):
        """One round."""
        self.rounds += 1
        self.events += events
        self.lost += sum(line.lost for line in result.lines)
        self.double += sum(line.double for line in result.lines)
        self.told += told
        self.kinds[fault.kind] += 1
        self.names[fault.name] += 1
        if took_s > self.longest_s:
            self.longest_s, self.longest = took_s, "round %d, %s" % (number, fault.name)

    def table(self):
        """As text."""
        lines = ["rounds            %d in %d s" % (self.rounds, time.monotonic() - self.began),
                 "faults            " + ", ".join("%s %d" % item for item in self.kinds.most_common()),
                 *("                  %3d  %s" % (count, name) for name, count in self.names.most_common()),
                 "events            %s accepted" % format(self.events, ","),
                 "lost              %d" % self.lost, "double            %d" % self.double,
                 "told              " + ", ".join("%s %d" % item for item in self.told.most_common()),
                 "longest recovery  %.1f s (%s)" % (self.longest_s, self.longest)]
        return "\n".join(lines)


def _settle(world):
    began, last = time.monotonic(), ""

    def look(text):
        nonlocal last
        last = text or last
        world.look_after()

    reasons = settle.settle(world.pipeline, SETTLE_S, look, CUSTOMERS)
    if reasons:
        raise HarnessError("not settled within %d s: %s" % (SETTLE_S, "; ".join(reasons[:5])))
    if time.monotonic() - began > LONG_S:
        world.note("long: " + last)


def _round(world, plan, number):
    """One round: (events, the proof, how long it took from when others were healthy again until all was settled, what was told)."""
    _, fault = plan.dealt[number]
    world.random = random.Random("%d/%d/%s" % (plan.seed, number, fault.name))
    world.start_fleet(plan.seed * 100_000 + number + 1, number, **fault.fleet)
    world.wait_flowing()
    world.hold(0.2, 1)
    lost = None
    world.watch.begin()
    world.begin(fault, LASTING_S if plan.lasts(number) else 0)
    fault.run(world)
    over = time.monotonic()
    if world.random.random() < AGAIN_SHARE:
        world.hold(0, 0.5)
        lost = world.random.choice([name for name in world.pipeline.programs if name in world.wanted])
        world.process(lost).kill()
        world.note("then kill -9 " + lost)
    world.heal()
    mended_at = time.monotonic()
    world.wait_green()
    expected = world.fleet.finish()
    _settle(world)
    took_s = time.monotonic() - mended_at
    told = torture_told.judge(world, fault, over, lost)
    result = proof.prove(world.pipeline, [fleet.expect_file for fleet in world.fleets], CUSTOMERS, minutes_from=world.round_from_s())
    return expected["accepted_events"], result, took_s, told


def _again(options, plan, number):
    only = "".join(" --only " + name for name in options.only)
    return "deploy/local torture --seed %d --rounds %d --from-round %d%s" % (options.seed, options.rounds, number // plan.life * plan.life, only)


class Campaign:
    """The rounds, in one pipeline after the other."""

    def __init__(self, options):
        self.options, self.plan, self.tally, self.world = options, Plan(options.seed, options.rounds, options.only), Tally(), None
        self.folder = os.path.join(tools.STATE, "torture-%d" % os.getpid())

    def _renew(self, number):
        if self.world is not None:
            self.world.end(keep=False)
            self.world = None
        topology, _ = self.plan.dealt[number]
        began = time.monotonic()
        self.world = World(os.path.join(self.folder, str(number)), topology, self.plan.life)
        self.world.start()
        print("---------  %s: a new pipeline, ready after %.1f s" % (topology, time.monotonic() - began), flush=True)

    def _one(self, number):
        began, (topology, fault) = time.monotonic(), self.plan.dealt[number]
        events, result, took_s, told = _round(self.world, self.plan, number)
        self.tally.add(number, fault, events, result, took_s, told)
        lost, double = (sum(getattr(line, column) for line in result.lines) for column in ("lost", "double"))
        print("round %3d  %-11s %-44s events %6d  lost %d  double %d  settled after %4.1f s, round %4.1f s  (%s)" % (
            number, topology, fault.name, events, lost, double, took_s, time.monotonic() - began, ", ".join(self.world.notes)), flush=True)
        if not result.exact:
            raise HarnessError("not exact\n" + proof.table(result))

    def run(self):
        """All of it, or until time is up: whether every round was exact."""
        number, failed = self.options.from_round, False
        deadline = time.monotonic() + self.options.minutes * 60 if self.options.minutes else None
        try:
            while number < self.options.rounds and (deadline is None or time.monotonic() < deadline):
                if self.plan.begins_life(number) or self.world is None:
                    self._renew(number)
                self._one(number)
                number += 1
        except Exception as error:  # whatever it was, the campaign stops here and says where
            failed = True
            told = str(error) if isinstance(error, HarnessError) else traceback.format_exc()
            print("round %3d  %s FAILED: %s" % (number, self.plan.dealt[number][1].name, told), flush=True)
            print("logs and data: %s\nagain: %s" % (self.folder, _again(self.options, self.plan, number)), flush=True)
        finally:
            if self.world is not None:
                self.world.end(keep=failed)
            if not failed:
                shutil.rmtree(self.folder, ignore_errors=True)
            print(self.tally.table(), flush=True)
        return not failed


def torture(options):
    """The verb: its exit code."""
    if options.list:
        for fault in FAULTS.values():
            print("%-44s %-8s %s%s" % (fault.name, fault.kind, fault.text, "" if fault.drawn else " (only when asked for)"))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: with the table of what was done so far
    private_mounts()
    return 0 if Campaign(options).run() else 1
