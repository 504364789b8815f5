/* System calls that fail on demand: a shared object for LD_PRELOAD.
 *
 * WHY INTERPOSITION, not `strace -e inject`: no right to trace is needed, which containers of CI seldom give; a call is
 * chosen by who makes it (the program's own code, or one library by name), which a tracer cannot see; memory can be
 * refused, which is no system call; and a run costs what it costs without. What it does not see: calls that libc makes
 * inside of itself (stdio's reads, name look-up). tests/inject/README.md has the cross-check against strace.
 *
 * ENVIRONMENT   without INJECT and INJECT_REPORT nothing happens.
 *   INJECT        `CALL NTH FAULT [ever]`: the NTH call named CALL (from 1) fails, once or from then on.
 *                 FAULT is an error's name (EIO); SHORT: half of what was asked for is transferred; KILL_BEFORE,
 *                 KILL_AFTER: SIGKILL around the call.
 *   INJECT_FROM   comma-separated beginnings of object names (`program` is the executable): only calls that return
 *                 into one of these count and fail. Empty: all objects.
 *   INJECT_REPORT a file that becomes an array of struct tally, up to date at any moment, also after a kill.
 *
 * Counted and chosen in the whole process: threads share the counters. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <threads.h>
#include <unistd.h>

/* `memory` is malloc and all that allocates on its behalf. */
#define CALLS(X)                                                                                                       \
    X(open)                                                                                                            \
    X(openat)                                                                                                          \
    X(fopen)                                                                                                           \
    X(close)                                                                                                           \
    X(dup)                                                                                                             \
    X(fdopendir)                                                                                                       \
    X(readdir)                                                                                                         \
    X(fstat)                                                                                                           \
    X(flock)                                                                                                           \
    X(chmod)                                                                                                           \
    X(read)                                                                                                            \
    X(pread)                                                                                                           \
    X(write)                                                                                                           \
    X(pwritev)                                                                                                         \
    X(fsync)                                                                                                           \
    X(fdatasync)                                                                                                       \
    X(posix_fallocate)                                                                                                 \
    X(ftruncate)                                                                                                       \
    X(renameat)                                                                                                        \
    X(unlink)                                                                                                          \
    X(unlinkat)                                                                                                        \
    X(socket)                                                                                                          \
    X(connect)                                                                                                         \
    X(bind)                                                                                                            \
    X(listen)                                                                                                          \
    X(accept)                                                                                                          \
    X(accept4)                                                                                                         \
    X(getsockopt)                                                                                                      \
    X(setsockopt)                                                                                                      \
    X(getaddrinfo)                                                                                                     \
    X(recv)                                                                                                            \
    X(recvfrom)                                                                                                        \
    X(recvmsg)                                                                                                         \
    X(send)                                                                                                            \
    X(sendto)                                                                                                          \
    X(sendmsg)                                                                                                         \
    X(poll)                                                                                                            \
    X(epoll_create1)                                                                                                   \
    X(epoll_ctl)                                                                                                       \
    X(epoll_wait)                                                                                                      \
    X(eventfd)                                                                                                         \
    X(signalfd)                                                                                                        \
    X(pipe)                                                                                                            \
    X(pthread_create)                                                                                                  \
    X(thrd_create)                                                                                                     \
    X(memory)

#define CALL_CONSTANT(name) CALL_##name,
enum call { CALLS(CALL_CONSTANT) CALL_COUNT };
#define CALL_NAME(name) #name,
static const char *const call_names[CALL_COUNT] = {CALLS(CALL_NAME)};

enum { NAME_BYTES = 24, RANGES_MAX = 64, PARTS_MAX = 64, SPEC_BYTES = 128 };

/* One line of the report; tests/inject/library.py reads it. The last one has the name `struck`. */
struct tally {
    char name[NAME_BYTES];
    atomic_ullong count;
};

enum fault { FAULT_ERROR, FAULT_SHORT, FAULT_KILL_BEFORE, FAULT_KILL_AFTER };

/* What a call is to do. */
enum strike { STRIKE_NOT, STRIKE_ERROR, STRIKE_SHORT, STRIKE_KILL_AFTER };

static struct {
    struct tally *report; /* NULL: nothing is counted, nothing fails */
    bool everywhere, ever;
    struct {
        uintptr_t from, to;
    } range[RANGES_MAX]; /* code that is in scope */
    size_t range_count;
    int call; /* -1: count only */
    unsigned long long nth;
    enum fault fault;
    int error;
} plan = {.call = -1};

static struct tally own_report[CALL_COUNT + 1];

/* ---- setting up ---- */

