/* Who watches a sandbox's counters, and what their samples and the events' own counters come to. */
#include "tests/unit/meter_fixture.h"

/* The watcher's diary, and the last sandbox whose watch began. */
static struct {
    uint64_t handle;
    char diary[512];
} watch;

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...)
{
    size_t used = strlen(watch.diary);
    va_list args;
    va_start(args, format);
    vsnprintf(watch.diary + used, sizeof watch.diary - used, format, args);
    va_end(args);
}

static void watch_begin(void *arg, uint64_t handle, const char *cgroup, const char *tap)
{
    (void)arg;
    watch.handle = handle;
    note("begin(%s,%s) ", cgroup, tap);
}

static void watch_end(void *arg, uint64_t handle)
{
    (void)arg;
    note(handle == watch.handle ? "end " : "end-of-another ");
}

static struct meter *watched_meter(enum meter_clock clock)
{
    struct meter_config config = {.runner = "r1",
                                  .region = "eu",
                                  .clock = clock,
                                  .sandboxes_max = 10,
                                  .watch = {.begin = watch_begin, .end = watch_end}};
    struct meter *m = meter_new(&config);
    cr_assert_not_null(m);
    memset(&watch, 0, sizeof watch);
    return m;
}

static struct bench sampled_bench(void)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    meter_free(b.meter);
    b.meter = watched_meter(METER_CLOCK_SYSTEM);
    return b;
}

static unsigned hello(struct bench *b)
{
    return greet(b, "s1", "b1", 0, NOON);
}

static void expect_diary(const char *text)
{
    cr_expect_str_eq(watch.diary, text);
    watch.diary[0] = '\0';
}

static void sample_cpu(struct bench *b, uint64_t now, uint64_t cpu_us)
{
    struct meter_sample m = {.present = {[METER_CPU_US] = true}, .value = {[METER_CPU_US] = cpu_us}, .alive = true};
    cr_assert_eq(meter_sample(b->meter, watch.handle, &m, (struct boot_ms){now}), METER_ACCEPTED);
}

static uint64_t cpu_us(struct bench *b)
{
    commit(b);
    return b->got.cpu_us;
}

Test(meter_samples, the_watcher_is_told_of_every_begin_and_end_of_running)
{
    struct bench b = sampled_bench();
    unsigned s = hello(&b);
    say(&b, s,
        EVENT("sandbox.created") ",\"sandbox\":\"run1\",\"team\":\"t\",\"project\":\"p\",\"vcpus\":1,\"mem_mib\":1,"
                                 "\"disk_mib\":1,\"origin\":\"create\",\"create_ms\":5,\"cgroup\":\"a/"
                                 "b\",\"tap\":\"t0\"}",
        U(1), U(0));
    expect_diary("begin(a/b,t0) ");
    say(&b, s, HIBERNATED, U(2), U(10), "run1");
    expect_diary("end ");
    say(&b, s, RESUMED, U(3), U(20), "run1");
    expect_diary("begin(a/b,t0) ");
    say(&b, s, DESTROYED, U(4), U(30), "run1");
    expect_diary("end ");
    say(&b, s, ADOPTED, U(5), U(40), "run2", "false");
    say(&b, s, DESTROYED, U(6), U(50), "run2");
    expect_diary("");
    say(&b, s, CREATED, U(7), U(60), "run3");
    say(&b, s, ADOPTED, U(8), U(70), "run4", "false");
    expect_diary("begin(,) ");
    greet(&b, "s1", "b2", 0, NOON + HOUR_MS);
    expect_diary("end ");
    teardown(&b);
}

Test(meter_samples, after_loading_the_watch_begins_for_what_runs)
{
    struct bench b = sampled_bench();
    struct buffer snapshot;
    struct sg_fault f = {0};
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, ADOPTED, U(2), U(0), "run2", "false");
    commit(&b);
    buffer_init(&snapshot, METER_SNAPSHOT_BYTES_MAX);
    cr_assert_eq(meter_save(b.meter, &snapshot), SG_OK);
    meter_free(b.meter);
    b.meter = watched_meter(METER_CLOCK_SYSTEM);
    cr_assert_eq(meter_load(b.meter, (const uint8_t *)snapshot.data, snapshot.length, &f), SG_OK, "%s", f.text);
    expect_diary("");
    meter_watch_all(b.meter);
    expect_diary("begin(,) ");
    buffer_destroy(&snapshot);
    teardown(&b);
}

