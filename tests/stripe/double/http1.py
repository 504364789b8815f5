"""HTTP/1.1 server side on asyncio.Protocol: parsing, keep-alive, pipelining, and the ways in which a reply can go
wrong on the wire.

HAPPY PATH: bytes -> head (request line + fields) -> body of Content-Length bytes -> app.handle(request, conn) ->
conn.reply(reply). A connection works on one request at a time: pipelined requests wait in the buffer and are answered
in order, so the application may answer at once or seconds later. Reading pauses while the buffer is full, answering
pauses while the client does not read.

FAILURES: a malformed head is answered 400 and the connection closed (what follows cannot be framed any more); a body
in chunks is refused with 411, too long a head with 431, too long a body with 413, an unknown expectation with 417,
another major version with 505.

INVARIANTS: a request's bytes are consumed exactly once; conn.reply is called exactly once per handled request, also
when the client has gone (then nothing is sent); field values never leave this module but through Request.headers."""

import asyncio
import json
import re
import socket
import struct
import time
from email.utils import formatdate
from http.client import responses

HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 256 * 1024
BUFFER_BYTES_MAX = HEAD_BYTES_MAX + BODY_BYTES_MAX

REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/(\d)\.(\d)")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*)")
STATUS_LINES = {code: b"HTTP/1.1 %d %s\r\n" % (code, text.encode()) for code, text in responses.items()}
LINGER_S = 0.5
LINGER_OFF = struct.pack("ii", 1, 0)


class Request:
    """One parsed request. `path` is without the query; `headers` maps lower-case names to text."""

    __slots__ = ("method", "path", "query", "headers", "body", "keep_alive", "length")

    def __init__(self, method, target, headers, keep_alive, length):
        self.method, self.headers, self.keep_alive, self.length = method, headers, keep_alive, length
        self.path, _, self.query = target.partition("?")
        self.body = b""


class Reply:
    """What is to be sent. `wire` is how: whole | reset (RST, nothing sent) | cut (half the body, then FIN) | cut_reset
    (half, then RST) | silent (FIN, nothing sent) | drip (a byte of the body every drip_ms)."""

    __slots__ = ("status", "body", "headers", "content_type", "wire", "close", "drip_ms")

    def __init__(self, status, body, headers=(), content_type="application/json", wire="whole", close=False, drip_ms=0):
        self.status, self.body, self.headers, self.content_type = status, body, list(headers), content_type
        self.wire, self.close, self.drip_ms = wire, close, drip_ms


def json_reply(status, value, headers=()):
    """A Reply with `value` as JSON."""
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), headers)


