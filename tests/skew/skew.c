/* libsandglass-skew: a wall clock that is wrong, in one process, by LD_PRELOAD. There is no namespace for
 * CLOCK_REALTIME.
 *
 * SANDGLASS_SKEW names a file of 8 bytes: an int64 of nanoseconds, in the machine's order, that is added to the wall
 * clock. It is mapped, so that whoever writes to it steps the clock of the running process. Boot and monotonic clocks
 * stay right.
 *
 * A deadline in wall time is waited for as the kernel would: until the clock that is wrong has reached it. A step back
 * by an hour makes such a wait an hour longer, a step forward ends it. So it waits in slices, by the monotonic clock.
 *
 * FAILURES  Without the variable the clock is right. A file that can not be mapped aborts: a test that believes in a
 * step that does not happen could not fail. */
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_NS = 20 * 1000 * 1000 };
static const int64_t second_ns = 1000000000;

typedef int clock_gettime_fn(clockid_t clock, struct timespec *out);

static _Atomic int64_t no_skew;
static _Atomic int64_t *skew_ns = &no_skew;
static clock_gettime_fn *real_clock_gettime;

__attribute__((constructor)) static void start(void)
{
    void *found = dlsym(RTLD_NEXT, "clock_gettime");
    assert(found);
    memcpy(&real_clock_gettime, &found, sizeof found);
    const char *path = getenv("SANDGLASS_SKEW");
    if (!path) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *skew_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) abort();
    close(fd);
    skew_ns = map;
}

static int64_t ns_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * second_ns + t->tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / second_ns), .tv_nsec = (long)(ns % second_ns)};
}

/* Constructors of other libraries may come before ours. */
static int read_clock(clockid_t clock, struct timespec *out)
{
    if (!real_clock_gettime) start();
    return real_clock_gettime(clock, out);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)read_clock(clock, &now);
    return ns_of(&now) + (clock == CLOCK_REALTIME ? atomic_load(skew_ns) : 0);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int result = read_clock(clock, out);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *out = timespec_of(ns_of(out) + atomic_load(skew_ns));
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    (void)zone;
    int64_t us = now_ns(CLOCK_REALTIME) / 1000;
    *out = (struct timeval){.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    return 0;
}

time_t time(time_t *out)
{
    time_t now = (time_t)(now_ns(CLOCK_REALTIME) / second_ns);
    if (out) *out = now;
    return now;
}

int timespec_get(struct timespec *out, int base)
{
    if (base != TIME_UTC) return 0;
    *out = timespec_of(now_ns(CLOCK_REALTIME));
    return base;
}

/* How long the next slice of a wait lasts, by the monotonic clock; false: the deadline has passed. */
static bool next_slice(const struct timespec *until, struct timespec *slice)
{
    int64_t left = ns_of(until) - now_ns(CLOCK_REALTIME);
    *slice = timespec_of(now_ns(CLOCK_MONOTONIC) + (left < SLICE_NS ? left : SLICE_NS));
    return left > 0;
}

/* What librdkafka waits with. glibc's cnd_t and mtx_t are its pthread_cond_t and pthread_mutex_t. */
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t) && sizeof(mtx_t) <= sizeof(pthread_mutex_t),
               "glibc's C11 threads");
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    struct timespec slice;
    while (next_slice(until, &slice)) {
        int result = pthread_cond_clockwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &slice);
        if (result != ETIMEDOUT) return result == 0 ? thrd_success : thrd_error;
    }
    return thrd_timedout;
}

/* What our own collector waits with. */
int pthread_timedjoin_np(pthread_t thread, void **out, const struct timespec *until)
{
    struct timespec slice;
    while (next_slice(until, &slice)) {
        int result = pthread_clockjoin_np(thread, out, CLOCK_MONOTONIC, &slice);
        if (result != ETIMEDOUT) return result;
    }
    return pthread_tryjoin_np(thread, out) == 0 ? 0 : ETIMEDOUT;
}
