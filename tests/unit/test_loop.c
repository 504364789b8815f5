#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "common/loop.h"

static struct loop loop;
static struct boot_ms now;

static struct boot_ms read_now(void *arg)
{
    (void)arg;
    return now;
}

static const struct clock test_clock = {.boot = read_now};

static void set_up(void)
{
    now.v = 1000;
    cr_assert_eq(loop_init(&loop, &test_clock, NULL), SG_OK);
}

static void tear_down(void)
{
    loop_destroy(&loop);
}

TestSuite(loop, .init = set_up, .fini = tear_down);

static void turn(void)
{
    cr_assert_eq(loop_turn(&loop, 0, NULL), SG_OK);
}

/* ---- timers ---- */

static struct loop_timer timers[100];
static size_t due[400], due_count;

static void note_due(void *arg, struct boot_ms at)
{
    struct loop_timer *t = arg;
    cr_assert_leq(t->deadline.v, at.v);
    due[due_count++] = (size_t)(t - timers);
}

static void init_timers(void)
{
    for (size_t i = 0; i < 100; i++) loop_timer_init(&timers[i], note_due, &timers[i]);
    due_count = 0;
}

Test(loop, calls_timers_in_the_order_of_their_deadlines)
{
    init_timers();
    for (size_t i = 0; i < 100; i++) loop_timer_set(&loop, &timers[i], (struct boot_ms){2000 + i * 37 % 100});
    turn();
    cr_assert_eq(due_count, 0);
    for (size_t i = 0; i < 100; i += 3) loop_timer_cancel(&loop, &timers[i]);
    loop_timer_cancel(&loop, &timers[0]);
    loop_timer_set(&loop, &timers[1], (struct boot_ms){2050});
    now.v = 2049;
    turn();
    now.v = 3000;
    turn();
    cr_assert_eq(due_count, 66);
    for (size_t i = 1; i < due_count; i++) cr_assert_leq(timers[due[i - 1]].deadline.v, timers[due[i]].deadline.v);
    cr_assert_eq(loop.timer_count, 0);
}

static void set_again(void *arg, struct boot_ms at)
{
    due_count++;
    loop_timer_set(&loop, arg, at);
}

Test(loop, calls_a_timer_that_sets_itself_to_now_once_a_turn)
{
    struct loop_timer t;
    due_count = 0;
    loop_timer_init(&t, set_again, &t);
    loop_timer_set(&loop, &t, now);
    turn();
    cr_assert_eq(due_count, 1);
    turn();
    cr_assert_eq(due_count, 2);
}

static void cancel_next(void *arg, struct boot_ms at)
{
    (void)at;
    due_count++;
    loop_timer_cancel(&loop, arg);
}

Test(loop, does_not_call_a_timer_that_another_has_cancelled)
{
    struct loop_timer a, b;
    due_count = 0;
    loop_timer_init(&a, cancel_next, &b);
    loop_timer_init(&b, cancel_next, &a);
    loop_timer_set(&loop, &a, now);
    loop_timer_set(&loop, &b, now);
    turn();
    cr_assert_eq(due_count, 1);
}

/* ---- descriptors ---- */

struct end {
    int fd[2];
    struct loop_source source;
    struct end *other;
    unsigned calls;
};

static void drain(void *arg, uint32_t events)
{
    struct end *e = arg;
    char byte;
    cr_assert(events & EPOLLIN);
    cr_assert_eq(read(e->fd[0], &byte, 1), 1);
    e->calls++;
}

static void remove_other(void *arg, uint32_t events)
{
    struct end *e = arg;
    (void)events;
    e->calls++;
    loop_remove(&loop, &e->other->source);
    loop_remove(&loop, &e->source);
}

static void open_end(struct end *e, loop_ready *call)
{
    cr_assert_eq(pipe(e->fd), 0);
    cr_assert_eq(loop_add(&loop, &e->source, e->fd[0], EPOLLIN, call, e, NULL), SG_OK);
}

static void put(struct end *e)
{
    cr_assert_eq(write(e->fd[1], "x", 1), 1);
}

