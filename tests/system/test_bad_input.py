"""Refused input leaves no trace but a code and a count: a canary is put into every kind of it, and looked for everywhere afterwards."""
import http.client
import os
import re
import subprocess

from conftest import assert_exact, start_fleet
from harness import config, tools
from harness.pipeline import PROGRAM_FILES, http_get
from harness.process import wait_for
from harness.supervisor import Supervisor

CANARY = "canary7f3a9e51"
SECRET = "sk_test_secretcanary0c4d"
BATCH_CANARY = "batchcanary88e2"
LINES = [  # the number is put in by the test
    b'{"n":%d,"boot_ms":1,"type":"tick","canary7f3a9e51":1}',
    b'{"n":%d,"boot_ms":1,"type":"canary7f3a9e51"}',
    b'{"n":%d,"boot_ms":1,"type":"sandbox.hibernated","sandbox":"canary7f3a9e51"}',
    b'{"n":%d,"boot_ms":1,"type":"sandbox.hibernated","sandbox":"canary7f3a9e51 /home"}',
    b'{"n":%d,"boot_ms":"canary7f3a9e51","type":"tick"}',
    b'{"n":%d,"boot_ms":1,"type":"tick","type":"canary7f3a9e51"}',
    b'{"n":%d,"boot_ms":1,"type":["canary7f3a9e51"]}',
    b'{"n":%d,"boot_ms":1,"type":"api.called","team":"canary7f3a9e51\\u0000","operation":"other","status":200}',
    b'{"n":%d,"boot_ms":1,"type":"api.called","team":"t","operation":"canary7f3a9e51","status":200}',
    b'{"n":%d,"boot_ms":1,"type":"tick","pad":"' + b"canary7f3a9e51" * 400 + b'"}',
]


def refused_lines(pipeline):
    """Every line is refused with a code, and one more is accepted behind them."""
    supervisor = Supervisor(pipeline.socket("r1"), source="strict", wall_ms=1_763_884_800_000)
    supervisor.connect()
    for line in LINES:
        supervisor.send_line(line % (supervisor.n + 1))
    supervisor.send("tick", 2)
    supervisor.wait_acked()
    assert [n for n, _ in supervisor.rejects] == list(range(1, len(LINES) + 1))
    assert all(re.fullmatch("[a-z_]+", code) for _, code in supervisor.rejects)
    for garbage in (CANARY.encode() + b"\n", b'{"v":1,"type":"hello","source":"' + CANARY.encode() + b' !"}\n', b"\x00\xff" + CANARY.encode() + b"\n"):
        other = Supervisor(pipeline.socket("r1"), source="other")
        other.connect()
        other.send_raw(garbage)
        other.close()


def refused_requests(pipeline):
    """Requests that every listener must refuse, quoting nothing."""
    ports = [pipeline.made["api_port"], *pipeline.made["ops_ports"].values()]
    key = pipeline.new_key("team-1")
    for port in ports:
        for method, path, headers in (
                ("GET", "/" + CANARY, {}), ("GET", "/v1/usage?%s=1" % CANARY, {"Authorization": "Bearer " + key}),
                ("GET", "/v1/usage?from=" + CANARY, {"Authorization": "Bearer " + key}),
                ("GET", "/v1/usage", {"Authorization": "Bearer isorun_live_eu_" + CANARY}),
                ("GET", "/v1/usage", {"Authorization": CANARY}), ("GET", "/v1/runs/" + CANARY, {"Authorization": "Bearer " + key}),
                ("GET", "/v1/runs/history?cursor=" + CANARY, {"Authorization": "Bearer " + key}),
                ("GET", "/healthz", {"X-" + CANARY: CANARY}), ("POST", "/v1/usage", {"Content-Type": CANARY}), (CANARY.upper(), "/", {})):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            text = str(answer.getheaders()).encode() + answer.read()
            assert answer.status >= 400 or path == "/healthz", path
            assert CANARY.encode() not in text.lower(), path
            connection.close()


