"""The demo: a fleet's million events through the whole pipeline, every one of our programs killed on the way, and the proof.

HAPPY PATH  pipeline up (event time); customers for all teams but the last, which stays pending; the fleet runs; at fixed shares of its progress
            one program after the other gets kill -9, and is started again a moment later; when the fleet's last line is acked: settle, prove.
FAILURES    Any difference, and anything that does not come up or settle, is exit code 1. Nothing runs afterwards, unless --keep was given.
"""
import json
import os
import shutil
import time

from . import proof, settle, tools
from .fleet import Fleet
from .pipeline import Pipeline, http_get
from .process import HarnessError
from .redis import RedisError
from .screen import Screen, bar

TEAM_NAMES = ["team-%d" % number for number in range(1, 5)]
DEFAULT_EVENTS = 1_000_000
DOWN_S = 1.0
FIRST_KILL, LAST_KILL = 0.12, 0.85
LOOK_PAUSE_S = 2.0


class Killer:
    """Kills one program after the other at shares of the progress, and starts each again after DOWN_S."""

    def __init__(self, pipeline, names):
        self.pipeline, self.names = pipeline, names
        self.done, self.down, self.down_at, self.log = 0, None, 0.0, []

    def step(self, share):
        """Do what is due."""
        if self.down is not None:
            if time.monotonic() - self.down_at >= DOWN_S:
                self.pipeline.spawn(self.down)
                self.down = None
            return
        if self.done < len(self.names):
            due = FIRST_KILL + (LAST_KILL - FIRST_KILL) * self.done / max(1, len(self.names) - 1)
            if share >= due:
                self.down, self.down_at = self.names[self.done], time.monotonic()
                self.done += 1
                self.pipeline.programs[self.down].kill()
                self.log.append("%3d %%  kill -9 %s" % (share * 100, self.down))

    def finish(self):
        """Start what is down; everything that had to be killed must have been."""
        if self.down is not None:
            self.pipeline.spawn(self.down)
            self.down = None
        for name in self.names[self.done:]:
            self.pipeline.programs[name].kill()
            self.log.append("end    kill -9 %s" % name)
            self.pipeline.spawn(name)
        self.done = len(self.names)


class View:
    """What is shown while it runs."""

    def __init__(self, pipeline, screen, events):
        self.pipeline, self.screen, self.events = pipeline, screen, events
        self.began, self.looked_at, self.sums = time.monotonic(), 0.0, {}

    def _look(self):
        """Sums from the view and the double, now and then; what is down at the moment is left as it was."""
        if time.monotonic() - self.looked_at < LOOK_PAUSE_S:
            return
        self.looked_at = time.monotonic()
        try:
            rolled_up = sum(sums.get("vcpu_ms", 0) for sums in settle.hour_rollups(self.pipeline, TEAM_NAMES).values())
            billed = sum(value for (_, meter, _), value in self.pipeline.billed().items() if meter == "vcpu_ms")
            self.sums = {"rolled up": rolled_up, "billed": billed}
        except (OSError, HarnessError, RedisError):
            pass

    def _program(self, name):
        if not self.pipeline.programs[name].alive():
            return "  %-14s down" % name
        report = settle.health(self.pipeline, name)
        if report is None:
            return "  %-14s starting" % name
        state = "healthy" if report["healthy"] else report["reason"]
        return "  %-14s pid %-8d lag %-8d %s" % (name, self.pipeline.programs[name].pid or 0, report["lag"], state)

    def show(self, progress, killer, text):
        """Draw."""
        self._look()
        acked, elapsed = progress.get("acked", 0), time.monotonic() - self.began
        head = "%s %s of %s events acked, %s/s, %d s" % (bar(acked, self.events), format(acked, ","), format(self.events, ","),
                                                          format(int(acked / max(elapsed, 0.001)), ","), elapsed)
        sums = "  ".join("%s %s" % (name, format(value, ",")) for name, value in self.sums.items())
        lines = ["sandglass demo", head, "vcpu_ms: " + sums, "", *map(self._program, self.pipeline.programs), "", *killer.log[-8:], text]
        self.screen.draw(lines, "%d s: %s events acked; vcpu_ms: %s; %s" % (
            elapsed, format(acked, ","), sums or "-", text or (killer.log[-1].strip() if killer.log else "running")))


def _run(pipeline, screen, options):
    fleet, events = Fleet(pipeline), options.events
    names = [name for name in pipeline.programs if name.startswith("collector-")] + ["aggregator", "exporter", "api"]
    killer, view = Killer(pipeline, names), View(pipeline, screen, events)
    customers = {team: "cus_" + team.replace("-", "") for team in TEAM_NAMES[:-1]}
    for team, customer in customers.items():
        pipeline.set_account(team, customer)
    fleet.start(events=events, sandboxes=options.sandboxes, seed=options.seed, seconds=options.seconds, teams=len(TEAM_NAMES), bad_percent=1)
    while fleet.running():
        progress = fleet.progress()
        killer.step(progress.get("acked", 0) / events)
        view.show(progress, killer, "")
        time.sleep(0.2)
    killer.finish()
    expected = fleet.finish()
    for name in pipeline.programs:
        pipeline.wait_ready(name)
    pipeline.write_endpoints()
    reasons = settle.settle(pipeline, options.settle, lambda text: view.show(fleet.progress(), killer, "settling: " + text))
    if reasons:
        screen.say("not settled within %d s: %s" % (options.settle, "; ".join(reasons[:5])))
    result = proof.prove(pipeline, [fleet.expect_file], customers)
    screen.say("")
    screen.say("%s events of %s sandboxes accepted, %s lines refused on purpose; kill -9 of %s"
               % (format(expected["accepted_events"], ","), format(expected["sandboxes"], ","), format(expected["rejected"], ","),
                  ", ".join(names)))
    screen.say(proof.table(result))
    return result.exact and not reasons


def _show_api(pipeline, screen, keep):
    key = pipeline.new_key(TEAM_NAMES[0])
    status, body = http_get(pipeline.api_url + "/v1/usage", 10, key)
    screen.say("\n%s/v1/usage with %s's key answers %d:" % (pipeline.api_url, TEAM_NAMES[0], status))
    screen.say(json.dumps(json.loads(body), indent=1) if status == 200 else body.decode("utf-8", "replace"))
    screen.say("\nAPI  %s\nkey  %s\ncurl -H 'Authorization: Bearer %s' %s/v1/usage" % (pipeline.api_url, key, key, pipeline.api_url))
    screen.say("deploy/local down --dir %s ends it" % pipeline.folder if keep else "(it ends now; --keep leaves it running)")
    return status == 200


def demo(options):
    """The verb: its exit code."""
    folder = os.path.join(tools.STATE, "demo-%d" % os.getpid())
    screen, began, good, pipeline = Screen(), time.monotonic(), False, None
    try:
        pipeline = Pipeline.create(folder, bound=not options.keep, runners=options.runners, clock="event")
        pipeline.start(lambda text: screen.say("starting " + text))
        screen.say("ready after %.1f s" % (time.monotonic() - began))
        good = _run(pipeline, screen, options)
        good = _show_api(pipeline, screen, options.keep) and good
    except HarnessError as error:
        screen.say("demo failed: %s" % error)
    finally:
        if pipeline is not None and not (options.keep and good):
            pipeline.kill()
        if good and not options.keep:
            shutil.rmtree(folder)
        elif not good:
            screen.say("logs and data: %s" % folder)
    screen.say("%s in %.0f s" % ("done" if good else "FAILED", time.monotonic() - began))
    return 0 if good else 1
