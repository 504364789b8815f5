"""The append-only journal that makes the double's memory survive its own kill -9.

LAYOUT: one JSON object a line; the first is {"t":"head","version":1}. A line is valid if and only if it ends in a
newline and is one JSON object with a known "t" (ledger.py lists them).

HAPPY PATH: a record is written with one write(2) before the reply that depends on it; with --fsync it is also synced.
FAILURES: a last line without a newline is the torn tail of a killed writer: nobody was answered on it, and it is cut
off. Any other line that is not valid stops the start with its number. A second double on the same file is refused by
a lock."""

import fcntl
import json
import os

VERSION = 1


class BadJournal(Exception):
    """The file is in use, of an unknown version, or damaged."""


class Journal:
    """An open journal. read() gives its records once, then append() adds to it."""

    def __init__(self, path, fsync):
        self.path, self.fsync = path, fsync
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadJournal("another double uses this state file") from None

    def read(self):
        """Every record after the head, in order; a torn tail is cut. A new file gets its head."""
        good, number = 0, 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                number += 1
                try:
                    record = json.loads(line)
                except ValueError:
                    raise BadJournal("line %d is damaged" % number) from None
                if number == 1:
                    if not isinstance(record, dict) or record.get("t") != "head" or record.get("version") != VERSION:
                        raise BadJournal("not a journal of version %d" % VERSION)
                else:
                    yield number, record
                good += len(line)
        os.ftruncate(self.fd, good)
        if good == 0:
            self.append({"t": "head", "version": VERSION})

    def append(self, record):
        """Write one record. A failed write is final: the process ends before anything is answered."""
        data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.fd, data) :]
            if self.fsync:
                os.fdatasync(self.fd)
        except OSError as error:
            os.write(2, b"level=error event=journal_failed errno=%d\n" % error.errno)
            os._exit(3)