Test(meter_samples, they_count_until_events_carry_the_counter)
{
    struct bench b = sampled_bench();
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    sample_cpu(&b, 2000, 50);
    sample_cpu(&b, 3000, 80);
    cr_expect_eq(cpu_us(&b), 80);
    cr_expect_not(meter_dirty(b.meter));
    sample_cpu(&b, 3000, 80);
    cr_expect(meter_dirty(b.meter), "it is a base, though it rose by nothing");
    say(&b, s, USAGE, U(2), U(3001), "run1", U(75));
    cr_expect_eq(cpu_us(&b), 80, "read before the last sample: no reset");
    say(&b, s, USAGE, U(3), U(3002), "run1", U(100));
    sample_cpu(&b, 4000, 500);
    cr_expect_eq(cpu_us(&b), 100, "events carry it now");
    teardown(&b);
}

Test(meter_samples, the_first_event_that_carries_the_counter_rises_from_the_samples)
{
    struct bench b = sampled_bench();
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    sample_cpu(&b, 2000, 50);
    say(&b, s, USAGE, U(2), U(3000), "run1", U(70));
    cr_expect_eq(cpu_us(&b), 70);
    say(&b, s, USAGE, U(3), U(4000), "run1", U(60));
    cr_expect_eq(cpu_us(&b), 130, "and a lower one is a reset then");
    teardown(&b);
}

Test(meter_samples, the_first_of_an_adopted_sandbox_is_its_base_and_a_lower_one_a_reset)
{
    struct bench b = sampled_bench();
    unsigned s = hello(&b);
    say(&b, s, ADOPTED, U(1), U(1000), "run1", "true");
    sample_cpu(&b, 2000, 5000);
    cr_expect_eq(cpu_us(&b), 0);
    sample_cpu(&b, 3000, 5030);
    cr_expect_eq(cpu_us(&b), 30);
    sample_cpu(&b, 4000, 7);
    cr_expect_eq(cpu_us(&b), 37);
    teardown(&b);
}

Test(meter_samples, a_populated_cgroup_proves_life_without_a_connection)
{
    struct bench b = sampled_bench();
    struct meter_sample empty = {.alive = false};
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    sample_cpu(&b, 41000, 50);
    cr_assert_eq(meter_sample(b.meter, watch.handle, &empty, (struct boot_ms){51000}), METER_ACCEPTED);
    greet(&b, "s1", "b2", 10, NOON + HOUR_MS);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 40000);
    teardown(&b);
}

Test(meter_samples, the_highest_memory_is_told_at_the_end_unless_the_end_says_its_own)
{
    static const struct {
        const char *end;
        uint64_t peak;
    } cases[] = {{"", 900}, {",\"mem_peak_bytes\":800", 800}};
    for (size_t i = 0; i < 2; i++) {
        struct bench b = sampled_bench();
        struct meter_sample m = {.mem_bytes = 700, .mem_peak_bytes = 900, .alive = true};
        unsigned s = hello(&b);
        say(&b, s, CREATED, U(1), U(1000), "run1");
        cr_assert_eq(meter_sample(b.meter, watch.handle, &m, (struct boot_ms){2000}), METER_ACCEPTED);
        m.mem_peak_bytes = 1;
        cr_assert_eq(meter_sample(b.meter, watch.handle, &m, (struct boot_ms){3000}), METER_ACCEPTED);
        say(&b, s, EVENT("sandbox.usage") ",\"sandbox\":\"run1\",\"mem_bytes\":600}", U(2), U(3500));
        say(&b, s, EVENT("sandbox.destroyed") ",\"sandbox\":\"run1\",\"reason\":\"api\"%s}", U(3), U(4000),
            cases[i].end);
        commit(&b);
        cr_expect_eq(b.got.mem_peak_bytes, cases[i].peak);
        cr_expect_eq(b.got.mem_bytes, 700 + 700 + 600);
        teardown(&b);
    }
}

Test(meter_samples, one_of_a_time_that_no_batch_can_say_is_left_out)
{
    static const struct {
        int64_t wall_ms;
        uint64_t now;
    } cases[] = {{WALL_MS_MAX - 1000, 2000}, {0, 400}};
    for (size_t i = 0; i < 2; i++) {
        struct bench b = sampled_bench();
        unsigned s = greet(&b, "s1", "b1", 500, cases[i].wall_ms);
        say(&b, s, CREATED, U(1), U(500), "run1");
        sample_cpu(&b, cases[i].now, 10);
        cr_expect_eq(cpu_us(&b), 0);
        sample_cpu(&b, 501, 10);
        cr_expect_eq(cpu_us(&b), 10, "nothing of it was taken");
        teardown(&b);
    }
}

Test(meter_samples, they_are_not_asked_when_events_are_the_clock)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    meter_free(b.meter);
    b.meter = watched_meter(METER_CLOCK_EVENT);
    unsigned s = hello(&b);
    say(&b, s, CREATED, U(1), U(1000), "run1");
    sample_cpu(&b, 2000, 50);
    cr_expect_eq(cpu_us(&b), 0);
    teardown(&b);
}