class BadHead(Exception):
    """A head that cannot be served; `status` is the answer."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


def parse_head(head):
    """Request from the bytes before the empty line; BadHead if it is malformed or its body cannot be framed."""
    lines = head.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(lines[0])
    if not match:
        raise BadHead(400)
    if match[3] != b"1":
        raise BadHead(505)
    headers = {}
    for line in lines[1:]:
        field = FIELD.fullmatch(line)
        if not field:
            raise BadHead(400)
        name, value = field[1].decode().lower(), field[2].decode("latin-1").rstrip()
        if name in headers and name in (
            "content-length",
            "host",
            "authorization",
            "idempotency-key",
            "transfer-encoding",
        ):
            raise BadHead(400)
        headers[name] = value
    http11 = match[4] != b"0"
    if http11 and "host" not in headers:
        raise BadHead(400)
    if "transfer-encoding" in headers:
        raise BadHead(400 if "content-length" in headers else 411)
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,15}", length):
        raise BadHead(400)
    if int(length) > BODY_BYTES_MAX:
        raise BadHead(413)
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise BadHead(417)
    options = [option.strip() for option in headers.get("connection", "").lower().split(",")]
    keep_alive = "close" not in options and (http11 or "keep-alive" in options)
    return Request(match[1].decode(), match[2].decode(), headers, keep_alive, int(length))


class Connection(asyncio.Protocol):
    """One client. The application has accept(conn), which may end the connection, head(request, conn) -> bool, False
    after having ended it, handle(request, conn), now_ms() for the Date field, and a set of connections."""

    def __init__(self, app):
        self.app, self.transport = app, None
        self.buffer, self.request, self.serving = bytearray(), None, None
        self.looping = self.reading_paused = self.write_blocked = self.eof = self.closed = False
        self.requests, self.active_at = 0, asyncio.get_running_loop().time()

    def connection_made(self, transport):
        self.transport = transport
        self.app.connections.add(self)
        self.app.accept(self)

    def connection_lost(self, _exc):
        self.closed = True
        self.app.connections.discard(self)

    def data_received(self, data):
        if not self.closed:
            self.buffer += data
            self._advance()

    def eof_received(self):
        self.eof = True
        if not self.closed:
            self._advance()
        return not self.closed

    def pause_writing(self):
        self.write_blocked = True

    def resume_writing(self):
        self.write_blocked = False
        self._advance()

    def close(self):
        """Send what is buffered, then FIN."""
        if not self.closed:
            self.closed = True
            self.transport.close()

    def reset(self):
        """End the connection with RST; what was not sent yet is lost."""
        if not self.closed:
            self.closed = True
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
            self.transport.abort()

    def reply(self, reply):
        """Answer the request in work and go on to the next one."""
        request, self.serving = self.serving, None
        assert request is not None
        if not self.closed:
            self._send(request, reply)
            self.active_at = asyncio.get_running_loop().time()
        if not self.looping:
            self._advance()

    def _advance(self):
        if self.looping:
            return
        self.looping = True
        try:
            while self.serving is None and not self.closed and not self.write_blocked and self._step():
                pass
        except BadHead as bad:
            self._refuse(bad.status)
        finally:
            self.looping = False
        if not self.closed:
            if self.eof and self.serving is None and not self.write_blocked:
                self.close()
            self._throttle()

    def _refuse(self, status):
        """Answer what cannot be framed, then read on: closing over unread bytes is an RST that overtakes it."""
        self.request = None
        self._send(
            None, json_reply(status, {"error": {"type": "invalid_request_error", "message": "Malformed HTTP request."}})
        )
        self.closed = True
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)

    def _step(self):
        """Take the next head or body out of the buffer; False when more bytes are needed."""
        if self.request is None:
            while self.buffer.startswith(b"\r\n"):
                del self.buffer[:2]
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0 and len(self.buffer) <= HEAD_BYTES_MAX:
                return False
            if end < 0 or end > HEAD_BYTES_MAX:
                raise BadHead(431)
            self.request = parse_head(bytes(self.buffer[:end]))
            del self.buffer[: end + 4]
            if not self.app.head(self.request, self):
                return False
            if "expect" in self.request.headers and len(self.buffer) < self.request.length:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = self.request
        if len(self.buffer) < request.length:
            return False
        request.body = bytes(self.buffer[: request.length])
        del self.buffer[: request.length]
        self.request, self.serving = None, request
        self.app.handle(request, self)
        return True

    def _throttle(self):
        full = len(self.buffer) >= BUFFER_BYTES_MAX
        if full != self.reading_paused and not self.transport.is_closing():
            self.reading_paused = full
            if full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _send(self, request, reply):
        if reply.wire == "reset":
            return self.reset()
        if reply.wire == "silent":
            return self.close()
        keep = request is not None and request.keep_alive and not reply.close and reply.wire in ("whole", "drip")
        head = [
            STATUS_LINES.get(reply.status) or b"HTTP/1.1 %d Unknown\r\n" % reply.status,
            b"Date: ",
            http_date(self.app.now_ms() // 1000),
            b"\r\nContent-Type: ",
            reply.content_type.encode(),
            b"\r\nContent-Length: %d\r\n" % len(reply.body),
        ]
        head += [("%s: %s\r\n" % field).encode("latin-1", "replace") for field in reply.headers]
        head.append(b"Connection: keep-alive\r\n\r\n" if keep else b"Connection: close\r\n\r\n")
        body = b"" if request is not None and request.method == "HEAD" else reply.body
        if reply.wire in ("cut", "cut_reset"):
            body = body[: len(body) // 2]
        if reply.wire == "drip":
            self.transport.write(b"".join(head))
            self.serving = request
            self._drip(body, 0, max(1, reply.drip_ms) / 1000, keep)
            return None
        self.transport.write(b"".join(head) + body)
        if reply.wire == "cut_reset":
            self.reset()
        elif not keep and request is not None:
            self.close()
        return None

    def _drip(self, body, at, every_s, keep):
        if self.closed:
            self.serving = None
        elif at < len(body):
            self.transport.write(body[at : at + 1])
            asyncio.get_running_loop().call_later(every_s, self._drip, body, at + 1, every_s, keep)
        else:
            self.serving = None
            if not keep:
                self.close()
            self._advance()


_date = [None, b""]


def http_date(now_s):
    """IMF-fixdate of a Unix time; the last one is kept, as a second has many replies."""
    if _date[0] != now_s:
        _date[:] = [now_s, formatdate(now_s, usegmt=True).encode()]
    return _date[1]


class Clock:
    """The double's only clock: the machine's, plus an offset that the control port can advance (mode "offset")."""

    def __init__(self, mode):
        self.mode, self.offset_ms = mode, 0

    def now_ms(self):
        """Unix milliseconds."""
        return time.time_ns() // 1000000 + self.offset_ms