static void refuse(const char *what)
{
    fprintf(stderr, "inject: %s\n", what);
    _exit(125);
}

static int error_of(const char *name)
{
    for (int error = 1; error < 134; error++) {
        const char *known = strerrorname_np(error);
        if (known && strcmp(known, name) == 0) return error;
    }
    return 0;
}

static void parse(const char *spec)
{
    char call[NAME_BYTES], fault[NAME_BYTES], ever[8] = "";
    if (sscanf(spec, "%23s %llu %23s %7s", call, &plan.nth, fault, ever) < 3 || plan.nth == 0)
        refuse("INJECT: CALL NTH FAULT [ever]");
    for (int c = 0; c < CALL_COUNT; c++)
        if (strcmp(call_names[c], call) == 0) plan.call = c;
    plan.ever = strcmp(ever, "ever") == 0;
    plan.error = error_of(fault);
    if (strcmp(fault, "SHORT") == 0)
        plan.fault = FAULT_SHORT;
    else if (strcmp(fault, "KILL_BEFORE") == 0)
        plan.fault = FAULT_KILL_BEFORE;
    else if (strcmp(fault, "KILL_AFTER") == 0)
        plan.fault = FAULT_KILL_AFTER;
    else if (!plan.error)
        refuse("INJECT: no such fault");
    if (plan.call < 0 || (*ever && !plan.ever)) refuse("INJECT: no such call, or a word behind it");
}

/* Whether one of the comma-separated words begins the object's name. */
static bool is_named(const char *words, const char *object)
{
    const char *slash = strrchr(object, '/'), *name = *object ? (slash ? slash + 1 : object) : "program";
    while (*words) {
        size_t length = strcspn(words, ",");
        if (length && strncmp(words, name, length) == 0) return true;
        words += length + (words[length] == ',');
    }
    return false;
}

static int add_object(struct dl_phdr_info *info, size_t size, void *words)
{
    (void)size;
    if (!is_named(words, info->dlpi_name)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X)) continue;
        if (plan.range_count == RANGES_MAX) refuse("INJECT_FROM: too many objects");
        plan.range[plan.range_count].from = info->dlpi_addr + h->p_vaddr;
        plan.range[plan.range_count++].to = info->dlpi_addr + h->p_vaddr + h->p_memsz;
    }
    return 0;
}

/* Straight to the kernel: setting up is not to be counted. */
static struct tally *map_report(const char *path)
{
    if (!path) return own_report;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof own_report)) refuse("INJECT_REPORT cannot be written");
    void *at = mmap(NULL, sizeof own_report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) refuse("INJECT_REPORT cannot be mapped");
    (void)syscall(SYS_close, fd);
    return at;
}

__attribute__((constructor)) static void set_up(void)
{
    const char *spec = getenv("INJECT"), *path = getenv("INJECT_REPORT"), *from = getenv("INJECT_FROM");
    char words[SPEC_BYTES] = "";
    if (!spec && !path) return;
    if (spec) parse(spec);
    if (from) snprintf(words, sizeof words, "%s", from);
    plan.everywhere = words[0] == '\0';
    (void)dl_iterate_phdr(add_object, words);
    if (!plan.everywhere && !plan.range_count) refuse("INJECT_FROM: no such object");
    struct tally *report = map_report(path);
    for (int c = 0; c < CALL_COUNT; c++) snprintf(report[c].name, NAME_BYTES, "%s", call_names[c]);
    snprintf(report[CALL_COUNT].name, NAME_BYTES, "struck");
    plan.report = report;
}

/* ---- striking ---- */

static bool in_scope(uintptr_t at)
{
    bool found = plan.everywhere;
    for (size_t i = 0; i < plan.range_count && !found; i++) found = at >= plan.range[i].from && at < plan.range[i].to;
    return found;
}

_Noreturn static void die(void)
{
    for (;;) (void)syscall(SYS_kill, getpid(), SIGKILL);
}

/* Counts the call that returns to `from`; for an error errno is set. */
static enum strike strike(enum call call, void *from)
{
    if (!plan.report || !in_scope((uintptr_t)from)) return STRIKE_NOT;
    unsigned long long n = atomic_fetch_add(&plan.report[call].count, 1) + 1;
    if ((int)call != plan.call || (plan.ever ? n < plan.nth : n != plan.nth)) return STRIKE_NOT;
    atomic_fetch_add(&plan.report[CALL_COUNT].count, 1);
    switch (plan.fault) {
    case FAULT_SHORT: return STRIKE_SHORT;
    case FAULT_KILL_AFTER: return STRIKE_KILL_AFTER;
    case FAULT_KILL_BEFORE: die();
    case FAULT_ERROR: break;
    }
    errno = plan.error;
    return STRIKE_ERROR;
}

