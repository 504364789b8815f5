"""Processes with a pid file and a log file, that a later command finds again.

A process is known by (pid, start time of that pid in the kernel's clock), so a recycled pid is never taken for ours. In a `bound` world
(demo, tests) the kernel kills each process when the thread that started it ends; in an unbound one (`up`) it goes on in a session of its own.
Start bound processes from the main thread only: the kernel's bond is to the thread.
"""
import collections
import ctypes
import os
import random
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
FIRST_PORT, PORTS_END = 12000, 32000
_GIVEN = collections.OrderedDict()  # ports, the oldest first


class HarnessError(Exception):
    """Something that should have come up did not, or ended too early."""


def port_share():
    """Who runs beside others has a share of the ports of its own: which, of how many."""
    share, shares = map(int, os.environ.get("SANDGLASS_PORTS", "0/1").split("/"))
    return share, shares


def free_ports(count):
    """Ports that nobody listens on, below the range from which the kernel takes the ports of outgoing connections. A port is chosen long before
    anybody listens on it, and is free while its owner is dead: hence the shares, and a process is not given one
    again before half of its share has been."""
    share, shares = port_share()
    found = []
    while len(found) < count:
        port = random.SystemRandom().randrange(FIRST_PORT + share, PORTS_END, shares)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _GIVEN:
            _GIVEN[port] = True
            found.append(port)
        if len(_GIVEN) > (PORTS_END - FIRST_PORT) // shares // 2:
            _GIVEN.popitem(last=False)
    return found


def wait_for(what, condition, timeout_s, alive=None, pause_s=0.05):
    """Wait until `condition()` is true and return its value; an error when time is up or `alive()` turns false."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if alive is not None and not alive():
            raise HarnessError("%s: it ended" % what)
        if time.monotonic() >= deadline:
            raise HarnessError("%s: not within %g s" % (what, timeout_s))
        time.sleep(pause_s)


def start_time(pid):
    """The kernel's start time of a living process, or None: no such pid, or a zombie. A killed program whose first thread is a zombie while
    another one is still on its way out still has its ports and locks: it lives."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else fields[19]


class Process:
    """One process: its command, pid file and log. Nothing is started by the constructor; a running one is found by its pid file."""

    def __init__(self, name, run_dir, log_dir, bound):
        self.name, self.bound = name, bound
        self.pid_file = os.path.join(run_dir, name + ".pid")
        self.log_file = os.path.join(log_dir, name + ".log")
        self.child = None

    @property
    def pid(self):
        """The pid of the running process, or None."""
        try:
            with open(self.pid_file, encoding="ascii") as file:
                pid, started = file.read().split()
        except (OSError, ValueError):
            return None
        if self.child is not None:
            self.child.poll()  # reaps
        return int(pid) if start_time(int(pid)) == started else None

    def alive(self):
        """Whether it runs."""
        return self.pid is not None

    def spawn(self, argv, executable=None, cwd=None, env=None):
        """Start it; its output goes to the end of its log file."""
        if self.alive():
            raise HarnessError("%s runs already" % self.name)
        bound, parent = self.bound, os.getpid()

        def before_exec():
            if bound:
                _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)

        with open(self.log_file, "ab") as log:
            self.child = subprocess.Popen(argv, executable=executable, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True, preexec_fn=before_exec)
        with open(self.pid_file + ".new", "w", encoding="ascii") as file:
            file.write("%d %s\n" % (self.child.pid, start_time(self.child.pid)))
        os.replace(self.pid_file + ".new", self.pid_file)

    def signal(self, number):
        """Send a signal, if it runs."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def wait_gone(self, timeout_s):
        """Wait for its end."""
        wait_for("%s to end" % self.name, lambda: not self.alive(), timeout_s, pause_s=0.01)

    def kill(self):
        """kill -9, and wait until it is gone. Also ends a stopped (SIGSTOP) process."""
        self.signal(signal.SIGKILL)
        self.wait_gone(10)

    def stop(self, timeout_s=15):
        """SIGTERM, and SIGKILL for one that does not heed it; True when it ended by itself."""
        self.signal(signal.SIGTERM)
        try:
            self.wait_gone(timeout_s)
            return True
        except HarnessError:
            self.kill()
            return False

    def log_tail(self, lines=20):
        """The last lines of its log."""
        try:
            with open(self.log_file, "rb") as file:
                file.seek(max(0, os.path.getsize(self.log_file) - 65536))
                return b"\n".join(file.read().splitlines()[-lines:]).decode("utf-8", "replace")
        except OSError:
            return ""
