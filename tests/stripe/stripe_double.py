#!/usr/bin/env python3
"""Stateful double of Stripe's Billing Meters API on loopback. See README.md beside it; everything stands in double/."""

import argparse
import asyncio
import json
import os
import signal
import sys
import traceback

from double import knobs as knob_table
from double.admin import Admin, Stats
from double.api import Api
from double.faults import BadScript, Faults
from double.http1 import Clock, Connection
from double.journal import BadJournal, Journal
from double.knobs import BadKnob, Knobs
from double.ledger import BadState, Ledger


def address(text):
    """(host, port) of HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("HOST:PORT is needed")
    return host, int(port)


def meter(text):
    """(name, mode) of NAME:set or NAME:delta."""
    name, _, mode = text.rpartition(":")
    if not 0 < len(name) <= 100 or mode not in ("set", "delta"):
        raise argparse.ArgumentTypeError("NAME:set or NAME:delta is needed")
    return name, mode


def assignment(text):
    """(name, value) of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("NAME=VALUE is needed")
    return name, value


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="knobs (--knob NAME=VALUE):\n" + knob_table.describe(),
    )
    parser.add_argument(
        "--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT", help="the API; port 0 = any free one"
    )
    parser.add_argument(
        "--admin-listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT", help="/billed and /control"
    )
    parser.add_argument("--state", required=True, metavar="FILE", help="the journal; created when missing")
    parser.add_argument("--ready-file", metavar="FILE", help="written when both ports listen: JSON with the URLs")
    parser.add_argument("--meter", type=meter, action="append", default=[], metavar="NAME:set|delta")
    parser.add_argument("--faults", metavar="FILE", help="fault script (JSON)")
    parser.add_argument("--seed", type=int, default=0, help="seed of a fault script that names none")
    parser.add_argument(
        "--clock", choices=("real", "offset"), default="real", help="offset: POST /control/clock moves it"
    )
    parser.add_argument("--no-age-limit", action="store_true", help="take timestamps of any age")
    parser.add_argument("--key", default="sk_test_local", help="the API key that is accepted")
    parser.add_argument("--fsync", action="store_true", help="sync the journal before every reply")
    parser.add_argument("--knob", type=assignment, action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def write_ready(path, api_port, admin_port, hosts):
    """Announce the URLs, atomically."""
    api, admin = "http://%s:%d" % (hosts[0], api_port), "http://%s:%d" % (hosts[1], admin_port)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(
            {
                "pid": os.getpid(),
                "port": api_port,
                "admin_port": admin_port,
                "stripe": api,
                "stripe_billed": admin + "/billed",
                "control": admin + "/control",
            },
            file,
        )
        file.write("\n")
    os.replace(path + ".new", path)


def die(_loop, context):
    """An error inside the double makes every figure worthless: say where (without data), and end."""
    error = context.get("exception")
    places = traceback.extract_tb(error.__traceback__) if error else []
    where = "%s:%d" % (os.path.basename(places[-1].filename), places[-1].lineno) if places else "?"
    print(
        "level=error event=internal_error type=%s where=%s" % (type(error).__name__, where), file=sys.stderr, flush=True
    )
    os._exit(4)


async def sweep_idle(api, knobs):
    """Close connections that stood idle for longer than the knob allows."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(0.25, (knobs.idle_close_ms or 1000) / 4000))
        limit_s = knobs.idle_close_ms / 1000
        for conn in list(api.connections) if limit_s else ():
            if (
                conn.serving is None
                and not conn.buffer
                and conn.request is None
                and loop.time() - conn.active_at >= limit_s
            ):
                conn.close()


async def serve(args):
    """Recover the state, listen, and serve until SIGTERM or SIGINT."""
    clock, knobs, stats = Clock(args.clock), Knobs(), Stats(os.urandom(4).hex())
    for name, value in ([("past_limit_s", 0)] if args.no_age_limit else []) + args.knob:
        knobs.set(name, value)  # what the control port has set later stands in the journal and wins
    ledger = Ledger(Journal(args.state, args.fsync), clock, knobs)
    for name, mode in args.meter:
        ledger.declare_meter(name, mode)
    script = {}
    if args.faults:
        with open(args.faults, encoding="utf-8") as file:
            script = json.load(file)
    api = Api(ledger, Faults(script, args.seed), clock, knobs, stats, args.key)
    admin = Admin(api, ledger, clock, knobs, stats, args.seed)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(die)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    servers = [
        await loop.create_server(lambda app=app: Connection(app), *place, backlog=1024)
        for app, place in ((api, args.listen), (admin, args.admin_listen))
    ]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    if args.ready_file:
        write_ready(args.ready_file, *ports, (args.listen[0], args.admin_listen[0]))
    print(
        "level=info event=listening api_port=%d admin_port=%d events=%d" % (*ports, len(ledger.events)),
        file=sys.stderr,
        flush=True,
    )
    sweeper = loop.create_task(sweep_idle(api, knobs))
    await stop.wait()
    sweeper.cancel()
    for server in servers:
        server.close()
    return 0


def main():
    """Exit code 2: the command line, a script or the state file cannot be used."""
    args = arguments()
    try:
        return asyncio.run(serve(args))
    except (BadJournal, BadState, BadKnob, BadScript) as error:
        print("level=error event=start_failed reason=\"%s\"" % error, file=sys.stderr)
    except json.JSONDecodeError:
        print("level=error event=start_failed reason=\"the fault script is not JSON\"", file=sys.stderr)
    except OSError as error:
        print("level=error event=start_failed reason=\"%s\"" % error.strerror, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
