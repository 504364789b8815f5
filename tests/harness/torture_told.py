"""What must be told of a bad day, and by whom: for each fault of the campaign what its round looks for (watch.py).

gone()          who was hit did not answer for a while, or is another process now: `sandglass status` calls it down
says(who, w)    a fault of the component `w`, whose page of the runbook has that name, has begun, and was counted
red(who, w, o)  the same, or it was red with that or with the word `o`; and if the fault of the round lasted for longer than RED_S, it was red with
                either by then
counts(who, m)  that counter of its rose
`who` is a part, of which one program is enough; or ANYBODY; or HIT: each of those that the fault was done to. What heals within `after_s` is not
even a blip, and owed neither then, nor when somebody stood in for what was hit. A fault that owes nothing leaves nobody to look at: things went on
all the time, and that they did is the watch's own rule.
"""
import collections
import dataclasses

from .process import HarnessError

RED_S = 10
LOOK_S = 1  # how much later than a program its observer may be
HIT, ANYBODY = "who was hit", "anybody"
TEXTS = {"gone": "%s was gone", "says": "%s said %s", "red": "%s was red: %s", "counts": "%s counted %s"}


@dataclasses.dataclass(frozen=True)
class Told:
    """One of them. `after_s`: how long the fault must last."""
    kind: str
    who: str
    what: str = ""
    after_s: float = 0
    other: str = ""

    def __str__(self):
        return TEXTS[self.kind] % ((self.who,) if self.kind == "gone" else (self.who, self.what))

    def of(self, world):
        """The programs that may be the ones."""
        return world.hit if self.who == HIT else [name for name in world.pipeline.programs if self.who in (ANYBODY, name.partition("-")[0])]

    def by(self, seen):
        """Whether what was seen of a program is that."""
        if self.kind == "gone":
            return seen.away
        if self.kind == "counts":
            return seen.rose[self.what] > 0
        # a fault that still stood from the round before does not begin anew
        return self.what in seen.faults or (self.kind == "red" and (self.what in seen.red_at or self.other in seen.red_at))

    def late(self, seen, began, over):
        """Whether the program should have been red with it, and was not, or not in time."""
        limit = began + RED_S + LOOK_S
        return self.kind == "red" and over > limit and min(seen.red_at.get(word, over) for word in (self.what, self.other)) > limit


def gone():
    """See above."""
    return Told("gone", HIT)


def says(who, component):
    """See above."""
    return Told("says", who, component)


def red(who, component, after_s=0.0, other=""):
    """See above."""
    return Told("red", who, component, after_s, other)


def counts(who, metric):
    """See above."""
    return Told("counts", who, metric)


OURS = ("collector", "aggregator", "exporter", "api")
WAYS = ("killed", "stopped", "cut", "stalled", "mute")
REWOUND = counts("aggregator", "sandglass_aggregator_rewinds_total")
# The silence of brokers is no error before it has lasted: they may be busy. An exporter may be in a commit, which takes its time to fail.
NO_KAFKA = (*(red(part, "kafka", after_s=4) for part in ("collector", "aggregator", "api")), red("exporter", "kafka", after_s=8, other="main-thread"))
NO_REDIS = tuple(red(part, "redis", after_s=3) for part in ("aggregator", "exporter", "api"))
TOLD = {
    **{"%s-%s" % (part, how): (gone(),) for part in OURS for how in ("killed", "stopped")},
    **{"kafka-" + how: NO_KAFKA for how in WAYS},
    **{"redis-" + how: NO_REDIS for how in WAYS},
    **{"stripe-" + how: (red("exporter", "stripe", after_s=5),) for how in WAYS},
    **{part + "-slow": () for part in ("kafka", "redis", "stripe")},
    "everything-killed": (gone(),),
    "programs-restarted": (gone(),),
    "machine-rebooted": (gone(),),
    "broker-away": NO_KAFKA,
    "broker-away-for-ten-minutes": NO_KAFKA,
    "leader-killed": (says(ANYBODY, "kafka"),),
    "most-brokers-killed": (red("collector", "kafka", after_s=4),),  # who only reads may have what it needs
    "redis-emptied": (counts("aggregator", "sandglass_aggregator_restored_shards_total"),),
    "redis-rolled-back": (REWOUND,),
    "redis-rolled-back-into-a-transaction": (REWOUND,),
    "replica-promoted": (REWOUND,),
    "replica-promoted-with-lost-writes": (REWOUND,),
    "redis-slot-moved": (),
    "redis-full": (red("aggregator", "redis", after_s=1),),
    "aggregator-added-and-removed": (REWOUND,),
    "aggregator-stopped-beyond-its-session": (gone(), REWOUND),
    "exporters-fight-for-a-shard": (says("exporter", "fenced"), counts("exporter", "sandglass_exporter_fenced_total")),
    "exporter-killed-between-request-and-answer": (gone(),),
    "stripe-in-trouble": (says("exporter", "stripe"),),
    "collectors-disk-full": (red(HIT, "spool"),),
    "spool-damaged-in-the-middle": (gone(),),
    "clock-stepped-by-an-hour": (counts(HIT, "sandglass_clock_steps_total"),),
}


def owes_red(fault):
    """Whether somebody must be red when it lasts."""
    return any(owed.kind == "red" for owed in TOLD[fault.name])


def judge(world, fault, over, lost):
    """Look for what a fault owes that is `over`: how much of each kind there was. `lost`: a program that was killed afterwards, and took what it had
    counted with it."""
    world.watch.wait_look()
    kinds = collections.Counter()
    for owed in TOLD[fault.name]:
        if over - world.began < owed.after_s or (owed.after_s and world.stood_in):
            continue
        names = owed.of(world)
        by = [name for name in names if owed.by(world.watch.seen(name))]
        if len(by) < (len(names) if owed.who == HIT else 1) and (owed.kind == "gone" or lost not in names):
            raise HarnessError("untold: %s owes that %s" % (fault.name, owed))
        if by and all(owed.late(world.watch.seen(name), world.began, over) for name in by):
            raise HarnessError("told too late: %s lasted %.1f s before %s" % (fault.name, over - world.began, owed))
        kinds[owed.kind] += 1
    if world.watch.untrue:
        raise HarnessError("untrue: " + "; ".join(world.watch.untrue))
    return kinds
