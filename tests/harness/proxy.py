"""The network between the parts of a pipeline, as a process of its own that can be told to misbehave.

Every link is a port that is passed on to another port of this machine. What a link does:
    pass    forwards
    cut     resets what is connected, and whoever connects
    stall   keeps every connection and forwards nothing; goes on where it stood when it passes again
    mute    forwards requests and swallows replies, which it counts; what was muted is reset when that ends: its stream has a hole
    slow    forwards each piece after `delay_ms`

LAYOUT of the control port: a line of JSON in, a line out. {"link": NAME, "mode": MODE, "delay_ms": N, "to": PORT} sets what is named (all but
"link" may be left out) and {} nothing; the answer is {NAME: {"mode", "to", "connections", "swallowed"}}. A changed "to" counts for new
connections only: whoever is connected goes on talking to the old one, as behind an address that moved.
FAILURES    The process ends when its control port or a link's can not be had; its log says which.
"""
import asyncio
import json
import os
import socket
import sys

from .process import HarnessError, wait_for

MODES = ("pass", "cut", "stall", "mute", "slow")
CHUNK_BYTES = 65536


class Link:
    """One port and where it leads."""

    def __init__(self, to):
        self.to, self.mode, self.delay_ms, self.swallowed = to, "pass", 0, 0
        self.pairs, self.muted = set(), set()
        self.flowing = asyncio.Event()
        self.flowing.set()

    def change(self, order):
        """Do what a line of the control port says."""
        self.to = order.get("to", self.to)
        self.delay_ms = order.get("delay_ms", self.delay_ms)
        mode = order.get("mode", self.mode)
        if mode not in MODES:
            raise ValueError("no such mode")
        self.reset(self.pairs if mode == "cut" else self.muted if mode != "mute" else ())
        self.mode = mode
        if mode == "stall":
            self.flowing.clear()
        else:
            self.flowing.set()

    def reset(self, pairs):
        """End connections as a dying peer does."""
        for pair in list(pairs):
            for writer in pair:
                writer.transport.abort()

    async def serve(self, reader, writer):
        """One connection."""
        if self.mode == "cut":
            writer.transport.abort()
            return
        await self.flowing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self.pairs.add(pair)
        try:
            await asyncio.wait([asyncio.ensure_future(self.pump(reader, far_writer, None)),
                                asyncio.ensure_future(self.pump(far_reader, writer, pair))], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # what the other direction has at hand still goes out
        finally:
            self.pairs.discard(pair)
            self.muted.discard(pair)
            for end in pair:
                end.close()

    async def pump(self, reader, writer, reply_of):
        """One direction of a connection; `reply_of`: the pair that these are the replies of."""
        try:
            while True:
                data = await reader.read(CHUNK_BYTES)
                if not data:
                    return
                if self.mode == "slow":
                    await asyncio.sleep(self.delay_ms / 1000)
                await self.flowing.wait()
                if reply_of is not None and (self.mode == "mute" or reply_of in self.muted):
                    self.swallowed += 1
                    self.muted.add(reply_of)
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    def report(self):
        """For the control port."""
        return {"mode": self.mode, "to": self.to, "connections": len(self.pairs), "swallowed": self.swallowed}


async def _serve(control_port, wanted):
    links = {}

    async def control(reader, writer):
        while line := await reader.readline():
            order = json.loads(line)
            if "link" in order:
                links[order["link"]].change(order)
            writer.write(json.dumps({name: link.report() for name, link in links.items()}).encode() + b"\n")
            await writer.drain()
        writer.close()

    for name, (port, to) in wanted.items():
        links[name] = Link(to)
        await asyncio.start_server(links[name].serve, "127.0.0.1", port)
    server = await asyncio.start_server(control, "127.0.0.1", control_port)
    await server.serve_forever()


class Proxy:
    """The harness' side: {name: (port, where it leads)} of the links, and the process when it runs."""

    def __init__(self, process, control_port, links):
        self.process, self.control_port, self.links = process, control_port, links

    def spawn(self, python):
        """Start it; not waiting."""
        self.process.spawn([python, "-m", "harness.proxy", str(self.control_port), json.dumps(self.links)],
                           env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))})

    def wait_ready(self, timeout_s):
        """Wait until it takes orders."""
        wait_for("the proxy to be ready", self.ready, timeout_s, alive=self.process.alive)

    def ready(self):
        """Whether it takes orders."""
        try:
            return bool(self.tell())
        except OSError:
            return False

    def tell(self, link=None, **order):
        """Change a link (none: nothing); {link: report} as it is then."""
        line = json.dumps({"link": link, **order} if link else {}).encode() + b"\n"
        with socket.create_connection(("127.0.0.1", self.control_port), timeout=5) as connection, connection.makefile("rb") as file:
            connection.sendall(line)
            answer = file.readline()
        if not answer:
            raise HarnessError("the proxy refuses an order for %s" % link)
        if "to" in order:
            self.links[link] = [self.links[link][0], order["to"]]  # for the next start
        return json.loads(answer)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), json.loads(sys.argv[2])))