static void finish(enum strike s)
{
    if (s == STRIKE_KILL_AFTER) die();
}

/* The function that this library stands before. */
static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) refuse(name);
    return found;
}

#define REAL(name)                                                                                                     \
    static _Atomic(void *) real_address;                                                                               \
    void *address = atomic_load(&real_address);                                                                        \
    if (!address) atomic_store(&real_address, address = next(#name));                                                  \
    __typeof__(name) *real = (__typeof__(name) *)address

/* A call that does what it is asked or fails. */
#define PLAIN(type, name, parameters, arguments, failure)                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        enum strike s = strike(CALL_##name, __builtin_return_address(0));                                              \
        if (s == STRIKE_ERROR) return failure;                                                                         \
        type result = real arguments;                                                                                  \
        finish(s);                                                                                                     \
        return result;                                                                                                 \
    }

/* One that may do a part of it: `length` bytes. */
#define PARTIAL(name, parameters, arguments)                                                                           \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        enum strike s = strike(CALL_##name, __builtin_return_address(0));                                              \
        if (s == STRIKE_ERROR) return -1;                                                                              \
        if (s == STRIKE_SHORT && length > 1) length /= 2;                                                              \
        ssize_t result = real arguments;                                                                               \
        finish(s);                                                                                                     \
        return result;                                                                                                 \
    }

/* ---- files ---- */

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    enum strike s = strike(CALL_open, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    int result = real(path, flags, mode);
    finish(s);
    return result;
}

int openat(int at, const char *path, int flags, ...)
{
    REAL(openat);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    enum strike s = strike(CALL_openat, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    int result = real(at, path, flags, mode);
    finish(s);
    return result;
}

PLAIN(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
PLAIN(int, close, (int fd), (fd), -1)
PLAIN(int, dup, (int fd), (fd), -1)
PLAIN(DIR *, fdopendir, (int fd), (fd), NULL)
PLAIN(struct dirent *, readdir, (DIR * dir), (dir), NULL)
PLAIN(int, fstat, (int fd, struct stat *st), (fd, st), -1)
PLAIN(int, flock, (int fd, int operation), (fd, operation), -1)
PLAIN(int, chmod, (const char *path, mode_t mode), (path, mode), -1)
PLAIN(int, fsync, (int fd), (fd), -1)
PLAIN(int, fdatasync, (int fd), (fd), -1)
PLAIN(int, posix_fallocate, (int fd, off_t offset, off_t length), (fd, offset, length), plan.error)
PLAIN(int, ftruncate, (int fd, off_t length), (fd, length), -1)
PLAIN(int, renameat, (int at, const char *from, int to_at, const char *to), (at, from, to_at, to), -1)
PLAIN(int, unlink, (const char *path), (path), -1)
PLAIN(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), -1)
PARTIAL(read, (int fd, void *bytes, size_t length), (fd, bytes, length))
PARTIAL(write, (int fd, const void *bytes, size_t length), (fd, bytes, length))
PARTIAL(pread, (int fd, void *bytes, size_t length, off_t offset), (fd, bytes, length, offset))

/* The first half of the bytes of `part`, into `half`; how many parts that is. */
static int halve(const struct iovec *part, int count, struct iovec half[static PARTS_MAX])
{
    size_t total = 0, left;
    int used = 0;
    for (int i = 0; i < count; i++) total += part[i].iov_len;
    left = total > 1 ? total / 2 : total;
    for (int i = 0; i < count && i < PARTS_MAX && left; i++) {
        half[i] = part[i];
        if (half[i].iov_len > left) half[i].iov_len = left;
        left -= half[i].iov_len;
        used = i + 1;
    }
    return used;
}

ssize_t pwritev(int fd, const struct iovec *part, int count, off_t offset)
{
    REAL(pwritev);
    struct iovec half[PARTS_MAX];
    enum strike s = strike(CALL_pwritev, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    ssize_t result =
        s == STRIKE_SHORT ? real(fd, half, halve(part, count, half), offset) : real(fd, part, count, offset);
    finish(s);
    return result;
}

/* ---- sockets ---- */

PLAIN(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1)
PLAIN(int, connect, (int fd, const struct sockaddr *to, socklen_t length), (fd, to, length), -1)
PLAIN(int, bind, (int fd, const struct sockaddr *to, socklen_t length), (fd, to, length), -1)
PLAIN(int, listen, (int fd, int backlog), (fd, backlog), -1)
PLAIN(int, accept, (int fd, struct sockaddr *from, socklen_t *length), (fd, from, length), -1)
PLAIN(int, accept4, (int fd, struct sockaddr *from, socklen_t *length, int flags), (fd, from, length, flags), -1)
PLAIN(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length), (fd, level, name, value, length),
      -1)
PLAIN(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t length),
      (fd, level, name, value, length), -1)
