#include <criterion/criterion.h>
#include <string.h>

#include "common/health.h"

enum { KAFKA, SPOOL, GAPS };
static const struct health_component components[] = {{"kafka", 5000, 0}, {"spool", 0, 0}, {"gaps", 0, 60000}};

enum { BOOT_MS = 1000000 };
#define WALL_MS INT64_C(1700000000000)
static struct boot_ms now;
static int64_t stepped; /* how far the wall clock is from where it began */
static struct health h;

static struct boot_ms read_now(void *arg)
{
    (void)arg;
    return now;
}

static struct wall_ms read_wall(void *arg)
{
    (void)arg;
    return (struct wall_ms){WALL_MS + (int64_t)(now.v - BOOT_MS) + stepped};
}

static const struct clock test_clock = {.boot = read_now, .wall = read_wall};

static void set_up(void)
{
    now.v = BOOT_MS;
    stepped = 0;
    health_init(&h, components, 3, &test_clock);
}

static void tear_down(void)
{
    health_destroy(&h);
}

TestSuite(health, .init = set_up, .fini = tear_down);

static bool healthy(void)
{
    struct health_report report;
    health_judge(&h, &report);
    cr_assert_eq(report.healthy, report.reason[0] == '\0');
    return report.healthy;
}

static const char *reason(void)
{
    static struct health_report report;
    health_judge(&h, &report);
    return report.reason;
}

/* Time passes while the main thread goes on reporting the lag. */
static void pass(uint64_t ms, uint64_t lag)
{
    for (uint64_t step; ms; ms -= step) {
        step = ms < 1000 ? ms : 1000;
        now.v += step;
        health_set_lag(&h, lag);
    }
}

Test(health, is_green_while_there_is_nothing_to_do)
{
    pass(DAY_MS, 0);
    cr_assert(healthy());
}

Test(health, is_red_within_ten_seconds_of_lost_progress)
{
    pass(HOUR_MS, 0);
    health_set_lag(&h, 5);
    pass(HEALTH_PROGRESS_MS, 5);
    cr_assert(healthy(), "work that came after an idle hour has its ten seconds");
    pass(1, 5);
    cr_assert_str_eq(reason(), "progress: there is work and the position does not advance");
    health_progress(&h);
    cr_assert(healthy());
}

Test(health, stays_green_with_a_lag_that_is_worked_off)
{
    for (int i = 0; i < 100; i++) {
        pass(HEALTH_PROGRESS_MS, 1000);
        health_progress(&h);
        cr_assert(healthy());
    }
}

Test(health, is_red_when_the_main_thread_hangs)
{
    health_set_lag(&h, 0);
    now.v += HEALTH_PROGRESS_MS;
    cr_assert(healthy());
    now.v += 1;
    cr_assert_str_eq(reason(), "main-thread: it does not respond");
    health_alive(&h);
    cr_assert(healthy());
}

Test(health, says_what_the_main_thread_hangs_in)
{
    health_doing(&h, "a write to the spool");
    now.v += HEALTH_PROGRESS_MS + 1;
    cr_assert_str_eq(reason(), "main-thread: it does not respond, being in a write to the spool");
    health_doing(&h, NULL);
    cr_assert(healthy());
    now.v += HEALTH_PROGRESS_MS + 1;
    cr_assert_str_eq(reason(), "main-thread: it does not respond");
}

Test(health, names_everything_that_is_wrong_once_something_is)
{
    health_set_lag(&h, 1);
    pass(HEALTH_PROGRESS_MS, 1);
    health_set_fault(&h, KAFKA, "login refused");
    cr_assert(healthy(), "the fault is young, the lag not old enough");
    pass(1, 1);
    cr_assert_str_eq(reason(), "kafka: login refused; progress: there is work and the position does not advance");
    health_set_fault(&h, SPOOL, "full");
    health_progress(&h);
    cr_assert_str_eq(reason(), "kafka: login refused; spool: full");
}

Test(health, counts_a_fault_from_when_the_call_began_that_has_shown_it)
{
    struct boot_ms called = now;
    pass(HEALTH_PROGRESS_MS - 1, 0);
    health_set_fault_since(&h, KAFKA, "no answer", called);
    cr_assert_str_eq(reason(), "kafka: no answer");
    health_set_fault_since(&h, KAFKA, "still none", now);
    cr_assert_str_eq(reason(), "kafka: still none", "it does not become younger");
    health_clear(&h, KAFKA);
    health_set_fault(&h, KAFKA, "no answer");
    cr_assert(healthy(), "it is young");
    health_set_fault_since(&h, KAFKA, "no answer", called);
    cr_assert_str_eq(reason(), "kafka: no answer", "it is older than was known");
    health_clear(&h, KAFKA);
    health_set_fault(&h, KAFKA, "no answer");
    cr_assert(healthy(), "it is a new one");
}

