#include "tests/unit/meter_fixture.h"

static unsigned hello(struct bench *b)
{
    return greet(b, "s1", "b1", 0, NOON);
}

Test(meter, a_life_is_billed_to_the_millisecond_and_cut_at_minutes)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    b.got.minute_ms = NOON + MINUTE_MS;
    cr_expect_eq(say(&b, s, CREATED, U(1), U(59999), "run1"), METER_ACCEPTED);
    cr_expect_eq(say(&b, s, DESTROYED, U(2), U(180001), "run1"), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 120002);
    cr_expect_eq(b.got.vcpu_ms, 240004);
    cr_expect_eq(b.got.slices, 4);
    cr_expect_eq(b.got.running_ms_in_minute, MINUTE_MS);
    cr_expect_eq(b.got.starts, 1);
    cr_expect_eq(b.got.ends, 1);
    cr_expect_eq(b.got.totals.vcpu_ms, 240004);
    cr_expect_eq(b.got.totals.mem_mib_ms, 1200020);
    cr_expect_eq(b.got.totals.disk_mib_ms, 12000200);
    cr_expect_eq(b.got.totals.running_ms, 120002);
    cr_expect_eq(b.got.totals.events, 2);
    teardown(&b);
}

Test(meter, a_life_of_no_length_is_counted_and_costs_nothing)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(5), "run1");
    say(&b, s, DESTROYED, U(2), U(5), "run1");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 0);
    cr_expect_eq(b.got.slices, 0);
    cr_expect_eq(b.got.starts, 1);
    cr_expect_eq(b.got.ends, 1);
    teardown(&b);
}

Test(meter, hibernation_is_not_billed)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, HIBERNATED, U(2), U(1000), "run1");
    say(&b, s, RESUMED, U(3), U(9000), "run1");
    say(&b, s, HIBERNATED, U(4), U(9500), "run1");
    say(&b, s, DESTROYED, U(5), U(99999), "run1");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 1500);
    cr_expect_eq(b.got.states, 3);
    teardown(&b);
}

Test(meter, what_runs_is_billed_up_to_the_newest_event_of_its_source_at_every_commit)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b), other = greet(&b, "s2", "b1", 0, NOON);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, other, CREATED, U(1), U(0), "run2");
    say(&b, s, TICK, U(2), U(7000));
    commit(&b);
    cr_expect_eq(b.got.running_ms, 7000);
    cr_expect_eq(b.got.complete_through_ms, NOON, "the other source's sandbox has not come further");
    say(&b, other, TICK, U(2), U(8000));
    commit(&b);
    cr_expect_eq(b.got.running_ms, 15000);
    cr_expect_eq(b.got.complete_through_ms, NOON + 7000);
    teardown(&b);
}

Test(meter, a_source_without_running_sandboxes_holds_nothing_back)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    commit(&b);
    cr_expect_eq(b.got.complete_through_ms, 0, "nobody was greeted: nothing to wait for");
    unsigned s = hello(&b);
    greet(&b, "s2", "b1", 0, NOON);
    say(&b, s, TICK, U(1), U(7000));
    commit(&b);
    cr_expect_eq(b.got.complete_through_ms, NOON + 7000);
    teardown(&b);
}

Test(meter, a_rise_lies_in_the_minute_of_its_event)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    b.got.minute_ms = NOON + MINUTE_MS;
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, USAGE, U(2), U(59999), "run1", U(10));
    say(&b, s, USAGE, U(3), U(60000), "run1", U(110));
    say(&b, s, USAGE, U(4), U(119999), "run1", U(1110));
    say(&b, s, USAGE, U(5), U(120000), "run1", U(11110));
    commit(&b);
    cr_expect_eq(b.got.cpu_us, 11110);
    cr_expect_eq(b.got.cpu_us_in_minute, 1100);
    cr_expect_eq(b.got.running_ms_in_minute, MINUTE_MS);
    cr_expect_eq(b.got.running_ms, 120000);
    teardown(&b);
}

