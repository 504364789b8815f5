#!/usr/bin/env python3
"""What the campaign holds against what programs say of themselves can fail. usage: watch_test.py"""
import os
import sys
import types
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import torture_told, watch  # noqa: E402
from harness.process import HarnessError  # noqa: E402
from harness.torture_faults import FAULTS  # noqa: E402

RUNS = types.SimpleNamespace(pid=os.getpid())


def answer(lag, delivered, healthy=1):
    """A collector's metrics."""
    return {"sandglass_lag": lag, "sandglass_collector_delivered_seq": delivered, "sandglass_healthy": healthy}


class Rules(unittest.TestCase):
    def setUp(self):
        self.eye = watch.Eye("collector-r1")
        self.eye.spoke(0, answer(5, 1))

    def test_who_stands_and_is_green_does_not_tell_the_truth(self):
        self.assertIsNone(self.eye.spoke(watch.STOOD_S - 1, answer(6, 1)))
        self.assertIn("collector-r1 is green, has 6 to do", self.eye.spoke(watch.STOOD_S, answer(6, 1)))

    def test_who_stands_and_is_red_does(self):
        self.eye.spoke(watch.STOOD_S - 1, answer(6, 1, healthy=0))
        self.assertIsNone(self.eye.spoke(watch.STOOD_S + 1, answer(6, 1)))

    def test_who_comes_further_or_has_nothing_to_do_may_be_green(self):
        for second, (lag, delivered) in enumerate(((6, 2), (5, 2), (0, 2))):
            self.assertIsNone(self.eye.spoke((second + 1) * (watch.STOOD_S - 1), answer(lag, delivered)))

    def test_who_runs_and_does_not_answer_is_told_and_who_is_gone_is_not(self):
        self.assertIsNone(self.eye.silent(1, RUNS))
        self.assertIn("runs and does not answer", self.eye.silent(1 + watch.SILENT_S, RUNS))
        self.assertIsNone(self.eye.silent(2 + watch.SILENT_S, types.SimpleNamespace(pid=None)))
        self.assertIsNone(self.eye.silent(3 + watch.SILENT_S, RUNS))


class World:
    """One in which redis was away for a while."""

    def __init__(self, **seen):
        self.pipeline = types.SimpleNamespace(programs=("aggregator", "exporter", "api"))
        self.began, self.hit, self.stood_in = 100.0, (), False
        self.watch = types.SimpleNamespace(wait_look=lambda: None, untrue=[], seen=seen.get)


def seen(red_at):
    """Of a program with a fault of Redis."""
    found = watch.Seen()
    found.faults.add("redis")
    if red_at:
        found.red_at["redis"] = red_at
    return found


class Told(unittest.TestCase):
    fault = FAULTS["redis-killed"]

    def judge(self, over, aggregator, lost=None):
        return torture_told.judge(World(aggregator=aggregator, exporter=seen(105), api=seen(106)), self.fault, over, lost)

    def test_every_fault_says_what_it_owes_and_no_other_does(self):
        self.assertEqual(set(torture_told.TOLD), set(FAULTS))

    def test_a_fault_that_nobody_tells_is_untold(self):
        with self.assertRaisesRegex(HarnessError, "untold: redis-killed owes that aggregator was red: redis"):
            self.judge(104, watch.Seen())

    def test_who_was_killed_afterwards_owes_nothing(self):
        self.assertEqual(self.judge(104, watch.Seen(), lost="aggregator")["red"], 3)

    def test_a_blip_owes_nothing_and_a_short_fault_no_red(self):
        self.assertFalse(self.judge(102, watch.Seen()))
        self.assertEqual(self.judge(110, seen(None))["red"], 3)

    def test_a_fault_that_lasts_must_be_red_in_time(self):
        self.assertEqual(self.judge(112, seen(110))["red"], 3)
        for red_at in (111.5, None):
            with self.assertRaisesRegex(HarnessError, "told too late: redis-killed lasted 12.0 s before aggregator"):
                self.judge(112, seen(red_at))


if __name__ == "__main__":
    unittest.main()
