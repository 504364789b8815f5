"""How inject.so is told what to do, and what it reports."""
import dataclasses
import os
import struct

from harness import tools

PATH = os.path.join(tools.BUILD, "tests/inject/inject.so")
TALLY = struct.Struct("<24sQ")
STRUCK = "struck"


@dataclasses.dataclass(frozen=True)
class Fault:
    """The nth call of a name fails, once or from then on; only calls made by these objects count."""
    call: str
    nth: int
    kind: str
    ever: bool = False
    objects: str = "program"

    def __str__(self):
        return "%s %d %s%s%s" % (self.call, self.nth, self.kind, " ever" if self.ever else "",
                                 "" if self.objects == "program" else " from " + self.objects)

    @classmethod
    def parse(cls, text):
        """What __str__ wrote."""
        text, _, objects = text.partition(" from ")
        call, nth, kind, *ever = text.split()
        return cls(call, int(nth), kind, bool(ever), objects or "program")


def environment(report, objects, fault=None):
    """The environment of a program that is to be counted, and to fail."""
    # What is freed is overwritten: a use of it is then seen.
    settings = {"LD_PRELOAD": PATH, "INJECT_REPORT": report, "INJECT_FROM": objects, "MALLOC_PERTURB_": "165"}
    if fault is not None:
        settings["INJECT"] = "%s %d %s%s" % (fault.call, fault.nth, fault.kind, " ever" if fault.ever else "")
    return {**os.environ, **settings}


def read_report(path):
    """{call: count so far}, with `struck`: how often the fault struck; empty before the program has begun."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    return {name.rstrip(b"\0").decode("ascii"): count for name, count in TALLY.iter_unpack(data[:len(data) // TALLY.size * TALLY.size])}
