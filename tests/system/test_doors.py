"""The doors: every command of the command line, roles and keys over HTTP, TLS 1.3 and nothing older."""
import json
import os
import shutil
import ssl
import subprocess
import urllib.request

import pytest

from conftest import assert_exact, start_fleet
from harness import config, tools
from harness.pipeline import Pipeline, http_get
from harness.process import Process, free_ports, wait_for

pytestmark = pytest.mark.xdist_group("doors")  # they share a pipeline


@pytest.fixture(scope="module")
def fed(request):
    """A pipeline through which a small fleet has gone."""
    folder = os.path.join(tools.STATE, "system", "doors-%d" % os.getpid())
    pipeline = Pipeline.create(folder, bound=True, runners=2, clock="event")
    try:
        pipeline.start()
        fleet = start_fleet(pipeline, events=20_000)
        assert_exact(pipeline, fleet)
        yield pipeline
    finally:
        pipeline.kill()
        if not request.session.testsfailed:
            shutil.rmtree(folder)


def test_a_spool_is_verified_and_dumped(fed):
    fed.programs["collector-r1"].stop()
    try:
        assert fed.cli("spool", "verify", fed.path("spool", "r1")).returncode == 0
        fed.cli_text("spool", "dump", fed.path("spool", "r1"))
    finally:
        fed.restart("collector-r1")


def test_the_events_topic_can_be_followed_and_decoded(fed, tmp_path):
    lines = [json.loads(line) for line in fed.cli_text("tail", "--count", "3").splitlines()]
    assert lines
    message = subprocess.run(["kcat", "-C", "-b", fed.kafka.brokers, "-t", fed.made["topics"]["events"], "-o", "beginning", "-c", "1", "-q", "-D", ""],
                             capture_output=True, timeout=30, check=True).stdout
    (tmp_path / "batch").write_bytes(message)
    assert [json.loads(line) for line in fed.cli_text("decode", str(tmp_path / "batch")).splitlines()]


def test_a_key_sees_its_own_team_until_it_is_revoked(fed):
    key = fed.new_key("team-1")
    status, body = http_get(fed.api_url + "/v1/runs/history?limit=1", key=key)
    assert status == 200
    run = json.loads(body)["sandboxes"][0]["id"]
    other = fed.new_key("team-2")
    assert http_get(fed.api_url + "/v1/runs/" + run, key=key)[0] == 200
    assert http_get(fed.api_url + "/v1/runs/" + run, key=other)[0] == 404
    assert http_get(fed.api_url + "/v1/capacity", key=key)[0] == 403
    assert http_get(fed.api_url + "/v1/usage", key="isorun_live_eu_nobody")[0] == 401
    before = {row["key_sha256"] for row in fed.cli_lines("key", "list", "--json")}
    fresh = fed.new_key("team-1")
    (digest,) = {row["key_sha256"] for row in fed.cli_lines("key", "list", "--json")} - before
    wait_for("the key to be known", lambda: http_get(fed.api_url + "/v1/usage", key=fresh)[0] == 200, 10)
    fed.cli_text("key", "revoke", digest)
    wait_for("the key to be refused", lambda: http_get(fed.api_url + "/v1/usage", key=fresh)[0] == 401, 10)
    fed.cli_text("control", "verify")


def test_roles_see_what_they_may(fed):
    status, body = http_get(fed.api_url + "/v1/capacity", key=fed.operator_key())
    assert status == 200 and b"team-" not in body and b"run" in body
    billing = fed.new_key("team-1", "billing")
    status, body = http_get(fed.api_url + "/v1/ledger?from=0&to=4000000000", key=billing)
    assert status == 200 and b"cus_one" in body
    assert http_get(fed.api_url + "/v1/ledger?from=0&to=4000000000", key=fed.operator_key())[0] == 403


def test_series_add_up_to_the_rollups_at_every_step(fed):
    key, rows = fed.new_key("team-2"), fed.cli_lines("usage", "team-2", "--step", "hour", "--json")
    for step in ("minute", "hour", "day"):
        for group in ("none", "project", "region"):
            status, body = http_get(fed.api_url + "/v1/usage/series?meter=vcpu_ms&from=0&to=4000000000&step=%s&group_by=%s" % (step, group), key=key)
            assert status == 200, body
            total = sum(point["value"] for series in json.loads(body)["series"] for point in series["points"])
            assert total == sum(row.get("vcpu_ms", 0) for row in rows), (step, group)


def test_both_listeners_describe_the_api(fed):
    for url in (fed.api_url, fed.ops_url("api")):
        status, body = http_get(url + "/openapi.json")
        assert status == 200 and json.loads(body)["openapi"].startswith("3.1")


def test_with_a_certificate_the_api_speaks_tls_1_3_only(fed, tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, capture_output=True)
    port, ops = free_ports(2)
    lines = dict(config.api(fed.shared(), listen="127.0.0.1:%d" % port, ops_listen="127.0.0.1:%d" % ops))
    config.write(str(tmp_path / "api.conf"), [*lines.items(), ("tls_cert", cert), ("tls_key", key)])
    process = Process("api-tls", str(tmp_path), str(tmp_path), True)
    process.spawn([tools.program("sandglass-api"), "--config", str(tmp_path / "api.conf")])
    try:
        wait_for("the API with TLS", lambda: http_get("http://127.0.0.1:%d/readyz" % ops)[0] == 200, 30, alive=process.alive)
        modern = ssl.create_default_context(cafile=cert)
        with urllib.request.urlopen("https://127.0.0.1:%d/openapi.json" % port, context=modern, timeout=10) as answer:
            assert answer.status == 200
        old = ssl.create_default_context(cafile=cert)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):
            urllib.request.urlopen("https://127.0.0.1:%d/openapi.json" % port, context=old, timeout=10)
    finally:
        process.kill()


@pytest.mark.parametrize("name", ["sandglass-collector", "sandglass-aggregator", "sandglass-exporter", "sandglass-api", "sandglass"])
def test_every_program_explains_itself(name):
    for flag in ("--help", "--version", "--example-config", "--man"):
        done = subprocess.run([tools.program(name), flag], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0 and done.stdout, flag
    assert subprocess.run([tools.program(name), "--no-such-option"], capture_output=True, timeout=20, check=False).returncode == 2


def test_the_shipped_price_book_is_valid(fed):
    fed.cli_text("price", "check", tools.PRICE_BOOK)