Test(meter, a_counter_below_its_last_value_was_reset)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, USAGE, U(2), U(10), "run1", U(100));
    say(&b, s, USAGE, U(3), U(20), "run1", U(30));
    say(&b, s, HIBERNATED, U(4), U(30), "run1");
    say(&b, s, USAGE, U(5), U(40), "run1", U(35));
    say(&b, s, RESUMED, U(6), U(50), "run1");
    say(&b, s, USAGE, U(7), U(60), "run1", U(35));
    commit(&b);
    cr_expect_eq(b.got.cpu_us, 135);
    cr_expect_eq(b.got.running_ms, 40);
    teardown(&b);
}

Test(meter, the_first_values_of_an_adopted_sandbox_are_its_base)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, ADOPTED, U(1), U(0), "run1", "true");
    say(&b, s, ADOPTED, U(2), U(0), "run2", "false");
    say(&b, s, USAGE, U(3), U(10), "run1", U(1000));
    say(&b, s, USAGE, U(4), U(20), "run1", U(1007));
    commit(&b);
    cr_expect_eq(b.got.cpu_us, 7);
    cr_expect_eq(b.got.running_ms, 20);
    cr_expect_eq(b.got.states, 1, "adopted while hibernated");
    teardown(&b);
}

Test(meter, a_refused_event_uses_its_number_up_and_changes_nothing_else)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b), other = greet(&b, "s2", "b1", 0, NOON);
    say(&b, s, CREATED, U(1), U(100), "run1");
    cr_expect_eq(say(&b, s, CREATED, U(2), U(900), "run1"), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_DUPLICATE_SANDBOX);
    cr_expect_eq(say(&b, s, TICK, U(3), U(99)), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_TIME_WENT_BACK);
    cr_expect_eq(say(&b, s, RESUMED, U(4), U(900), "run1"), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_BAD_STATE);
    cr_expect_eq(say(&b, s, DESTROYED, U(5), U(900), "run2"), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_UNKNOWN_SANDBOX);
    cr_expect_eq(say(&b, other, DESTROYED, U(1), U(900), "run1"), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_UNKNOWN_SANDBOX, "it is the other source's");
    cr_expect_eq(say(&b, s, TICK, U(6), U(COUNTER_MAX)), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_OUT_OF_RANGE, "beyond the year 9999");
    cr_expect_eq(meter_refuse(b.meter, s, 7), METER_REFUSED);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 0);
    cr_expect_eq(b.got.totals.events, 1);
    cr_expect_eq(b.got.totals.refused, 7);
    cr_expect_eq(meter_durable_n(b.meter, s), 7);
    teardown(&b);
}

Test(meter, numbers_count_once_and_have_no_holes)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    cr_expect_eq(say(&b, s, CREATED, U(1), U(0), "run1"), METER_ACCEPTED);
    cr_expect_eq(say(&b, s, CREATED, U(1), U(0), "run1"), METER_DUPLICATE);
    cr_expect_eq(say(&b, s, TICK, U(3), U(5)), METER_GAP);
    cr_expect_eq(meter_refuse(b.meter, s, 1), METER_DUPLICATE);
    cr_expect_eq(meter_refuse(b.meter, s, 9), METER_GAP);
    cr_expect_eq(meter_next_n(b.meter, s), 2);
    cr_expect_eq(meter_durable_n(b.meter, s), 0);
    commit(&b);
    cr_expect_eq(meter_durable_n(b.meter, s), 1);
    teardown(&b);
}

Test(meter, numbers_before_the_first_of_an_unknown_source_are_a_named_gap)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, ADOPTED, U(41), U(500), "run1", "true");
    commit(&b);
    cr_expect_eq(b.got.gaps, 1);
    cr_expect_eq(b.got.missing, 40);
    cr_expect_eq(meter_durable_n(b.meter, s), 41);
    teardown(&b);
}

Test(meter, a_host_whose_clock_was_behind_its_uptime_is_heard_from_1970_on)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = greet(&b, "s1", "b1", 10000, 4000);
    cr_expect_eq(say(&b, s, TICK, U(3), U(5999)), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_OUT_OF_RANGE, "1969");
    cr_expect_eq(say(&b, s, TICK, U(4), U(6000)), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.missing, 2, "lost since its start, or since 1970 for want of numbers");
    teardown(&b);
}