static void close_end(struct end *e)
{
    loop_remove(&loop, &e->source);
    close(e->fd[0]);
    close(e->fd[1]);
}

Test(loop, calls_what_is_ready_until_it_is_removed)
{
    struct end e = {0};
    open_end(&e, drain);
    turn();
    cr_assert_eq(e.calls, 0);
    put(&e);
    put(&e);
    turn();
    turn();
    turn();
    cr_assert_eq(e.calls, 2);
    loop_mod(&loop, &e.source, 0);
    put(&e);
    turn();
    cr_assert_eq(e.calls, 2, "nothing was asked for");
    loop_mod(&loop, &e.source, EPOLLIN);
    turn();
    cr_assert_eq(e.calls, 3);
    loop_remove(&loop, &e.source);
    loop_remove(&loop, &e.source);
    put(&e);
    turn();
    cr_assert_eq(e.calls, 3);
    close_end(&e);
}

Test(loop, does_not_call_a_source_that_another_removed_in_the_same_turn)
{
    struct end a = {0}, b = {0};
    a.other = &b;
    b.other = &a;
    open_end(&a, remove_other);
    open_end(&b, remove_other);
    put(&a);
    put(&b);
    turn();
    cr_assert_eq(a.calls + b.calls, 1);
    close_end(&a);
    close_end(&b);
}

Test(loop, says_what_cannot_be_watched)
{
    struct loop_source s = {0};
    struct sg_fault f = {0};
    cr_assert_eq(loop_add(&loop, &s, -1, EPOLLIN, drain, NULL, &f), SG_ERR_IO);
    cr_assert_not(s.active);
    loop_remove(&loop, &s);
}

/* ---- running ---- */

static unsigned ticks;

static struct boot_ms tick_three_times(void *arg, struct boot_ms at)
{
    (void)arg;
    if (++ticks == 3) loop_stop(&loop);
    now.v += 10;
    return at;
}

Test(loop, ticks_until_it_is_stopped)
{
    ticks = 0;
    cr_assert_eq(loop_run(&loop, tick_three_times, NULL, NULL), SG_OK);
    cr_assert_eq(ticks, 3);
    cr_assert(loop_stopping(&loop));
}

static void *wake_from_thread(void *arg)
{
    loop_wake(arg);
    return NULL;
}

static struct boot_ms stop_on_second_tick(void *arg, struct boot_ms at)
{
    pthread_t *thread = arg;
    (void)at;
    if (++ticks == 2) loop_stop(&loop);
    if (ticks == 1) cr_assert_eq(pthread_create(thread, NULL, wake_from_thread, &loop), 0);
    return LOOP_NEVER;
}

Test(loop, is_woken_by_another_thread)
{
    pthread_t thread;
    ticks = 0;
    cr_assert_eq(loop_run(&loop, stop_on_second_tick, &thread, NULL), SG_OK);
    pthread_join(thread, NULL);
    cr_assert_eq(ticks, 2);
}

/* Turns with a directory, which cannot be read, in the place of a descriptor that is ready. */
static enum sg_error turn_unreadable(int *fd)
{
    int ours = *fd;
    *fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(*fd, 0);
    enum sg_error e = loop_turn(&loop, 1000, NULL);
    close(*fd);
    *fd = ours;
    return e;
}

Test(loop, ends_when_its_own_descriptor_cannot_be_read)
{
    loop_wake(&loop);
    cr_assert_eq(turn_unreadable(&loop.wake_fd), SG_ERR_IO);
    cr_assert_eq(loop_run(&loop, NULL, NULL, NULL), SG_ERR_IO);
}

Test(loop, ends_when_it_cannot_learn_which_signal_it_was)
{
    raise(SIGTERM);
    cr_assert_eq(turn_unreadable(&loop.signal_fd), SG_ERR_IO);
}

Test(loop, is_stopped_by_sigterm)
{
    raise(SIGTERM);
    cr_assert_eq(loop_run(&loop, NULL, NULL, NULL), SG_OK);
}

Test(loop, destroys_what_is_zeroed)
{
    struct loop *zeroed = calloc(1, sizeof *zeroed);
    loop_destroy(zeroed);
    free(zeroed);
}
