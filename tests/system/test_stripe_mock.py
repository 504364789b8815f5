"""Stripe's own stripe-mock, which checks each request against Stripe's OpenAPI description, takes exactly what the exporter has sent."""
import json
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import assert_exact, start_fleet
from harness import config, tools
from harness.pipeline import http_get
from harness.process import Process, free_ports, wait_for

EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def mock(tmp_path):
    """The URL of a stripe-mock; built once, into the state folder."""
    built = subprocess.run(["bash", tools.ROOT + "/tests/stripe/stripe_mock.sh", tools.STATE + "/stripe-mock"], capture_output=True, text=True,
                           timeout=600, check=False)
    assert built.returncode == 0, built.stderr
    http, https = free_ports(2)
    process = Process("stripe-mock", str(tmp_path), str(tmp_path), True)
    process.spawn([built.stdout.strip(), "-http-addr", "127.0.0.1:%d" % http, "-https-addr", "127.0.0.1:%d" % https])
    url = "http://127.0.0.1:%d" % http
    wait_for("stripe-mock", lambda: http_get(url + "/v1/customers", key="sk_test_123")[0] == 200, 30, alive=process.alive)
    yield url
    process.kill()


def call(url, path, body=None):
    """(status, answer) of a request as the exporter makes it."""
    request = urllib.request.Request(url + path, data=body and body.encode(), headers={
        "Authorization": "Bearer sk_test_123", "Content-Type": "application/x-www-form-urlencoded"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def intents(pipeline):
    """The intents in the ledger: what the exporter has sent, byte for byte."""
    done = subprocess.run(["kcat", "-C", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["ledger"], "-o", "beginning", "-e", "-q",
                           "-X", "isolation.level=read_committed", "-f", "%s\\n"], capture_output=True, timeout=60, check=True)
    lines = [line for line in done.stdout.split(b"\n") if line.startswith(b'{"v":1,"kind":"intent"')]
    return [json.loads(line) for line in lines]


def test_stripe_mock_accepts_every_meter_event_of_a_run(make_pipeline, mock):
    pipeline = make_pipeline()
    assert_exact(pipeline, start_fleet(pipeline, events=5_000))
    sent = intents(pipeline)
    assert {intent["meter"] for intent in sent} == {meter for meter, _ in config.METERS}
    for intent in sent:
        status, answer = call(mock, EVENTS, intent["body"])
        assert (status, answer.get("identifier")) == (200, intent["identifier"]), answer
    assert call(mock, EVENTS, sent[0]["body"].replace("event_name", "event_nome"))[0] == 400
    assert call(mock, "/v1/billing/meters?limit=100&status=active")[0] == 200
