"""What became of a run with a fault in it."""
import collections
import dataclasses
import os
import re
import signal

from harness import tools

from .faults import FILES
from .library import Fault

# The end of a run. Everything but FAILED keeps the promise; NOT_REACHED says that the run did not make so many calls. A library that ends
# the program where it has no error to give is a kill without a word: what was acknowledged is safe, and only that.
SURVIVED, STOPPED, KILLED, ABORTED, NOT_REACHED, FAILED = "survived", "clean stop", "killed, recovered", "library's abort", "not reached", "FAILED"
RESULTS = (SURVIVED, STOPPED, KILLED, ABORTED, NOT_REACHED, FAILED)

CRASH = re.compile(r"Assertion|AddressSanitizer|runtime error|malloc\(\)|free\(\)|stack smashing", re.M)


@dataclasses.dataclass
class Case:
    """One run, and what came of it."""
    program: str
    fault: Fault
    result: str = ""
    why: str = ""

    def __str__(self):
        return "%s: %s: %s%s" % (self.program, self.fault, self.result, ": " + self.why if self.why else "")


class Broken(Exception):
    """A promise that was not kept."""


THREADLESS = "failed to create broker thread"  # librdkafka asserts that it gets one


def _bare_texts():
    with open(os.path.join(tools.ROOT, "include/sandglass/error.h"), encoding="utf-8") as file:
        return set(re.findall(r'X\(\w+, "(.*?)"\)', file.read()))


BARE = _bare_texts() | {"ok"}  # what an error is called when nobody has said more
FILE_NAME = re.compile(r"\.seg|cursor\.[01]|/[\w.-]+:")


def stop_message(log):
    """The reason in the last words of a program, or None."""
    for line in reversed(log.splitlines()):
        found = re.search(r" event=stopped .*reason=(.*)$", line) or re.match(r"sandglass-\w+: (.*)$", line)
        if found:
            return found.group(1).strip('"')
    return None


def judge_end(fault, code, log, asked):
    """(result, why) of an ended program: its exit code (negative: a signal), all that it wrote, and whether it ran until it was asked to end."""
    if code == -signal.SIGABRT and fault.objects == "librdkafka" and THREADLESS in log:
        return ABORTED, "(librdkafka, by design: %s)" % THREADLESS
    if code == -signal.SIGSEGV and fault.objects == "libhiredis" and fault.call == "memory":
        return ABORTED, "(libhiredis 0.14 does not look whether it got a new output buffer)"
    if CRASH.search(log):
        raise Broken("a crash: " + CRASH.search(log).group())
    if code == -signal.SIGABRT and fault.objects == "libhiredis" and fault.call == "memory":
        return ABORTED, "(libhiredis 0.14, by design: it aborts where it has no error to give)"
    if code == -signal.SIGKILL and fault.kind.startswith("KILL"):
        return KILLED, ""
    if code < 0:
        raise Broken("ended by " + signal.Signals(-code).name)
    if code == 0 and not asked:
        raise Broken("it ended with exit code 0, and nobody had asked")
    if code == 0:
        return SURVIVED, ""
    reason = stop_message(log)
    if reason is None and fault.call == "write" and fault.kind != "SHORT":
        return STOPPED, "(the log was what failed)"
    if reason is None:
        raise Broken("exit code %d without a word" % code)
    if reason in BARE or (fault.call in FILES and fault.objects == "program" and not FILE_NAME.search(reason)):
        raise Broken("a message that names nothing: " + reason)
    return STOPPED, reason


def summary(cases):
    """The cases as a table by program and call, with those that failed."""
    rows = collections.defaultdict(collections.Counter)
    for case in cases:
        rows[(case.program, case.fault.call)][case.result] += 1
        rows[("all", "")][case.result] += 1
    lines = ["%-24s %-16s" % ("program", "call") + "".join("%18s" % result for result in RESULTS)]
    for (program, call), counts in sorted(rows.items()):
        lines.append("%-24s %-16s" % (program, call) + "".join("%18s" % (counts[result] or "-") for result in RESULTS))
    return "\n".join(lines + [str(case) for case in cases if case.result == FAILED])
