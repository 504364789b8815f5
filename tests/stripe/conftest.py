"""Fixtures: the double as a process of its own, and a plain client for it."""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlencode

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk_test_local"
HOUR = 3600
_names = itertools.count(1)


def unique(prefix):
    """A name that no other test uses."""
    return "%s_%d" % (prefix, next(_names))


class Answer:
    """Status, header fields (lower-case names) and body of one reply."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]


class Double:
    """A running double. Its state file outlives kill() and start()."""

    def __init__(self, folder, *args, meters=("set_m:set", "delta_m:delta")):
        self.ready_file, self.state, self.log_file = (os.path.join(folder, name) for name in ("ready.json", "journal", "log"))
        self.args = list(args) + [word for meter in meters for word in ("--meter", meter)]
        self.process = self.ready = None
        self.start()

    def command(self):
        return [
            sys.executable,
            os.path.join(HERE, "stripe_double.py"),
            "--state",
            self.state,
            "--ready-file",
            self.ready_file,
            *self.args,
        ]

    def start(self):
        if os.path.exists(self.ready_file):
            os.remove(self.ready_file)
        with open(self.log_file, "ab") as log:  # a pipe that nobody reads would stop the double once it is full
            self.process = subprocess.Popen(self.command(), stderr=log)
        deadline = time.monotonic() + 10
        while not os.path.exists(self.ready_file):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with open(self.ready_file, encoding="utf-8") as file:
            self.ready = json.load(file)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait()
        return self.process.returncode

    def log(self):
        with open(self.log_file, encoding="utf-8") as file:
            return file.read()

    def kill(self):
        return self.end(signal.SIGKILL)

    def socket(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.ready["port"]), timeout)

    def call(self, method, path, body=None, headers=None, key=KEY, port=None, timeout=30):
        fields = {} if key is None else {"Authorization": "Bearer " + key}
        fields.update(headers or {})
        client = http.client.HTTPConnection("127.0.0.1", port or self.ready["port"], timeout=timeout)
        try:
            client.request(method, path, body, fields)
            reply = client.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            client.close()

    def get(self, path, **params):
        return self.call("GET", path + ("?" + urlencode(params) if params else ""))

    def post(self, params, idempotency=None, timeout=30, **headers):
        """A meter event from a dict of flat form names."""
        fields = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        if idempotency:
            fields["Idempotency-Key"] = idempotency
        return self.call("POST", "/v1/billing/meter_events", urlencode(params), fields, timeout=timeout)

    def control(self, path, args=None):
        reply = self.call(
            "GET" if args is None else "POST",
            path,
            None if args is None else json.dumps(args),
            port=self.ready["admin_port"],
        )
        assert reply.status == 200, reply.body
        return reply.json

    def faults(self, *rules, seed=1):
        self.control("/control/faults", {"seed": seed, "rules": list(rules)})

    def knobs(self, **values):
        self.control("/control/knobs", values)

    def billed(self, customer):
        """{(event_name, hour): value} of one customer."""
        return {
            (row["event_name"], row["hour"]): row["value"]
            for row in self.control("/billed")
            if row["customer"] == customer
        }

    def stats(self):
        return self.control("/control/stats")

    def now(self):
        return self.stats()["now_ms"] // 1000


def event(customer, value, meter="delta_m", at=None, identifier=None):
    """Form parameters of a meter event."""
    params = {"event_name": meter, "payload[stripe_customer_id]": customer, "payload[value]": value}
    if at is not None:
        params["timestamp"] = at
    if identifier is not None:
        params["identifier"] = identifier
    return params


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    double = Double(str(tmp_path_factory.mktemp("double")), "--clock", "offset")
    yield double
    assert double.end() == 0


@pytest.fixture
def double(shared):
    """The shared double without faults and with its default knobs; tests use customers and identifiers of their own."""
    defaults = shared.control("/control/knobs")
    yield shared
    shared.faults()
    shared.knobs(**defaults)
    shared.control("/control/key", {"state": "ok"})
    for meter in ("set_m", "delta_m"):
        shared.control("/control/meter", {"event_name": meter, "status": "active"})


@pytest.fixture
def private(tmp_path):
    """Start doubles of one's own: private("--knob", "x=y")."""
    started = []

    def start(*args, **options):
        started.append(Double(str(tmp_path), *args, **options))
        return started[-1]

    yield start
    for double in started:
        if double.process.poll() is None:
            double.end()
