"""The longer form: every fault at every call, or a sample of them, or one that is named.

    PYTHONPATH=tests python3 -m inject [--program NAME]... [--objects NAME]... [--calls NAME,...] [--all-calls] [--sample N --seed S] [--worlds N]
                                      [--fault TEXT]

Prints every stop and every failure as it ends, then the table. The exit code is 1 when a promise was not kept.
"""
import argparse
import concurrent.futures
import os
import sys

from harness import tools

from . import campaign, verdict
from .library import Fault


def main():
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python3 -m inject")
    parser.add_argument("--program", action="append", choices=campaign.PROGRAMS, help="only this one; may be repeated")
    parser.add_argument("--objects", action="append", help="only calls made by this object; may be repeated")
    parser.add_argument("--calls", type=lambda text: set(text.split(",")), help="only these calls")
    parser.add_argument("--all-calls", action="store_true", help="every call of a kind, however many there are")
    parser.add_argument("--sample", type=int, help="only so many cases of each program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=1, help="so many pipelines side by side")
    parser.add_argument("--fault", type=Fault.parse, help="this one, as a case prints it")
    parser.add_argument("--dir", default=os.path.join(tools.STATE, "inject"))
    options = parser.parse_args()
    planned = campaign.plan(options, options.program or list(campaign.PROGRAMS))
    for program, faults in planned:
        print("%s: %d cases" % (program, len(faults)), flush=True)
    parts = [(options, planned, number) for number in range(options.worlds)]
    with concurrent.futures.ProcessPoolExecutor(options.worlds) as pool:
        cases = [case for part in pool.map(campaign.run_part, parts) for case in part]
    print(verdict.summary(cases))
    print("%d cases" % len(cases))
    return 1 if any(case.result == verdict.FAILED for case in cases) else 0


sys.exit(main())