Test(meter, an_api_call_may_name_a_project)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, EVENT("api.called") ",\"team\":\"t\",\"operation\":\"file.read\",\"status\":200}", U(1), U(1));
    say(&b, s, EVENT("api.called") ",\"team\":\"t\",\"operation\":\"file.read\",\"status\":200,\"project\":\"p\"}",
        U(2), U(1));
    commit(&b);
    cr_expect_eq(b.got.calls, 2);
    cr_expect_eq(b.got.calls_without_project, 1);
    teardown(&b);
}

Test(meter, the_ids_of_two_sandboxes_may_have_one_hash)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "7mohtcOFVz"); /* of FNV-1a's known collisions */
    say(&b, s, CREATED, U(2), U(0), "c1E51sSEyx");
    say(&b, s, DESTROYED, U(3), U(1000), "7mohtcOFVz");
    say(&b, s, DESTROYED, U(4), U(3000), "c1E51sSEyx");
    commit(&b);
    cr_expect_eq(b.got.ends, 2);
    cr_expect_eq(b.got.running_ms, 4000);
    teardown(&b);
}

Test(meter, what_was_taken_is_dirty_until_it_is_sealed)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    cr_expect_not(meter_dirty(b.meter));
    unsigned s = hello(&b);
    cr_expect(meter_dirty(b.meter));
    commit(&b);
    cr_expect_not(meter_dirty(b.meter), "nothing was said since");
    say(&b, s, CREATED, U(1), U(0), "run1");
    cr_expect(meter_dirty(b.meter));
    commit(&b);
    cr_expect_not(meter_dirty(b.meter));
    say(&b, s, TICK, U(2), U(1000));
    seal(&b);
    cr_expect(meter_dirty(b.meter), "sealed before it was settled: time is to be billed");
    commit(&b);
    cr_expect_not(meter_dirty(b.meter));
    cr_expect_eq(b.got.running_ms, 1000);
    teardown(&b);
}

Test(meter, the_clock_of_the_host_is_not_asked_when_events_are_the_clock)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(0), "run1");
    cr_expect_eq(meter_tick(b.meter, (struct boot_ms){HOUR_MS}), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 0);
    teardown(&b);
}

Test(meter, a_new_boot_ends_all_of_the_old_one_where_it_was_last_heard)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, CREATED, U(2), U(0), "run2");
    say(&b, s, HIBERNATED, U(3), U(1000), "run2");
    say(&b, s, TICK, U(4), U(61000));
    cr_expect_eq(greet(&b, "s1", "b2", 50, NOON + HOUR_MS), s);
    cr_expect_eq(say(&b, s, CREATED, U(1), U(60), "run1"), METER_ACCEPTED, "numbers and names start anew");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 62000);
    cr_expect_eq(b.got.reason[REASON_HOST], 2);
    cr_expect_eq(b.got.last_end_ms, NOON + 61000);
    teardown(&b);
}

Test(meter, the_table_is_bounded_and_so_are_the_sources)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    char name[32];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "run%u", i);
        cr_expect_eq(say(&b, s, CREATED, U(i + 1), U(0), name), METER_ACCEPTED);
    }
    cr_expect_eq(say(&b, s, CREATED, U(101), U(0), "more"), METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_TABLE_FULL);
    for (unsigned i = 2; i <= SOURCES_MAX; i++) {
        snprintf(name, sizeof name, "s%u", i);
        greet(&b, name, "b1", 0, NOON);
    }
    struct ingest_event e = {.type = INGEST_TYPE_HELLO, .source = {"s17"}, .boot_id = {"b1"}};
    uint64_t durable;
    bool fresh;
    cr_expect_eq(meter_hello(b.meter, &e, &s, &durable, &fresh), METER_REFUSED);
    teardown(&b);
}

