"""`deploy/local test`: every stage, its output in one piece, a summary at the end. A stage that cannot run has failed.

Some stages compute and some mostly wait for real daemons, so all of them run in two lanes side by side. What computes does so at a lower
priority: the deadlines in the other lane are the product's. Stages that are asked for by name run one after the other, their output as it comes.
"""
import glob
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from . import tools

PRESETS = ("dev", "release", "asan-ubsan", "tsan", "coverage")


class Build:
    """A preset's build: made once, by the stage that needs it first."""

    def __init__(self, preset):
        self.preset, self.folder = preset, os.path.join(tools.ROOT, "build", preset)
        self.lock, self.good = threading.Lock(), {}

    def make(self, lane, targets=()):
        """Configure and build, warnings being errors; all of it, or some targets."""
        with self.lock:
            if targets not in self.good:
                self.good[targets] = lane.run("cmake", "-S", tools.ROOT, "--preset", self.preset, "-DSANDGLASS_WERROR=ON", "--log-level=WARNING") and \
                    lane.run("cmake", "--build", self.folder, *(word for target in targets for word in ("--target", target)), "--", "--quiet")
        return self.good[targets]


class Lane:
    """Where a stage runs: what its programs write, their priority, and what they find in their environment."""
    builds = {preset: Build(preset) for preset in PRESETS}

    def __init__(self, out=None, nice=0, **environment):
        self.out, self.nice, self.environment = out, nice, environment

    def run(self, *argv, **environment):
        """Run a program; whether it ended well."""
        self.say("+ " + " ".join(argv))
        return subprocess.run(["nice", "-n", str(self.nice), *argv], cwd=tools.ROOT, env={**os.environ, **self.environment, **environment},
                              stdout=self.out, stderr=self.out and subprocess.STDOUT, check=False).returncode == 0

    def say(self, text):
        """A line of the stage's output."""
        print(text, file=self.out, flush=True)

    def build(self, preset, *targets):
        """See Build.make."""
        return self.builds[preset].make(self, targets)

    def ctest(self, preset, *options, **environment):
        """Run a build's tests."""
        return self.run("ctest", "--test-dir", self.builds[preset].folder, "--output-on-failure", "-j", str(os.cpu_count()), *options, **environment)

    def pytest(self, preset, *arguments, **environment):
        """Run system tests on a build."""
        return self.run(tools.PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", *arguments, SANDGLASS_BUILD=self.builds[preset].folder,
                        **environment)


def _check_source(lane):
    return lane.build("dev") and lane.run("cmake", "--build", lane.builds["dev"].folder, "--target", "check-source")


# Tests of Python code are the same whatever C is built with; sanitizers run the simulations with fewer seeds, and no wrong turns, which may well
# write where they must not.
WITHOUT_PYTHON = ("-E", "check_source|stripe_double|watch_rules")
WITHOUT_TURNS = ("-E", WITHOUT_PYTHON[1] + "|_turns$")


def _unit(lane):
    return lane.build("dev") and lane.ctest("dev") and lane.build("release") and lane.ctest("release", *WITHOUT_PYTHON)


def _coverage(lane):
    """Branches of the pure cores that unit tests and fuzz corpora take; counters of former runs do not count."""
    folder = lane.builds["coverage"].folder
    for counters in glob.glob(os.path.join(folder, "**", "*.gcda"), recursive=True):
        os.remove(counters)
    return lane.build("coverage", "core-tests") and lane.ctest("coverage", "-R", "^(unit|fuzz)_") and \
        lane.run(os.path.join(tools.ROOT, "tests/coverage"), folder)


# Real daemons through one sandbox's life, with kill -9, and to a clean end.
SKELETON = ("tests/system/test_skeleton.py",)
# The library of test_inject.py wants to be the first to be asked for memory; so does the sanitizers'.
WHOLE_SYSTEM = ("tests/system", "--ignore", "tests/system/test_inject.py")


def _sanitized_system(lane, preset, tests):
    """System tests of a sanitized build. Reports go to files: a daemon's exit code is nobody's concern after kill -9. A library that is
    loaded before the sanitizer's (tests/skew) takes nothing from it."""
    suppressions = "suppressions=%s " % os.path.join(tools.ROOT, "tests/tsan/suppressions") if preset == "tsan" else ""
    with tempfile.TemporaryDirectory() as folder:
        settings = "%slog_path=%s" % (suppressions, os.path.join(folder, "report"))
        good = lane.pytest(preset, *tests, TSAN_OPTIONS=settings, ASAN_OPTIONS="verify_asan_link_order=0:" + settings, UBSAN_OPTIONS=settings)
        for name in sorted(os.listdir(folder)):
            good = False
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as report:
                lane.say(report.read())
    return good


