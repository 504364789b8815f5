"""The verbs of deploy/local."""
import argparse
import contextlib
import os
import shutil
import sys

from . import checks, demo, settle, tools, torture
from .pipeline import Pipeline, http_get
from .process import HarnessError

ALIASES = {"aggregator-1": "aggregator", "exporter-1": "exporter", "api-1": "api"}


def _load(options):
    if not os.path.exists(os.path.join(options.dir, "pipeline.json")):
        raise HarnessError("nothing is up in %s" % options.dir)
    return Pipeline(options.dir, bound=False)


def up(options):
    """Make a pipeline, or go on with the one that is there."""
    known = os.path.exists(os.path.join(options.dir, "pipeline.json"))
    pipeline = Pipeline(options.dir, False) if known else Pipeline.create(options.dir, bound=False, runners=options.runners or 1,
                                                                          clock=options.clock or "system")
    if (options.runners or len(pipeline.made["runners"])) != len(pipeline.made["runners"]) or (
            options.clock or pipeline.made["clock"]) != pipeline.made["clock"]:
        raise HarnessError("there is another pipeline in %s: take another --dir, or `down --wipe` first" % options.dir)
    try:
        pipeline.start()
    except BaseException:
        pipeline.kill()
        raise
    print(pipeline.path("endpoints.json"))
    return 0


def start(options):
    """Start a program again that has ended, or is just about to."""
    pipeline, name = _load(options), ALIASES.get(options.name, options.name)
    if name not in pipeline.processes():
        raise HarnessError("no program of that name; there are: %s" % " ".join(pipeline.processes()))
    with contextlib.suppress(HarnessError):
        if pipeline.processes()[name].alive():
            pipeline.wait_ready(name)
    if not pipeline.processes()[name].alive():
        pipeline.spawn(name)
    pipeline.wait_ready(name)
    pipeline.write_endpoints()
    return 0


def status(options):
    """A line per process; 0 when all are up and healthy."""
    pipeline, good = _load(options), True
    for name, process in pipeline.processes().items():
        state = "running" if process.alive() else "down"
        if process.alive() and name in pipeline.programs:
            report = settle.health(pipeline, name)
            state = "does not answer" if report is None else "healthy" if report["healthy"] else report["reason"]
            good = good and state == "healthy"
        good = good and state != "down"
        print("%-14s %8s  %s" % (name, process.pid or "-", state))
    return 0 if good else 1


def settled(options):
    """Wait until everything acked so far is rolled up and every closed hour billed."""
    reasons = settle.settle(_load(options), options.timeout)
    for reason in reasons:
        print("deploy/local: " + reason, file=sys.stderr)
    return 1 if reasons else 0


def down(options):
    """End everything; the data stay unless --wipe."""
    pipeline = _load(options)
    pipeline.stop()
    if os.path.exists(pipeline.path("endpoints.json")):
        os.remove(pipeline.path("endpoints.json"))
    if options.wipe:
        shutil.rmtree(pipeline.folder)
    return 0


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="deploy/local")
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name, run, text):
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def lives_in(sub):
        sub.add_argument("--dir", type=os.path.abspath, default=os.path.join(tools.STATE, "up"), help="the pipeline's folder")
        return sub

    one = verb("demo", demo.demo, "a million events, kill -9 of everything of ours, and the proof")
    one.add_argument("--seconds", type=int, default=45, help="real time over which the fleet spreads its events; 0: as fast as possible")
    one.add_argument("--runners", type=int, default=2)
    one.add_argument("--sandboxes", type=int, default=1000, help="alive at a time")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--events", type=int, default=demo.DEFAULT_EVENTS)
    one.add_argument("--settle", type=int, default=60, help="how long it may take until all is rolled up and billed, in seconds")
    one.add_argument("--keep", action="store_true", help="leave the pipeline running")

    one = verb("test", checks.test, "everything that is tested: " + ", ".join(checks.STAGES))
    one.add_argument("names", nargs="*", metavar="NAME", help="only these; by name also: " + ", ".join(checks.BY_NAME))
    one.add_argument("--runs", type=int, default=1000000, help="fuzz: of each target")

    one = lives_in(verb("up", up, "a pipeline to play with"))
    one.add_argument("--runners", type=int, help="r1..rN, regions eu and us in turn (default 1)")
    one.add_argument("--clock", choices=("system", "event"), help="what moves the collectors' time (default system)")
    one = verb("torture", torture.torture, "round after round a bad day, and after each the proof")
    one.add_argument("--rounds", type=int, default=15)
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--minutes", type=float, help="no new round after so many minutes")
    one.add_argument("--only", action="append", default=[], metavar="NAME", help="draw from this fault alone; may be given several times")
    one.add_argument("--from-round", type=int, default=0, help="leave out the rounds before; a repeated round needs its --seed and --rounds")
    one.add_argument("--list", action="store_true", help="the faults by name")
    lives_in(verb("start", start, "start a program that has ended")).add_argument("name")
    lives_in(verb("status", status, "what runs"))
    lives_in(verb("settle", settled, "wait until all is rolled up and billed")).add_argument("--timeout", type=float, default=120)
    lives_in(verb("down", down, "end it")).add_argument("--wipe", action="store_true", help="and remove its data")
    return parser.parse_args()


def main():
    """Run a verb."""
    options = arguments()
    try:
        return options.run(options)
    except HarnessError as error:
        print("deploy/local: %s" % error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


sys.exit(main())
