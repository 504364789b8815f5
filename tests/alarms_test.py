#!/usr/bin/env python3
"""Alarms, metrics, health and runbook cannot drift apart. usage: alarms_test.py (with SANDGLASS_BUILD)

Starts each program without Kafka, Redis and Stripe, asks it for /metrics, and holds deploy/alerts/ and deploy/runbook/ against what it prints:
every metric and component that an alarm names exists; every component and every alarm has a page, every page an alarm; every command of ours, metric
and log event that a page names exists.
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import config, tools  # noqa: E402
from harness.pipeline import http_get  # noqa: E402
from harness.process import Process, free_ports, wait_for  # noqa: E402

RUNBOOK = os.path.join(tools.ROOT, "deploy/runbook")
RULES = os.path.join(tools.ROOT, "deploy/alerts/sandglass.yml")
NOT_OURS = {"up"}
BEYOND_COMPONENTS = {"progress", "main-thread", "down"}  # what health and `sandglass status` say beside them
SECTIONS = ["What it means", "What is at stake", "What to look at", "What to do", "How it ends"]
SOURCES = ("collector", "aggregator", "common")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def metrics_of(folder, name, lines, port):
    """What a program that reaches nothing tells."""
    config.write(os.path.join(folder, "conf"), lines)
    process = Process(name, folder, folder, bound=True)
    process.spawn([tools.program("sandglass-" + name), "--config", os.path.join(folder, "conf")])
    try:
        url = "http://127.0.0.1:%d/metrics" % port
        wait_for("the metrics of " + name, lambda: http_get(url)[0] == 200, 20, alive=process.alive)
        return http_get(url)[1].decode()
    finally:
        process.kill()


def all_metrics():
    """The text of all programs' /metrics."""
    closed, port, listen = free_ports(3)
    here, ops = "127.0.0.1:%d" % closed, "127.0.0.1:%d" % port
    shared = config.Shared(kafka_brokers=here, redis=here, redis_cluster=False, price_book=tools.PRICE_BOOK)
    with tempfile.TemporaryDirectory() as folder:
        key, spool = os.path.join(folder, "key"), os.path.join(folder, "spool")
        config.write_secret(key, config.STRIPE_KEY)
        os.mkdir(spool)
        programs = {
            "collector": config.collector(shared, runner="r1", region="eu", clock="event", ingest_socket=os.path.join(folder, "s"), spool_dir=spool,
                                          spool_bytes_max="64M", cgroup_root=folder, ops_listen=ops),
            "aggregator": config.aggregator(shared, instance="a", ops_listen=ops),
            "exporter": config.exporter(shared, instance="e", cluster="c", stripe_url="http://" + here, stripe_key_file=key, poll_interval="1s",
                                        ops_listen=ops),
            "api": config.api(shared, listen="127.0.0.1:%d" % listen, ops_listen=ops),
        }
        return "".join(metrics_of(folder, name, lines, port) for name, lines in programs.items())


class Alarms(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        text = all_metrics()
        cls.metrics = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
        cls.components = set(re.findall(r'^sandglass_fault_age_ms\{component="([\w-]+)"\}', text, re.M))
        cls.series = set(re.findall(r"^(\w+\{[^}]*\}) ", text, re.M))
        cls.rules = re.findall(r"- alert: (\w+)\n +expr: '(.*)'\n +for: \w+\n +labels: \{severity: (\w+)\}\n +annotations:\n"
                               r' +summary: ".*"\n +why: ".+"\n +runbook: deploy/runbook/([\w-]+)\.md\n', read(RULES))
        usage = subprocess.run([tools.program("sandglass"), "--help"], capture_output=True, text=True, timeout=20, check=True).stdout
        cls.commands = set(re.findall(r"^  ([a-z]+(?: [a-z]+)?) ", usage, re.M))
        cls.pages = {name[:-3]: read(os.path.join(RUNBOOK, name)) for name in os.listdir(RUNBOOK) if name != "README.md"}

    def test_every_rule_is_understood_and_named_once(self):
        names = [rule[0] for rule in self.rules]
        self.assertEqual(len(names), read(RULES).count("- alert:"))
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({rule[2] for rule in self.rules}, {"page", "ticket"})

    def test_every_metric_and_series_of_an_alarm_exists(self):
        for name, expr, _, _ in self.rules:
            for metric in re.findall(r"\b(sandglass_\w+|up)\b", re.sub(r'"[^"]*"', '""', expr)):
                self.assertIn(metric, self.metrics | NOT_OURS, name)
            for series in re.findall(r"sandglass_\w+\{[^}]*\}", expr):
                self.assertIn(series, self.series, name)

    def test_every_word_that_health_says_has_a_page(self):
        self.assertGreaterEqual(len(self.components), 15)
        self.assertLessEqual(self.components | BEYOND_COMPONENTS, set(self.pages))

    def test_alarms_and_pages_are_one_to_one(self):
        self.assertEqual(sorted(rule[3] for rule in self.rules), sorted(self.pages))
        for name, _, _, page in self.rules:
            self.assertIn("Alarm `%s`." % name, self.pages[page])
            self.assertEqual(re.findall(r"^## (.*)$", self.pages[page], re.M), SECTIONS, page)
        listed = re.findall(r"^\| \[([\w-]+)\]\(\1\.md\) \|", read(os.path.join(RUNBOOK, "README.md")), re.M)
        self.assertEqual(sorted(listed), sorted(self.pages))

    def test_what_a_page_names_exists(self):
        source = "".join(read(os.path.join(folder, name)) for top in SOURCES for folder, _, names in os.walk(os.path.join(tools.ROOT, top))
                         for name in names if name.endswith((".c", ".h")))
        for page, text in self.pages.items():
            for link in re.findall(r"\]\(([\w-]+)\.md\)", text):
                self.assertIn(link, self.pages, page)
            for metric in re.findall(r"`(sandglass_\w+)`", text):
                self.assertIn(metric, self.metrics, page)
            for event in re.findall(r"`event=(\w+)`", text):
                self.assertIn('"%s"' % event, source, page)
            for words in re.findall(r"(?:^    |`)sandglass ([a-z]+(?: [a-z]+)?)", text, re.M):
                self.assertTrue(words in self.commands or words.split()[0] in self.commands, (page, words))
            for setting in re.findall(r"`(\w+_(?:max|socket\w*|interval|grace|concurrency|listen))`", text):
                self.assertIn('"%s"' % setting, source, page)


if __name__ == "__main__":
    unittest.main()
