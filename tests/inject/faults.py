"""Which failure makes sense for which call: what the kernel's manual pages allow, and what has been seen of file systems and networks.

A call that is interrupted, or would block, for ever is no failure of a machine but of the test: those are made once only.
"""
from .library import Fault

FIRST, MIDDLE, LAST = 100, 20, 20  # of many calls of one kind
KILLS = "KILL_BEFORE KILL_AFTER"
# call: (what happens once, what happens from then on)
FILES = {
    "open": ("EIO EMFILE EACCES", "EIO"),
    "openat": ("EIO EMFILE ENOSPC EACCES " + KILLS, "EIO ENOSPC"),
    "fopen": ("EIO EMFILE", "EIO"),
    "close": ("EIO EINTR " + KILLS, "EIO"),
    "dup": ("EMFILE", ""),
    "fdopendir": ("ENOMEM", ""),
    "readdir": ("EIO", "EIO"),
    "fstat": ("EIO", "EIO"),
    "flock": ("EAGAIN EINTR ENOLCK", "EAGAIN"),
    "chmod": ("EIO EPERM", ""),
    "pread": ("EIO EINTR SHORT KILL_BEFORE", "EIO SHORT"),
    "write": ("EIO ENOSPC EINTR EAGAIN EPIPE SHORT " + KILLS, "EIO ENOSPC EAGAIN"),
    "pwritev": ("EIO ENOSPC EDQUOT EFBIG EINTR SHORT " + KILLS, "EIO ENOSPC SHORT"),
    "fsync": ("EIO ENOSPC EDQUOT " + KILLS, "EIO"),
    "fdatasync": ("EIO ENOSPC EDQUOT " + KILLS, "EIO"),
    "posix_fallocate": ("EIO ENOSPC EFBIG EINTR " + KILLS, "ENOSPC EIO"),
    "ftruncate": ("EIO EINTR " + KILLS, "EIO"),
    "renameat": ("EIO ENOSPC " + KILLS, "EIO ENOSPC"),
    "unlink": ("EIO EACCES " + KILLS, "EIO"),
    "unlinkat": ("EIO EACCES " + KILLS, "EIO"),
}
SOCKETS = {
    "socket": ("EMFILE ENOBUFS", "EMFILE"),
    "connect": ("ECONNREFUSED ETIMEDOUT ENETUNREACH EINTR", "ECONNREFUSED"),
    "bind": ("EADDRINUSE EACCES", ""),
    "listen": ("EADDRINUSE", ""),
    "accept": ("EMFILE EINTR ECONNABORTED", ""),
    "accept4": ("EMFILE ENOMEM EINTR EAGAIN ECONNABORTED " + KILLS, "EMFILE"),
    "getsockopt": ("ENOBUFS", "ENOBUFS"),
    "setsockopt": ("ENOBUFS", "ENOBUFS"),
    "getaddrinfo": ("EMFILE", "EMFILE"),
    "recv": ("ECONNRESET EINTR EAGAIN SHORT " + KILLS, "ECONNRESET SHORT"),
    "recvfrom": ("ECONNRESET EINTR EAGAIN", ""),
    "recvmsg": ("ECONNRESET ETIMEDOUT EINTR EAGAIN SHORT", "ECONNRESET"),
    "send": ("EPIPE ECONNRESET EINTR EAGAIN SHORT " + KILLS, "EPIPE SHORT"),
    "sendto": ("ENOBUFS EINTR EAGAIN", "ENOBUFS"),
    "sendmsg": ("EPIPE ECONNRESET EINTR EAGAIN SHORT " + KILLS, "EPIPE SHORT"),
    "poll": ("EINTR ENOMEM", ""),
}
REST = {
    "read": ("EIO EINTR EAGAIN SHORT", "EIO"),  # the event loop's own descriptors; libraries' pipes and sockets
    "epoll_create1": ("EMFILE ENOMEM", "EMFILE"),
    "epoll_ctl": ("ENOMEM ENOSPC", "ENOMEM"),
    "epoll_wait": ("EINTR " + KILLS, ""),
    "eventfd": ("EMFILE ENOMEM", "EMFILE"),
    "signalfd": ("EMFILE ENOMEM", "EMFILE"),
    "pipe": ("EMFILE", "EMFILE"),
    "pthread_create": ("EAGAIN", "EAGAIN"),
    "thrd_create": ("EAGAIN", "EAGAIN"),
    "memory": ("ENOMEM", "ENOMEM"),
}
TABLE = {**FILES, **SOCKETS, **REST}


def _numbers(count, every):
    """1 .. count; of many, unless every one is wanted, the first and the last ones, and some evenly spaced in between."""
    between = count - FIRST - LAST
    if every or between <= MIDDLE:
        return range(1, count + 1)
    middle = [FIRST + between * step // (MIDDLE + 1) for step in range(1, MIDDLE + 1)]
    return [*range(1, FIRST + 1), *middle, *range(count - LAST + 1, count + 1)]


def enumerate_faults(counts, objects="program", calls=None, every=False):
    """Every fault at the calls that a counting run has made, {call: count}: at all of them, or see _numbers."""
    for call, (once, ever) in TABLE.items():
        if calls is not None and call not in calls:
            continue
        for nth in _numbers(counts.get(call, 0), every):
            yield from (Fault(call, nth, kind, False, objects) for kind in once.split())
            yield from (Fault(call, nth, kind, True, objects) for kind in ever.split())
