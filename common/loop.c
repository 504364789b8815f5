#include "common/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/log.h"

/* How long one wait lasts at most, so that a stepped test clock is noticed. */
enum { WAIT_MS_MAX = 1000 };

/* ---- timers: a binary heap; position is index + 1 ---- */

static void heap_put(struct loop *l, size_t index, struct loop_timer *t)
{
    l->timer[index] = t;
    t->position = index + 1;
}

static void sift_up(struct loop *l, size_t index, struct loop_timer *t)
{
    for (size_t parent; index > 0; index = parent) {
        parent = (index - 1) / 2;
        if (l->timer[parent]->deadline.v <= t->deadline.v) break;
        heap_put(l, index, l->timer[parent]);
    }
    heap_put(l, index, t);
}

static void sift_down(struct loop *l, size_t index, struct loop_timer *t)
{
    for (size_t child; (child = 2 * index + 1) < l->timer_count; index = child) {
        if (child + 1 < l->timer_count && l->timer[child + 1]->deadline.v < l->timer[child]->deadline.v) child++;
        if (t->deadline.v <= l->timer[child]->deadline.v) break;
        heap_put(l, index, l->timer[child]);
    }
    heap_put(l, index, t);
}

void loop_timer_init(struct loop_timer *t, loop_due *call, void *arg)
{
    *t = (struct loop_timer){.call = call, .arg = arg};
}

void loop_timer_set(struct loop *l, struct loop_timer *t, struct boot_ms deadline)
{
    loop_timer_cancel(l, t);
    assert(t->call && l->timer_count < LOOP_TIMERS_MAX);
    t->deadline = deadline;
    sift_up(l, l->timer_count++, t);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    if (!t->position) return;
    size_t hole = t->position - 1;
    assert(hole < l->timer_count && l->timer[hole] == t);
    t->position = 0;
    struct loop_timer *last = l->timer[--l->timer_count];
    if (last == t) return;
    if (hole > 0 && last->deadline.v < l->timer[(hole - 1) / 2]->deadline.v)
        sift_up(l, hole, last);
    else
        sift_down(l, hole, last);
}

/* Those due at `now`, each once: one that sets itself to `now` again waits for the next turn. */
static void call_timers(struct loop *l, struct boot_ms now)
{
    for (size_t left = l->timer_count; left && l->timer_count && l->timer[0]->deadline.v <= now.v; left--) {
        struct loop_timer *t = l->timer[0];
        loop_timer_cancel(l, t);
        t->call(t->arg, now);
    }
}

/* ---- descriptors ---- */

/* One of our own that is ready and cannot be read would be ready for ever, and no signal be heard: the loop is over. */
static void take_failure(struct loop *l, ssize_t got)
{
    if (got < 0 && errno != EAGAIN && errno != EINTR) l->failure = errno;
}

static void on_signal(void *arg, uint32_t events)
{
    struct loop *l = arg;
    struct signalfd_siginfo info;
    ssize_t got;
    (void)events;
    while ((got = read(l->signal_fd, &info, sizeof info)) == (ssize_t)sizeof info) {
        log_event(LOG_INFO, "stopping", "signal=%u", info.ssi_signo);
        loop_stop(l);
    }
    take_failure(l, got);
}

static void on_wake(void *arg, uint32_t events)
{
    struct loop *l = arg;
    uint64_t count;
    (void)events;
    take_failure(l, read(l->wake_fd, &count, sizeof count)); /* EAGAIN: somebody else's turn took it */
}

static enum sg_error open_descriptors(struct loop *l, struct sg_fault *f)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (pthread_sigmask(SIG_BLOCK, &signals, NULL)) return sg_fail(f, SG_ERR_IO, "signals could not be blocked");
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->epoll_fd < 0 || l->signal_fd < 0 || l->wake_fd < 0)
        return sg_fail(f, SG_ERR_IO, "event loop: %s", strerror(errno));
    enum sg_error e = loop_add(l, &l->signals, l->signal_fd, EPOLLIN, on_signal, l, f);
    return e ? e : loop_add(l, &l->wake, l->wake_fd, EPOLLIN, on_wake, l, f);
}

