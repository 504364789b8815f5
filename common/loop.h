/* The event loop of every program's main thread: epoll, timers, signals, and a wake-up for other threads.
 *
 * A TURN    wait until something is ready, the nearest timer is due or the tick's deadline has come; call what is
 * ready; call timers that are due; call the tick, which does the program's own work in bounded portions and returns
 *           when it wants to be called again. So the program's work stands in one function and not in callbacks.
 * SIGNALS   SIGTERM and SIGINT are blocked (call loop_init before any thread is started) and end loop_run.
 * THREADS   only loop_wake and writing 8 bytes to loop_wake_fd are for other threads (librdkafka:
 *           rd_kafka_queue_io_event_enable(queue, loop_wake_fd(&loop), &one, sizeof one)).
 * REMOVING  a source or timer may be removed at any time, also from its own or another's callback; its callback is not
 *           called after that.
 * Level-triggered. Deadlines are boot time. */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "sandglass/error.h"

enum { LOOP_TIMERS_MAX = 1024, LOOP_EVENTS_PER_TURN = 64 };

/* No deadline. */
#define LOOP_NEVER ((struct boot_ms){UINT64_MAX})

/* events: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP. */
typedef void loop_ready(void *arg, uint32_t events);
/* A timer is due; it is no longer set. */
typedef void loop_due(void *arg, struct boot_ms now);
/* The program's work. Returns when it wants to be called again at the latest: now.v for at once, LOOP_NEVER. */
typedef struct boot_ms loop_tick(void *arg, struct boot_ms now);

/* A watched descriptor; memory of the caller, zeroed before its first use. */
struct loop_source {
    int fd;
    bool active;
    loop_ready *call;
    void *arg;
};

/* A timer; memory of the caller, zeroed before loop_timer_init. */
struct loop_timer {
    struct boot_ms deadline;
    size_t position; /* in the heap, + 1; 0: not set */
    loop_due *call;
    void *arg;
};

struct loop {
    int epoll_fd, signal_fd, wake_fd;
    const struct clock *clock;
    bool stopping;
    int failure; /* errno of one of its own descriptors, which ends it; 0: none */
    size_t timer_count;
    struct loop_timer *timer[LOOP_TIMERS_MAX]; /* heap, earliest first */
    struct loop_source signals, wake;
    struct epoll_event pending[LOOP_EVENTS_PER_TURN]; /* of this turn; a removed source is blanked */
    int pending_count;
};

/* clock NULL is clock_real. IO. */
SG_MUST_USE enum sg_error loop_init(struct loop *l, const struct clock *clock, struct sg_fault *f);
/* Closes its own descriptors; sources and timers must not be used with it any more. Safe on a zeroed struct. */
void loop_destroy(struct loop *l);
/* Watches fd (which stays the caller's). IO (not a descriptor that can be watched, no memory in the kernel). */
SG_MUST_USE enum sg_error loop_add(struct loop *l, struct loop_source *s, int fd, uint32_t events, loop_ready *call,
                                   void *arg, struct sg_fault *f);
/* Changes what is waited for; 0: only errors. */
void loop_mod(struct loop *l, struct loop_source *s, uint32_t events);
/* Stops watching; before fd is closed. Nothing when s is not watched. */
void loop_remove(struct loop *l, struct loop_source *s);
/* Names a timer's callback. */
void loop_timer_init(struct loop_timer *t, loop_due *call, void *arg);
/* Sets or moves it. At most LOOP_TIMERS_MAX at a time (asserted). */
void loop_timer_set(struct loop *l, struct loop_timer *t, struct boot_ms deadline);
/* Nothing when it is not set. */
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
/* The loop's time, now. */
struct boot_ms loop_now(const struct loop *l);
/* Turns until loop_stop, SIGTERM or SIGINT; OK then, or IO, for ever after. tick may be NULL. */
SG_MUST_USE enum sg_error loop_run(struct loop *l, loop_tick *tick, void *arg, struct sg_fault *f);
/* One wait of at most wait_ms, one round of callbacks; no tick. For tests and for waiting inside a program. */
SG_MUST_USE enum sg_error loop_turn(struct loop *l, uint32_t wait_ms, struct sg_fault *f);
/* Ends loop_run after this turn. */
void loop_stop(struct loop *l);
/* True once it was asked to end. */
bool loop_stopping(const struct loop *l);
/* Makes the loop turn. Any thread; async-signal-safe. */
void loop_wake(struct loop *l);
/* The eventfd behind loop_wake. */
int loop_wake_fd(const struct loop *l);

#endif