def _sanitize(lane):
    return lane.build("asan-ubsan") and lane.ctest("asan-ubsan", *WITHOUT_TURNS, SANDGLASS_SIM_SEEDS="200") and _sanitized_system(lane, "asan-ubsan", SKELETON)


def _tsan(lane):
    return lane.build("tsan") and lane.ctest("tsan", "-R", "^(threads|sim_)") and _sanitized_system(lane, "tsan", SKELETON)


def _system(lane):
    return lane.build("release") and lane.pytest("release", "--durations=0", "-n", "2", "--dist", "loadgroup", "tests/system")


def _harness(lane, *verb):
    return lane.build("release") and lane.run(tools.PYTHON, "-m", "harness", *verb, SANDGLASS_BUILD=lane.builds["release"].folder)


COMPUTING = {"check-source": _check_source, "unit": _unit, "coverage": _coverage, "sanitize": _sanitize}
WAITING = {"system": _system, "torture": lambda lane: _harness(lane, "torture", "--rounds", "15"), "demo": lambda lane: _harness(lane, "demo")}
STAGES = {**COMPUTING, **WAITING}
# Only when it is asked for. Simulations under ThreadSanitizer and all system tests under any sanitizer take minutes, fuzzing as long as one likes.
BY_NAME = {
    "tsan": lambda lane, options: _tsan(lane),
    "system-asan": lambda lane, options: lane.build("asan-ubsan") and _sanitized_system(lane, "asan-ubsan", WHOLE_SYSTEM),
    "system-tsan": lambda lane, options: lane.build("tsan") and _sanitized_system(lane, "tsan", WHOLE_SYSTEM),
    "fuzz": lambda lane, options: lane.run(tools.PYTHON, "tests/fuzz/run", "--runs", str(options.runs)),
}


class Results:
    """What became of the stages."""

    def __init__(self):
        self.began, self.lock, self.rows = time.monotonic(), threading.Lock(), []

    def add(self, name, stage, lane):
        """Run a stage."""
        began, good = time.monotonic(), False
        try:
            good = stage(lane)
        except Exception:  # the stage's error, whatever it is; the others go on
            lane.say(traceback.format_exc())
        self.rows.append((name, good, time.monotonic() - began))

    def add_in_one_piece(self, stages, **settings):
        """Run the stages of a lane; what a stage has to say comes at its end."""
        for name, stage in stages.items():
            with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out:
                self.add(name, stage, Lane(out, **settings))
                with self.lock:
                    print("\n==== %s ====" % name)
                    out.seek(0)
                    sys.stdout.writelines(out)
                    sys.stdout.flush()

    def summary(self):
        """The exit code."""
        print("\n==== summary ====")
        for name, good, took in self.rows:
            print("%-14s %-7s %6.1f s" % (name, "passed" if good else "FAILED", took))
        failed = sum(not good for _, good, _ in self.rows)
        print("%d stages passed, %d failed in %.0f s" % (len(self.rows) - failed, failed, time.monotonic() - self.began))
        return 1 if failed else 0


def test(options):
    """The verb: its exit code."""
    unknown = [name for name in options.names if name not in STAGES and name not in BY_NAME]
    if unknown:
        print("deploy/local: no test of that name; there are: " + " ".join([*STAGES, *BY_NAME]), file=sys.stderr)
        return 2
    results = Results()
    for name in options.names:
        print("\n==== %s ====" % name, flush=True)
        results.add(name, STAGES.get(name) or (lambda lane, run=BY_NAME.get(name): run(lane, options)), Lane())
    if not options.names:
        print("two lanes side by side: %s; and %s. A stage's output comes at its end." % (", ".join(COMPUTING), ", ".join(WAITING)), flush=True)
        computing = threading.Thread(target=results.add_in_one_piece, args=(COMPUTING,), kwargs={"nice": 10, "SANDGLASS_PORTS": "0/2"})
        computing.start()
        results.add_in_one_piece(WAITING, SANDGLASS_PORTS="1/2")
        computing.join()
    return results.summary()
