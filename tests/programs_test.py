"""What every program's front promises: its options, its exit codes, its example configuration. usage: programs_test.py PROGRAM ...

The examples in deploy/config/ are what `PROGRAM --example-config` prints. After a change of a table: `cmake --build BUILD --target example-config`.
"""
import os
import subprocess
import sys
import tempfile
import unittest

CONFIG = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "deploy", "config")
PROGRAMS = []
# Values for required keys, by what the example says of them.
FILLED_IN = {"absolute path": "/nonexistent", "file:PATH or credential:NAME": None, "text": "x",
             "text, may be given several times": "vcpu_ms"}


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def example_path(program):
    return os.path.join(CONFIG, os.path.basename(program) + ".conf")


def example(program):
    done = run(program, "--example-config")
    assert done.returncode == 0, done.stderr
    return done.stdout


def bad_configuration(program):
    """Exit codes; for the command line, a configuration that does not hold may also be wrong use."""
    return (1, 2) if os.path.basename(program) == "sandglass" else (1,)


def fill_in(text, secret):
    """The example with something behind every required key."""
    lines, described = [], ""
    for line in text.splitlines():
        if line.startswith("# "):
            described = line[line.rindex("(") + 1:] if "(" in line else ""
        elif line.endswith(" =") and not line.startswith("#"):
            line += " " + (FILLED_IN[described.split(";")[0]] or "file:" + secret)
        lines.append(line)
    return "\n".join(lines) + "\n"


class Programs(unittest.TestCase):
    def test_help_version_and_man_are_printed(self):
        for program in PROGRAMS:
            name = os.path.basename(program)
            for option, expected in (("--help", "--config FILE"), ("--version", name + " "), ("--man", ".SH NAME")):
                done = run(program, option)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(expected, done.stdout)

    def test_wrong_use_ends_with_2(self):
        for program in PROGRAMS:
            self.assertEqual(run(program, "--no-such-option").returncode, 2)
            self.assertEqual(run(program, "no-such-word").returncode, 2)

    def test_the_example_is_the_one_in_deploy_config(self):
        for program in PROGRAMS:
            with open(example_path(program), encoding="utf-8") as f:
                self.assertEqual(f.read(), example(program), "deploy/config is old: build the target example-config")

    def test_the_example_holds_once_it_is_filled_in_and_not_before(self):
        with tempfile.TemporaryDirectory() as folder:
            path, secret = os.path.join(folder, "program.conf"), os.path.join(folder, "secret")
            with open(secret, "w", encoding="utf-8") as f:
                f.write("rk_test_1\n")
            for program in PROGRAMS:
                text = example(program)
                for content, holds in ((fill_in(text, secret), True), (text, False), ("canary = 1\n", False)):
                    with open(path, "w", encoding="utf-8") as f:
                        f.write(content)
                    for order in (("--config", path, "--check-config"), ("--check-config", "--config=" + path)):
                        done = run(program, *order)
                        self.assertIn(done.returncode, (0,) if holds else bad_configuration(program), done.stderr)
                        self.assertNotIn("canary", done.stdout + done.stderr)
                        self.assertEqual(holds, path not in done.stderr)

    def test_a_configuration_that_is_not_there_is_said(self):
        for program in PROGRAMS:
            done = run(program, "--config", "/nonexistent/x.conf", "--check-config")
            self.assertIn(done.returncode, bad_configuration(program))
            self.assertIn("/nonexistent/x.conf: No such file or directory", done.stderr)


def main(argv):
    write = argv[1:2] == ["--write"]
    PROGRAMS.extend(argv[2:] if write else argv[1:])
    if not PROGRAMS:
        print(__doc__, file=sys.stderr)
        return 2
    if not write:
        return 0 if unittest.main(argv=argv[:1], exit=False).result.wasSuccessful() else 1
    for program in PROGRAMS:
        with open(example_path(program), "w", encoding="utf-8") as f:
            f.write(example(program))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
