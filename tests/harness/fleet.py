"""The fleet simulator as a process: traffic through the sockets of a pipeline, and the totals that must come out."""
import json
import os

from . import tools
from .process import HarnessError, Process


class Fleet:
    """One run of sandglass-fleet; several side by side need a name (the prefix of their sources) each."""

    def __init__(self, pipeline, name="fleet"):
        self.pipeline, self.name = pipeline, name
        self.process = Process(name, pipeline.path("run"), pipeline.path("log"), True)
        self.expect_file = pipeline.path(name + ".expect.json")
        self.progress_file = pipeline.path(name + ".progress.json")

    def start(self, **options):
        """Start it; options as on its command line, `drain_ms=0` for --drain-ms 0, True for a flag."""
        argv = [tools.program("sandglass-fleet"), "--expect", self.expect_file, "--progress", self.progress_file,
                "--source", self.name, "--clock", self.pipeline.made["clock"]]
        for runner in self.pipeline.made["runners"]:
            argv += ["--socket", "%s:%s:%s" % (runner["name"], runner["region"], self.pipeline.socket(runner["name"]))]
        for option, value in options.items():
            argv += ["--" + option.replace("_", "-")] + ([] if value is True else [str(value)])
        for path in (self.expect_file, self.progress_file):
            if os.path.exists(path):
                os.remove(path)
        self.process.spawn(argv)

    def progress(self):
        """Its newest progress report, or {}."""
        try:
            with open(self.progress_file, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return {}

    def running(self):
        """Whether it still runs."""
        return self.process.alive()

    def finish(self, timeout_s=600):
        """Wait for its end; its expectation, or an error when it did not succeed."""
        self.process.wait_gone(timeout_s)
        code = self.process.child.wait()
        if code:
            raise HarnessError("the fleet failed (%d)\n%s" % (code, self.process.log_tail()))
        with open(self.expect_file, encoding="utf-8") as file:
            return json.load(file)
