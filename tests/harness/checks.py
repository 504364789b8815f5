"""`deploy/local test`: every stage in turn, all output on the screen, a summary at the end. A stage that cannot run has failed."""
import glob
import os
import subprocess
import sys
import tempfile
import time

from . import tools



def _run(*argv, **environment):
    print("+ " + " ".join(argv), flush=True)
    return subprocess.run(argv, cwd=tools.ROOT, env={**os.environ, **environment}, check=False).returncode == 0


def _build(preset):
    """Configure and build, warnings being errors."""
    folder = os.path.join(tools.ROOT, "build", preset)
    return _run("cmake", "-S", tools.ROOT, "--preset", preset, "-DSANDGLASS_WERROR=ON", "--log-level=WARNING") and \
        _run("cmake", "--build", folder, "--", "--quiet")


def _ctest(preset, *options, **environment):
    return _build(preset) and _run("ctest", "--test-dir", os.path.join(tools.ROOT, "build", preset), "--output-on-failure",
                                   "-j", str(os.cpu_count()), *options, **environment)


def _check_source():
    return _build("dev") and _run("cmake", "--build", os.path.join(tools.ROOT, "build/dev"), "--target", "check-source")


def _system():
    return _build("release") and _run(tools.PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", "--durations=0", "-n", "2",
                                      "--dist", "loadgroup", "tests/system", SANDGLASS_BUILD=os.path.join(tools.ROOT, "build/release"))


def _harness(*verb):
    return _build("release") and _run(tools.PYTHON, "-m", "harness", *verb, SANDGLASS_BUILD=os.path.join(tools.ROOT, "build/release"))


def _coverage():
    """Branches of the pure cores that unit tests and fuzz corpora take; counters of former runs do not count."""
    folder = os.path.join(tools.ROOT, "build/coverage")
    for counters in glob.glob(os.path.join(folder, "**", "*.gcda"), recursive=True):
        os.remove(counters)
    return _ctest("coverage", "-R", "^(unit|fuzz)_", SANDGLASS_SIM_SEEDS="20") and _run(os.path.join(tools.ROOT, "tests/coverage"), folder)


def _sanitized_pipeline(preset):
    """Real daemons of a sanitized build through one sandbox's life, with kill -9, and to a clean end. Reports go to files: a daemon's exit
    code is nobody's concern after kill -9."""
    suppressions = "suppressions=%s " % os.path.join(tools.ROOT, "tests/tsan/suppressions") if preset == "tsan" else ""
    with tempfile.TemporaryDirectory() as folder:
        settings = "%slog_path=%s" % (suppressions, os.path.join(folder, "report"))
        good = _run(tools.PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", "tests/system/test_skeleton.py",
                    SANDGLASS_BUILD=os.path.join(tools.ROOT, "build", preset), TSAN_OPTIONS=settings, ASAN_OPTIONS=settings, UBSAN_OPTIONS=settings)
        for name in sorted(os.listdir(folder)):
            good = False
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as report:
                print(report.read())
    return good


# Tests of Python code are the same whatever C is built with; sanitizers run the simulations with fewer seeds.
WITHOUT_PYTHON = ("-E", "check_source|stripe_double")
STAGES = {
    "check-source": _check_source,
    "unit": lambda: _ctest("dev") and _ctest("release", *WITHOUT_PYTHON),
    "sanitize": lambda: _ctest("asan-ubsan", *WITHOUT_PYTHON, SANDGLASS_SIM_SEEDS="200") and _sanitized_pipeline("asan-ubsan"),
    "system": _system,
    "torture": lambda: _harness("torture", "--rounds", "15"),
    "demo": lambda: _harness("demo"),
}
# Only when it is asked for. Fuzzing takes as long as one likes.
BY_NAME = {
    "coverage": lambda options: _coverage(),
    "tsan": lambda options: _ctest("tsan", "-R", "^(threads|sim_)") and _sanitized_pipeline("tsan"),
    "fuzz": lambda options: _run(tools.PYTHON, "tests/fuzz/run", "--runs", str(options.runs)),
}


def test(options):
    """The verb: its exit code."""
    unknown = [name for name in options.names if name not in STAGES and name not in BY_NAME]
    if unknown:
        print("deploy/local: no test of that name; there are: " + " ".join([*STAGES, *BY_NAME]), file=sys.stderr)
        return 2
    results = []
    for name in options.names or STAGES:
        print("\n==== %s ====" % name, flush=True)
        began = time.monotonic()
        good = BY_NAME[name](options) if name in BY_NAME else STAGES[name]()
        results.append((name, good, time.monotonic() - began))
    print("\n==== summary ====")
    for name, good, took in results:
        print("%-14s %-7s %6.1f s" % (name, "passed" if good else "FAILED", took))
    failed = sum(not good for _, good, _ in results)
    print("%d stages passed, %d failed in %.0f s" % (len(results) - failed, failed, sum(took for _, _, took in results)))
    return 1 if failed else 0