Test(meter, a_leap_of_years_is_billed_exactly_in_bounded_steps)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    const uint64_t leap = UINT64_C(100) * DAY_MS + 17;
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, CREATED, U(2), U(1), "run2");
    cr_expect_eq(say(&b, s, USAGE, U(3), U(leap), "run1", U(9)), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 2 * leap - 1);
    cr_expect_eq(b.got.cpu_us, 9);
    cr_expect_gt(b.got.batches, 10);
    cr_expect_eq(b.got.complete_through_ms, NOON + (int64_t)leap);
    teardown(&b);
}

Test(meter, capacity_says_what_is_allocated_to_what_runs)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, CREATED, U(2), U(0), "run2");
    say(&b, s, HIBERNATED, U(3), U(1), "run2");
    cr_expect_eq(meter_heartbeat(b.meter), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.capacities, 0, "nobody has said what the runner has");
    say(&b, s, EVENT("runner.capacity") ",\"vcpus_total\":64,\"mem_mib_total\":1,\"disk_mib_total\":2,\"warm\":3}",
        U(4), U(2));
    cr_expect_eq(meter_heartbeat(b.meter), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.capacities, 2);
    cr_expect_eq(b.got.vcpus_allocated, 2);
    cr_expect_eq(b.got.sandboxes_running, 1);
    teardown(&b);
}

Test(meter, later_anchors_are_ignored_when_events_are_the_clock)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "run1");
    greet(&b, "s1", "b1", 10, NOON + HOUR_MS);
    say(&b, s, DESTROYED, U(2), U(100), "run1");
    commit(&b);
    cr_expect_eq(b.got.last_end_ms, NOON + 100);
    teardown(&b);
}

/* ---- clock = system ---- */

static void tick(struct bench *b, uint64_t now)
{
    while (meter_tick(b->meter, (struct boot_ms){now}) == METER_FULL) seal(b);
    commit(b);
}

/* As a collector does that is awake: a tick a second, the last of them at `to`. */
static void pass(struct bench *b, uint64_t from, uint64_t to)
{
    for (uint64_t now = from; now < to; now += METER_TICK_MS) tick(b, now);
    tick(b, to);
}

Test(meter_system, a_connected_source_is_billed_on_the_grid_behind_the_clock)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    unsigned s = hello(&b);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    pass(&b, 1000, 24999);
    cr_expect_eq(b.got.running_ms, 9000, "the grid at 10 s; 20 s are not five seconds ago");
    tick(&b, 25000);
    cr_expect_eq(b.got.running_ms, 19000);
    cr_expect_eq(b.got.complete_through_ms, NOON + 20000);
    meter_connected(b.meter, s, false);
    pass(&b, 26000, 95000);
    cr_expect_eq(b.got.running_ms, 19000, "nobody proves that it lives");
    meter_connected(b.meter, s, true);
    pass(&b, 95000, 101000);
    cr_expect_eq(b.got.running_ms, 89000, "and now it has lived through");
    teardown(&b);
}

Test(meter_system, a_source_that_comes_back_is_not_billed_ahead_of_what_it_still_has_to_say)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    struct meter_stats stats;
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    say(&b, s, CREATED, U(2), U(1000), "run2");
    pass(&b, 2000, 100000);
    meter_connected(b.meter, s, true);
    for (uint64_t i = 0; i < 20; i++) { /* longer than the silence that would end it */
        tick(&b, 100000 + i * METER_TICK_MS);
        say(&b, s, USAGE, U(3 + i), U(2000 + i), "run1", U(1));
    }
    say(&b, s, DESTROYED, U(23), U(31000), "run1");
    say(&b, s, HIBERNATED, U(24), U(119500), "run2"); /* the present: nothing older can come */
    say(&b, s, RESUMED, U(25), U(119500), "run2");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 30000 + 118500);
    pass(&b, 120000, 125000);
    cr_expect_eq(b.got.running_ms, 30000 + 119000, "and is billed by the clock again");
    meter_stats(b.meter, &stats);
    cr_expect_eq(stats.late_events, 0);
    teardown(&b);
}

