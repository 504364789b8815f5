#include <criterion/criterion.h>
#include <pthread.h>

#include "common/counters.h"

#define TEST_COUNTERS(X)                                                                                               \
    X(EVENTS, COUNTER, "t_events_total", NULL, "events accepted")                                                      \
    X(REFUSED_A, COUNTER, "t_refused_total", "code=\"a\"", "events refused")                                           \
    X(REFUSED_B, COUNTER, "t_refused_total", "code=\"b\"", "events refused")                                           \
    X(SPOOL, GAUGE, "t_spool_bytes", NULL, "bytes on disk")
enum test_counter { TEST_COUNTERS(COUNTERS_ENUM) TEST_COUNTER_COUNT };
static const struct counter_spec specs[] = {TEST_COUNTERS(COUNTERS_SPEC)};

static struct counters c;

Test(counters, render_help_and_type_once_per_family)
{
    struct buffer out;
    buffer_init(&out, 4096);
    counters_init(&c, specs, TEST_COUNTER_COUNT);
    counters_add(&c, COUNT_EVENTS, 2);
    counters_add(&c, COUNT_REFUSED_B, 3);
    counters_set(&c, COUNT_SPOOL, UINT64_MAX);
    counters_render(&c, &out);
    cr_assert_str_eq(out.data, "# HELP t_events_total events accepted\n"
                               "# TYPE t_events_total counter\n"
                               "t_events_total 2\n"
                               "# HELP t_refused_total events refused\n"
                               "# TYPE t_refused_total counter\n"
                               "t_refused_total{code=\"a\"} 0\n"
                               "t_refused_total{code=\"b\"} 3\n"
                               "# HELP t_spool_bytes bytes on disk\n"
                               "# TYPE t_spool_bytes gauge\n"
                               "t_spool_bytes 18446744073709551615\n");
    buffer_destroy(&out);
}

static void *add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100000; i++) counters_add(&c, COUNT_EVENTS, 1);
    return NULL;
}

Test(counters, lose_nothing_between_threads)
{
    pthread_t thread[4];
    counters_init(&c, specs, TEST_COUNTER_COUNT);
    for (int i = 0; i < 4; i++) cr_assert_eq(pthread_create(&thread[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    cr_assert_eq(counters_get(&c, COUNT_EVENTS), 400000);
}
