"""One sandbox through every program and out of the API, by what outside programs know: ingest.md, api.md and endpoints.json."""
import json
import os
import signal
import subprocess
import time

import pytest

from harness import tools
from harness.pipeline import http_get
from harness.supervisor import Supervisor

HOUR = 1_763_884_800  # 2025-11-23T08:00:00Z
START_MS = 10_000
SANDBOX = "run78cbccbab85efc28"


def local(*arguments, check=True):
    """A verb of deploy/local, as a process of its own."""
    done = subprocess.run([tools.PYTHON, "-m", "harness", *arguments], capture_output=True, text=True, timeout=180, check=False,
                          cwd=os.path.join(tools.ROOT, "tests"))
    assert done.returncode == 0 or not check, done.stderr
    return done


@pytest.fixture
def folder(tmp_path_factory):
    """A folder for `up`; whatever happens, it is down afterwards."""
    path = os.path.join(tools.STATE, "system", "up-%d" % os.getpid())
    yield path
    local("down", "--dir", path, "--wipe", check=False)


def feed(supervisor):
    """A sandbox of 2 vCPUs and 1024 MiB that lives 90 s, hibernated for 30 of them; then time goes on past the hour's close."""
    at = supervisor.boot_ms
    supervisor.connect()
    supervisor.send("sandbox.created", at + 1000, sandbox=SANDBOX, team="t1", project="p1", vcpus=2, mem_mib=1024, disk_mib=4096,
                    origin="create", create_ms=17)
    supervisor.send("sandbox.usage", at + 21_000, sandbox=SANDBOX, cpu_us=5_000_000, net_rx_bytes=1000, mem_bytes=1 << 20)
    supervisor.send("sandbox.hibernated", at + 31_000, sandbox=SANDBOX)
    supervisor.send("sandbox.resumed", at + 61_000, sandbox=SANDBOX)
    supervisor.send("exec.exited", at + 70_000, sandbox=SANDBOX, exit_code=3, duration_ms=12)
    supervisor.send("sandbox.destroyed", at + 91_000, sandbox=SANDBOX, reason="api", cpu_us=9_500_000, net_rx_bytes=1500,
                    mem_peak_bytes=5 << 20)
    supervisor.send("api.called", at + 91_500, team="t1", project="p1", operation="sandbox.destroy", status=204)
    supervisor.send("tick", at + 2 * 3_600_000)
    supervisor.wait_acked()


def test_one_sandbox_goes_through_everything_and_comes_out_of_the_api(folder):
    local("up", "--dir", folder, "--clock", "event")
    with open(os.path.join(folder, "endpoints.json"), encoding="utf-8") as file:
        ends = json.load(file)
    cli = ends["cli"]

    def sandglass(*arguments):
        return subprocess.run([*cli, *arguments], capture_output=True, text=True, timeout=60, check=True).stdout

    key = sandglass("key", "create", "t1", "--role", "customer").strip()
    sandglass("account", "set", "t1", "--stripe-customer", "cus_t1")
    feed(Supervisor(ends["runners"][0]["socket"], boot_ms=START_MS, wall_ms=HOUR * 1000))
    local("settle", "--dir", folder, "--timeout", "60")

    status, body = http_get(ends["api"] + "/v1/usage", key=key)
    usage = json.loads(body)
    assert status == 200
    assert (usage["active_sandboxes"], usage["history_sandboxes"]) == (0, 1)
    assert (usage["cpu_seconds"], usage["mem_seconds"]) == (120, 60)

    status, body = http_get(ends["api"] + "/v1/runs/history", key=key)
    (run,) = json.loads(body)["sandboxes"]
    assert status == 200
    assert (run["id"], run["vcpus"], run["mem_mib"], run["create_ms"], run["uptime_ms"], run["cpu_ms"]) == (SANDBOX, 2, 1024, 17, 60_000, 9500)
    assert (run["mem_peak_bytes"], run["reason"], run["last_exit_code"], run["project"], run["region"]) == (5 << 20, "api", 3, "p1", "eu")

    (row,) = [json.loads(line) for line in sandglass("usage", "t1", "--from", str(HOUR), "--to", str(HOUR + 3600), "--step", "hour",
                                                     "--json").splitlines()]
    wanted = {"vcpu_ms": 120_000, "mem_mib_ms": 61_440_000, "disk_mib_ms": 245_760_000, "running_ms": 60_000, "cpu_us": 9_500_000,
              "net_rx_bytes": 1500, "execs": 1, "creates.create": 1, "destroys.api": 1, "exit.3": 1, "api.sandbox.destroy.2xx": 1}
    assert {name: value for name, value in row.items() if isinstance(value, int) and value and name != "start"} == wanted

    status, body = http_get(ends["stripe_billed"])
    assert sorted((row["customer"], row["event_name"], row["hour"], row["value"]) for row in json.loads(body)) == [
        ("cus_t1", "mem_mib_ms", HOUR, 61_440_000), ("cus_t1", "vcpu_ms", HOUR, 120_000)]
    told = json.loads(sandglass("reconcile", "--json"))
    assert told["ok"] and {row["meter"]: row["billed"] for row in told["meters"]} == {"vcpu_ms": 120_000, "mem_mib_ms": 61_440_000}
    assert json.loads(sandglass("status", "--json"))["healthy"]


def test_an_outside_program_can_kill_and_start_each_of_ours(folder):
    local("up", "--dir", folder, "--runners", "2", "--clock", "event")
    path = os.path.join(folder, "endpoints.json")
    with open(path, encoding="utf-8") as file:
        before = json.load(file)
    assert [(runner["name"], runner["region"]) for runner in before["runners"]] == [("r1", "eu"), ("r2", "us")]
    for program in before["programs"]:
        os.kill(program["pid"], signal.SIGKILL)
        while os.path.exists("/proc/%d" % program["pid"]):
            time.sleep(0.01)
        local("start", program["name"], "--dir", folder)
        assert http_get(before["ops"][program["name"]] + "/readyz")[0] == 200
    with open(path, encoding="utf-8") as file:
        after = json.load(file)
    assert not {row["pid"] for row in before["programs"]} & {row["pid"] for row in after["programs"]}
    local("status", "--dir", folder)