Test(meter_system, after_a_pause_of_the_collector_what_waits_is_read_before_it_bills_by_the_clock)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    struct meter_stats stats;
    unsigned s = hello(&b);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    pass(&b, 1000, 20000);
    tick(&b, 90000); /* the spool was full, or the machine overloaded */
    cr_expect_eq(b.got.running_ms, 9000);
    say(&b, s, DESTROYED, U(2), U(21000), "run1");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 20000);
    meter_stats(b.meter, &stats);
    cr_expect_eq(stats.late_events, 0);
    teardown(&b);
}

Test(meter_system, a_transition_that_comes_too_late_takes_effect_where_billing_stands)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    struct meter_stats stats;
    unsigned s = hello(&b);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    pass(&b, 1000, 35000);
    cr_expect_eq(say(&b, s, HIBERNATED, U(2), U(12000), "run1"), METER_ACCEPTED);
    cr_expect_eq(say(&b, s, RESUMED, U(3), U(13000), "run1"), METER_ACCEPTED);
    cr_expect_eq(say(&b, s, DESTROYED, U(4), U(31000), "run1"), METER_ACCEPTED);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 30000, "no millisecond twice");
    meter_stats(b.meter, &stats);
    cr_expect_eq(stats.late_events, 1);
    teardown(&b);
}

Test(meter_system, a_dead_host_is_billed_until_it_was_last_connected)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    unsigned s = hello(&b);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    pass(&b, 1000, 35000);
    meter_connected(b.meter, s, false);
    pass(&b, 36000, 99000);
    greet(&b, "s1", "b2", 10, NOON + HOUR_MS);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 34000);
    cr_expect_eq(b.got.last_end_ms, NOON + 35000);
    teardown(&b);
}

Test(meter_system, a_newer_anchor_is_approached_slowly_and_no_millisecond_is_lost)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    unsigned s = hello(&b);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(0), "run1");
    greet(&b, "s1", "b1", 0, NOON - 1000);
    for (uint64_t now = 0; now <= 3 * HOUR_MS; now += SECOND_MS) tick(&b, now);
    say(&b, s, DESTROYED, U(2), U(3 * HOUR_MS), "run1");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 3 * HOUR_MS);
    cr_expect_eq(b.got.last_end_ms, NOON + 3 * HOUR_MS - 1000, "2,000 s of 500 ppm have brought one second");
    greet(&b, "s1", "b1", 0, NOON + 1000);
    say(&b, s, CREATED, U(3), U(3 * HOUR_MS), "run2");
    for (uint64_t now = 3 * HOUR_MS; now <= 5 * HOUR_MS; now += SECOND_MS) tick(&b, now);
    say(&b, s, DESTROYED, U(4), U(5 * HOUR_MS), "run2");
    commit(&b);
    cr_expect_eq(b.got.running_ms, 5 * HOUR_MS);
    cr_expect_eq(b.got.last_end_ms, NOON + 5 * HOUR_MS + 1000, "and forward");
    teardown(&b);
}

/* Its rows would spoil the batch for all other sources. */
Test(meter_system, a_source_at_the_end_of_the_years_that_a_batch_can_say_is_billed_up_to_there)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    unsigned s = greet(&b, "s1", "b1", 0, WALL_MS_MAX - 31000);
    meter_connected(b.meter, s, true);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    pass(&b, 1000, 60000);
    uint64_t billed = b.got.running_ms;
    cr_expect_gt(billed, 10000);
    greet(&b, "s1", "b2", 0, NOON);
    commit(&b);
    cr_expect_eq(b.got.reason[REASON_HOST], 1);
    cr_expect_eq(b.got.running_ms, 30000, "until it was last known to be alive");
    teardown(&b);
}

Test(meter_system, the_watermark_stays_within_the_years_that_a_batch_can_say)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    unsigned s = greet(&b, "s1", "b1", 0, WALL_MS_MAX - 2000);
    meter_connected(b.meter, s, true);
    cr_assert_eq(say(&b, s, TICK, U(1), U(2000)), METER_ACCEPTED);
    greet(&b, "s1", "b1", 0, WALL_MS_MAX); /* its clock is moved towards this */
    meter_connected(b.meter, s, true);
    pass(&b, 0, 30000);
    cr_expect_eq(b.got.complete_through_ms, WALL_MS_MAX);
    teardown(&b);
}
