"""HTTP/1.1 on plain sockets: framing, pipelining, keep-alive, what is refused."""

import time

import pytest

from conftest import event, unique

AUTH = b"Authorization: Bearer sk_test_local\r\n"
GET = b"GET /v1/billing/meters/mtr_no HTTP/1.1\r\nHost: x\r\n" + AUTH + b"\r\n"


def post_bytes(customer, value, version=b"1.1", extra=b""):
    body = b"event_name=delta_m&payload[stripe_customer_id]=%s&payload[value]=%d" % (customer.encode(), value)
    return (
        b"POST /v1/billing/meter_events HTTP/"
        + version
        + b"\r\nHost: x\r\n"
        + AUTH
        + extra
        + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )


def read_reply(file):
    """(status, {name: value}, body) of the next reply; None at the end."""
    line = file.readline()
    if not line:
        return None
    headers = {}
    while (field := file.readline()) != b"\r\n":
        name, _, value = field.partition(b":")
        headers[name.lower().decode()] = value.strip().decode()
    return int(line.split()[1]), headers, file.read(int(headers.get("content-length", 0)))


def exchange(double, *pieces, pause_s=0.0, count=1):
    """Send the pieces, read `count` replies, and whether the connection ends then (None: it stayed open)."""
    with double.socket(timeout=2) as client:
        file = client.makefile("rb")
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause_s)
        replies = [read_reply(file) for _ in range(count)]
        client.settimeout(0.05)
        try:
            ended = client.recv(1) == b""
        except TimeoutError:
            ended = False
        return replies, ended


def test_pipelined_requests_are_answered_in_order(double):
    customer = unique("cus")
    double.faults({"effect": "none", "customer": customer, "nth": 1, "delay_before_ms": 50})
    replies, ended = exchange(double, post_bytes(customer, 1) + GET + post_bytes(customer, 2) + GET, count=4)
    assert [reply[0] for reply in replies] == [200, 404, 200, 404] and not ended
    assert b'"value": "1"' in replies[0][2] and b'"value": "2"' in replies[2][2]
    assert sum(double.billed(customer).values()) == 3


def test_a_request_may_come_byte_by_byte(double):
    customer = unique("cus")
    data = post_bytes(customer, 4)
    replies, _ = exchange(double, *[data[i : i + 1] for i in range(len(data))])
    assert replies[0][0] == 200 and sum(double.billed(customer).values()) == 4


def test_connections_are_kept_or_closed_as_asked(double):
    assert exchange(double, GET)[1] is False
    replies, ended = exchange(double, GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert ended and replies[0][1]["connection"] == "close"
    assert exchange(double, GET.replace(b"1.1", b"1.0"))[1] is True
    assert exchange(double, GET.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n"))[1] is False


def test_a_half_closed_client_gets_its_replies(double):
    with double.socket() as client:
        client.sendall(GET + GET)
        client.shutdown(1)
        file = client.makefile("rb")
        assert [read_reply(file)[0] for _ in range(2)] == [404, 404] and read_reply(file) is None


def test_expect_100_continue_is_answered_once_and_only_when_the_body_is_missing(double):
    data = post_bytes(unique("cus"), 1, extra=b"Expect: 100-continue\r\n")
    head, body = data[: data.index(b"\r\n\r\n") + 4], data[data.index(b"\r\n\r\n") + 4 :]
    with double.socket() as client:
        file = client.makefile("rb")
        client.sendall(head)
        assert read_reply(file)[0] == 100
        client.sendall(body)
        assert read_reply(file)[0] == 200
        client.sendall(data)
        assert read_reply(file)[0] == 200


@pytest.mark.parametrize(
    "head, status",
    [
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            411,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 17000, 431),
    ],
)
def test_what_cannot_be_framed_is_refused_and_closed(double, head, status):
    replies, ended = exchange(double, head + GET)
    assert replies[0][0] == status and ended and replies[0][1]["connection"] == "close"


def test_empty_lines_before_a_request_are_skipped(double):
    assert exchange(double, b"\r\n\r\n" + GET)[0][0][0] == 404


def test_a_client_that_never_reads_does_not_stop_the_double(double):
    with double.socket() as client:
        client.settimeout(0.3)
        try:
            for _ in range(400):
                client.sendall(GET * 200)
            blocked = False
        except TimeoutError:
            blocked = True
        assert blocked and double.get("/v1/billing/meters").status == 200


def test_idle_and_worn_connections_are_closed_by_knob(double):
    double.knobs(requests_per_connection=2)
    replies, ended = exchange(double, GET + GET + GET, count=2)
    assert ended and [reply[1]["connection"] for reply in replies] == ["keep-alive", "close"]
    double.knobs(requests_per_connection=0, idle_close_ms=40)
    with double.socket() as client:
        file = client.makefile("rb")
        client.sendall(GET)
        assert read_reply(file)[0] == 404 and read_reply(file) is None


def test_connections_are_ended_on_command(double):
    for how, error in (("fin", None), ("reset", ConnectionResetError)):
        with double.socket() as client:
            client.sendall(GET)
            client.recv(65536)
            double.control("/control/connections", {"close": how})
            if error:
                with pytest.raises(error):
                    client.recv(1)
            else:
                assert client.recv(1) == b""


def test_the_control_port_refuses_what_it_does_not_understand(double):
    port = double.ready["admin_port"]
    assert double.call("GET", "/control/nothing", port=port).status == 404
    for path, body in (
        ("/control/clock", "{}"),
        ("/control/clock", '{"advance_s": true}'),
        ("/control/knobs", '{"colour": 1}'),
        ("/control/knobs", '{"latency_ms": -1}'),
        ("/control/knobs", '{"concurrency": "maybe"}'),
        ("/control/meter", "{}"),
        ("/control/faults", "{"),
        ("/control/faults", "[" * 100000),
        ("/control/key", "{}"),
        ("/control/identifiers", "{}"),
        ("/control/customer", '{"customer": 1}'),
        ("/control/connections", "{}"),
    ):
        assert double.call("POST", path, body, port=port).status == 400, path


def test_events_are_taken_fast(double):
    """1,500 events a second on one core is the aim; the bound here is loose, for a busy machine."""
    customer = unique("cus")
    begun = time.monotonic()
    replies, _ = exchange(double, b"".join(post_bytes(customer, 1) for _ in range(500)), count=500)
    assert all(reply[0] == 200 for reply in replies) and time.monotonic() - begun < 2.5
    assert double.billed(customer) and sum(double.billed(customer).values()) == 500
    assert double.post(event(customer, 1)).status == 200