enum sg_error loop_init(struct loop *l, const struct clock *clock, struct sg_fault *f)
{
    memset(l, 0, sizeof *l);
    l->clock = clock ? clock : &clock_real;
    enum sg_error e = open_descriptors(l, f);
    if (e) loop_destroy(l);
    return e;
}

static void close_one(int fd)
{
    if (fd > 0) close(fd);
}

void loop_destroy(struct loop *l)
{
    close_one(l->wake_fd);
    close_one(l->signal_fd);
    close_one(l->epoll_fd);
    memset(l, 0, sizeof *l);
}

enum sg_error loop_add(struct loop *l, struct loop_source *s, int fd, uint32_t events, loop_ready *call, void *arg,
                       struct sg_fault *f)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    assert(!s->active && call);
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &e))
        return sg_fail(f, SG_ERR_IO, "watching a descriptor: %s", strerror(errno));
    *s = (struct loop_source){.fd = fd, .active = true, .call = call, .arg = arg};
    return SG_OK;
}

void loop_mod(struct loop *l, struct loop_source *s, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    assert(s->active);
    int status = epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
    assert(status == 0);
}

void loop_remove(struct loop *l, struct loop_source *s)
{
    if (!s->active) return;
    int status = epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    assert(status == 0); /* else fd was closed first: its number may be another's by now */
    s->active = false;
    for (int i = 0; i < l->pending_count; i++)
        if (l->pending[i].data.ptr == s) l->pending[i].data.ptr = NULL;
}

/* ---- turning ---- */

struct boot_ms loop_now(const struct loop *l)
{
    return l->clock->boot(l->clock->arg);
}

static int wait_until(const struct loop *l, struct boot_ms deadline)
{
    if (l->timer_count && l->timer[0]->deadline.v < deadline.v) deadline = l->timer[0]->deadline;
    uint64_t wait_ms = clock_since(deadline, loop_now(l));
    return wait_ms < WAIT_MS_MAX ? (int)wait_ms : WAIT_MS_MAX;
}

static enum sg_error turn_until(struct loop *l, struct boot_ms deadline, struct sg_fault *f)
{
    int count = epoll_wait(l->epoll_fd, l->pending, LOOP_EVENTS_PER_TURN, wait_until(l, deadline));
    if (count < 0 && errno != EINTR) l->failure = errno;
    l->pending_count = count > 0 ? count : 0;
    for (int i = 0; i < l->pending_count; i++) {
        struct loop_source *s = l->pending[i].data.ptr;
        uint32_t events = l->pending[i].events;
        if (s) s->call(s->arg, events);
    }
    l->pending_count = 0;
    if (l->failure && !l->stopping) return sg_fail(f, SG_ERR_IO, "event loop: %s", strerror(l->failure));
    call_timers(l, loop_now(l));
    return SG_OK;
}

enum sg_error loop_turn(struct loop *l, uint32_t wait_ms, struct sg_fault *f)
{
    return turn_until(l, (struct boot_ms){loop_now(l).v + wait_ms}, f);
}

enum sg_error loop_run(struct loop *l, loop_tick *tick, void *arg, struct sg_fault *f)
{
    struct boot_ms deadline = tick ? loop_now(l) : LOOP_NEVER;
    while (!l->stopping) {
        enum sg_error e = turn_until(l, deadline, f);
        if (e) return e;
        if (tick && !l->stopping) deadline = tick(arg, loop_now(l));
    }
    return SG_OK;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
}

bool loop_stopping(const struct loop *l)
{
    return l->stopping;
}

void loop_wake(struct loop *l)
{
    const uint64_t one = 1;
    ssize_t put = write(l->wake_fd, &one, sizeof one);
    (void)put; /* EAGAIN: 2^64 - 2 wake-ups are waiting already */
}

int loop_wake_fd(const struct loop *l)
{
    return l->wake_fd;
}