PLAIN(int, getaddrinfo, (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out),
      (node, service, hints, out), EAI_SYSTEM)
PLAIN(int, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout), -1)
PARTIAL(recv, (int fd, void *bytes, size_t length, int flags), (fd, bytes, length, flags))
PARTIAL(recvfrom, (int fd, void *bytes, size_t length, int flags, struct sockaddr *from, socklen_t *from_bytes),
        (fd, bytes, length, flags, from, from_bytes))
PARTIAL(send, (int fd, const void *bytes, size_t length, int flags), (fd, bytes, length, flags))
PARTIAL(sendto, (int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_bytes),
        (fd, bytes, length, flags, to, to_bytes))

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    struct iovec half[PARTS_MAX];
    struct msghdr shorter = *message;
    enum strike s = strike(CALL_sendmsg, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    if (s == STRIKE_SHORT) {
        shorter.msg_iovlen = (size_t)halve(message->msg_iov, (int)message->msg_iovlen, half);
        shorter.msg_iov = half;
    }
    ssize_t result = real(fd, &shorter, flags);
    finish(s);
    return result;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    REAL(recvmsg);
    struct iovec half[PARTS_MAX], *parts = message->msg_iov;
    size_t count = message->msg_iovlen;
    enum strike s = strike(CALL_recvmsg, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    if (s == STRIKE_SHORT) {
        message->msg_iovlen = (size_t)halve(parts, (int)count, half);
        message->msg_iov = half;
    }
    ssize_t result = real(fd, message, flags);
    message->msg_iov = parts;
    message->msg_iovlen = count;
    finish(s);
    return result;
}

/* ---- the rest of the kernel ---- */

PLAIN(int, epoll_create1, (int flags), (flags), -1)

/* Additions only: the other operations take nothing from the kernel that it could lack. */
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    enum strike s = STRIKE_NOT;
    if (operation == EPOLL_CTL_ADD) s = strike(CALL_epoll_ctl, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    int result = real(epoll_fd, operation, fd, event);
    finish(s);
    return result;
}

PLAIN(int, epoll_wait, (int epoll_fd, struct epoll_event *events, int max, int timeout),
      (epoll_fd, events, max, timeout), -1)
PLAIN(int, eventfd, (unsigned count, int flags), (count, flags), -1)
PLAIN(int, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags), -1)
PLAIN(int, pipe, (int fds[2]), (fds), -1)
PLAIN(int, pthread_create, (pthread_t * out, const pthread_attr_t *attributes, void *(*start)(void *), void *arg),
      (out, attributes, start, arg), plan.error)
PLAIN(int, thrd_create, (thrd_t * out, thrd_start_t start, void *arg), (out, start, arg), thrd_error)

/* ---- memory ---- */

#define MEMORY(name, parameters, arguments)                                                                            \
    void *name parameters                                                                                              \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        enum strike s = strike(CALL_memory, __builtin_return_address(0));                                              \
        if (s == STRIKE_ERROR) return NULL;                                                                            \
        return real arguments;                                                                                         \
    }

MEMORY(malloc, (size_t size), (size))
MEMORY(calloc, (size_t count, size_t size), (count, size))
MEMORY(realloc, (void *old, size_t size), (old, size))
MEMORY(reallocarray, (void *old, size_t count, size_t size), (old, count, size))

char *strdup(const char *text)
{
    REAL(strdup);
    return strike(CALL_memory, __builtin_return_address(0)) == STRIKE_ERROR ? NULL : real(text);
}

char *strndup(const char *text, size_t length)
{
    REAL(strndup);
    return strike(CALL_memory, __builtin_return_address(0)) == STRIKE_ERROR ? NULL : real(text, length);
}

/* ---- second names: of 64-bit offsets, and of a call whose buffer the compiler has measured ---- */

#define ALSO(name, other) extern __typeof__(name) other __attribute__((alias(#name)))
ALSO(open, open64);
ALSO(openat, openat64);
ALSO(fopen, fopen64);
ALSO(pread, pread64);

int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room);
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
    REAL(__poll_chk);
    enum strike s = strike(CALL_poll, __builtin_return_address(0));
    if (s == STRIKE_ERROR) return -1;
    int result = real(fds, count, timeout, room);
    finish(s);
    return result;
}