Test(health, lets_an_event_stand_for_its_hold_and_no_longer)
{
    health_set_fault(&h, GAPS, "a gap was found");
    pass(59999, 0);
    cr_assert_str_eq(reason(), "gaps: a gap was found");
    health_set_fault(&h, GAPS, "another gap was found");
    pass(59999, 0);
    cr_assert_str_eq(reason(), "gaps: another gap was found");
    pass(1, 0);
    cr_assert(healthy());
}

Test(health, tells_its_metrics)
{
    struct buffer out;
    buffer_init(&out, 4096);
    health_set_lag(&h, 7);
    pass(3000, 7);
    health_set_fault(&h, SPOOL, "full");
    pass(999, 7);
    health_metrics(&h, &out);
    cr_assert_not_null(strstr(out.data, "\nsandglass_start_time_ms 1700000000000\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_healthy 0\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_lag 7\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_position_age_ms 3999\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_main_thread_age_ms 0\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_fault_age_ms{component=\"kafka\"} 0\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_fault_age_ms{component=\"spool\"} 1000\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_faults_total{component=\"kafka\"} 0\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_faults_total{component=\"spool\"} 1\n"));
    buffer_destroy(&out);
}

Test(health, tells_a_wall_clock_that_was_stepped_and_counts_it)
{
    struct buffer out;
    buffer_init(&out, 4096);
    pass(DAY_MS, 0);
    stepped = HEALTH_STEP_MS;
    pass(1000, 0);
    cr_assert(healthy(), "a minute may be a clock that was set right");
    stepped -= HEALTH_STEP_MS + 1;
    health_alive(&h);
    cr_assert_str_eq(reason(), "clock: the wall clock was stepped by more than a minute");
    pass(HEALTH_STEP_HOLD_MS - 1, 0);
    cr_assert_not(healthy());
    pass(1, 0);
    cr_assert(healthy());
    stepped += HOUR_MS;
    pass(1, 0);
    cr_assert_not(healthy());
    health_metrics(&h, &out);
    cr_assert_not_null(strstr(out.data, "\nsandglass_clock_steps_total 2\n"));
    buffer_destroy(&out);
}

Test(health, counts_how_often_a_fault_began)
{
    struct buffer out;
    buffer_init(&out, 4096);
    for (int i = 0; i < 3; i++) {
        health_set_fault(&h, KAFKA, "no broker can be reached");
        health_set_fault(&h, KAFKA, "still no broker");
        health_clear(&h, KAFKA);
    }
    health_set_fault(&h, GAPS, "a gap was found");
    pass(60000, 0);
    health_set_fault(&h, GAPS, "another gap was found");
    health_metrics(&h, &out);
    cr_assert_not_null(strstr(out.data, "\nsandglass_faults_total{component=\"kafka\"} 3\n"));
    cr_assert_not_null(strstr(out.data, "\nsandglass_faults_total{component=\"gaps\"} 2\n"));
    buffer_destroy(&out);
}

Test(health, allows_a_fault_for_as_long_as_its_component_may)
{
    health_set_fault(&h, KAFKA, "no broker can be reached");
    pass(4999, 0);
    cr_assert(healthy());
    health_set_fault(&h, KAFKA, "still no broker");
    pass(1, 0);
    cr_assert_str_eq(reason(), "kafka: still no broker", "a fault keeps its first time and its newest reason");
    health_clear(&h, KAFKA);
    cr_assert(healthy());
    health_set_fault(&h, KAFKA, "again");
    cr_assert(healthy(), "a new fault has its own time");
}

Test(health, allows_nothing_where_the_allowance_is_zero)
{
    health_set_fault(&h, SPOOL, "full");
    cr_assert_str_eq(reason(), "spool: full");
}

Test(health, renders_what_the_operations_listener_tells)
{
    struct buffer out;
    buffer_init(&out, 1024);
    cr_assert(health_render(&h, &out));
    cr_assert_str_eq(out.data, "{\"healthy\":true,\"reason\":null,\"position_age_ms\":0,\"lag\":0}");
    buffer_reset(&out);
    health_set_lag(&h, 7);
    pass(3000, 7);
    health_set_fault(&h, SPOOL, "full");
    cr_assert_not(health_render(&h, &out));
    cr_assert_str_eq(out.data, "{\"healthy\":false,\"reason\":\"spool: full\",\"position_age_ms\":3000,\"lag\":7}");
    buffer_destroy(&out);
}

Test(health, tells_a_clock_that_starts_at_zero_apart_from_never)
{
    now.v = 0;
    health_init(&h, components, 3, &test_clock);
    health_set_lag(&h, 1);
    now.v = HEALTH_PROGRESS_MS + 2;
    health_set_lag(&h, 1);
    cr_assert_not(healthy());
}