def refused_configuration(pipeline, folder):
    """Configuration that must be refused, with file and line and without what stands there."""
    for kind, program in PROGRAM_FILES.items():
        name = "collector-r1" if kind == "collector" else kind
        with open(pipeline.path("etc", name + ".conf"), encoding="utf-8") as file:
            good = file.read()
        for number, bad in enumerate(("%s = 1\n" % CANARY, "log_level = %s\n" % CANARY, "ops_listen = %s\n" % CANARY, CANARY + "\n")):
            key = bad.partition(" = ")[0]
            path = folder / ("%s-%d.conf" % (kind, number))
            path.write_text("".join(line + "\n" for line in good.splitlines() if not line.startswith(key + " ")) + bad)
            done = subprocess.run([tools.program(program), "--config", str(path), "--check-config"], capture_output=True, timeout=20, check=False)
            assert done.returncode in (1, 2), (kind, bad)
            assert b".conf:" in done.stderr and CANARY.encode() not in done.stdout + done.stderr, (kind, bad)


def everything_said(pipeline):
    """(where, bytes) of all that can be read anywhere: topics, files, listeners."""
    for topic in pipeline.made["topics"].values():
        yield "topic " + topic, subprocess.run(["kcat", "-C", "-b", pipeline.kafka.brokers, "-t", topic, "-o", "beginning", "-e", "-q"],
                                               capture_output=True, timeout=60, check=True).stdout
    for name in pipeline.programs:
        for path in ("/metrics", "/healthz", "/readyz"):
            yield name + path, http_get(pipeline.ops_url(name) + path)[1]
    for folder, _, files in os.walk(pipeline.folder):
        for file in files:
            path = os.path.join(folder, file)
            if os.path.isfile(path) and path != pipeline.path("etc", "stripe.key"):
                with open(path, "rb") as content:
                    yield os.path.relpath(path, pipeline.folder), content.read()


def quarantined(pipeline):
    """The aggregator's count of batches put aside."""
    text = http_get(pipeline.ops_url("aggregator") + "/metrics")[1].decode()
    return sum(int(float(value)) for value in re.findall(r"^sandglass_\w*quarantine\w*(?:\{.*\})? ([0-9.e+]+)$", text, re.M))


def test_no_canary_of_refused_input_is_found_anywhere(make_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "STRIPE_KEY", SECRET)
    pipeline = make_pipeline()
    fleet = start_fleet(pipeline, events=30_000, bad_percent=20, canary=CANARY)
    refused_lines(pipeline)
    refused_requests(pipeline)
    refused_configuration(pipeline, tmp_path)
    assert_exact(pipeline, fleet)
    found = [where for where, content in everything_said(pipeline) if CANARY.encode() in content or SECRET.encode() in content]
    assert not found, found


def test_a_malformed_batch_is_put_aside_and_the_rest_is_exact(pipeline):
    fleet = start_fleet(pipeline, events=30_000, seconds=5)
    for partition in range(config.PARTITIONS):
        for message in (BATCH_CANARY, "\x08\x01\x12" + BATCH_CANARY, "\x08\x63" + BATCH_CANARY):
            subprocess.run(["kcat", "-P", "-b", pipeline.kafka.brokers, "-t", pipeline.made["topics"]["events"], "-p", str(partition), "-k", "r9"],
                           input=message.encode(), timeout=30, check=True)
    wait_for("the alarm counter", lambda: quarantined(pipeline) >= 3 * config.PARTITIONS, 30)
    assert_exact(pipeline, fleet)
    found = [where for where, content in everything_said(pipeline)
             if BATCH_CANARY.encode() in content and not where.startswith(("topic sandglass.events", "kafka/kafka/data/sandglass.events"))]
    assert not found, found


def test_a_second_collector_on_the_same_spool_is_refused(pipeline):
    done = subprocess.run([tools.program("sandglass-collector"), "--config", pipeline.path("etc", "collector-r1.conf")], capture_output=True,
                          text=True, timeout=20, check=False)
    assert done.returncode not in (0, None) and "error=LOCKED" in done.stderr
    assert pipeline.ready("collector-r1")
