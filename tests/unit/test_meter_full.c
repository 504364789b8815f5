/* A meter that has no room says so before it takes anything, whatever it is asked, and takes all of it after a seal. */
#include "tests/unit/meter_fixture.h"

static uint64_t watched;

static void watch_begin(void *arg, uint64_t handle, const char *cgroup, const char *tap)
{
    (void)arg, (void)cgroup, (void)tap;
    watched = handle;
}

static struct bench watched_bench(size_t sandboxes_max)
{
    struct bench b = setup(METER_CLOCK_SYSTEM);
    struct meter_config config = {.runner = "r1",
                                  .region = "eu",
                                  .clock = METER_CLOCK_SYSTEM,
                                  .sandboxes_max = sandboxes_max,
                                  .watch = {.begin = watch_begin}};
    meter_free(b.meter);
    b.meter = meter_new(&config);
    cr_assert_not_null(b.meter);
    return b;
}

static enum meter_verdict sample(struct bench *b, uint64_t now)
{
    static struct meter_sample m = {.present = {[METER_NET_RX_BYTES] = true}, .alive = true};
    m.value[METER_NET_RX_BYTES]++;
    return meter_sample(b->meter, watched, &m, (struct boot_ms){now});
}

/* A connected source with a sandbox since second 1, at second 24; the batch is full of samples. */
static struct bench full_bench(unsigned *source)
{
    struct bench b = watched_bench(10);
    *source = greet(&b, "s1", "b1", 0, NOON);
    meter_connected(b.meter, *source, true);
    say(&b, *source, CREATED, U(1), U(1000), "run1");
    say(&b, *source,
        EVENT("runner.capacity") ",\"vcpus_total\":64,\"mem_mib_total\":1,\"disk_mib_total\":2,\"warm\":3}", U(2),
        U(1000));
    for (uint64_t now = 1000; now <= 24000; now += METER_TICK_MS)
        cr_assert_eq(meter_tick(b.meter, (struct boot_ms){now}), METER_ACCEPTED);
    while (sample(&b, 24000) == METER_ACCEPTED) continue;
    return b;
}

static enum meter_verdict full_tick(struct bench *b, unsigned s)
{
    (void)s;
    return meter_tick(b->meter, (struct boot_ms){25000});
}

static enum meter_verdict full_sample(struct bench *b, unsigned s)
{
    (void)s;
    return sample(b, 24001);
}

static enum meter_verdict full_heartbeat(struct bench *b, unsigned s)
{
    (void)s;
    return meter_heartbeat(b->meter);
}

static enum meter_verdict full_refuse(struct bench *b, unsigned s)
{
    return meter_refuse(b->meter, s, 3);
}

static enum meter_verdict full_event(struct bench *b, unsigned s)
{
    static const char line[] = "{\"n\":3,\"boot_ms\":24000,\"type\":\"tick\"}";
    struct ingest_event e;
    struct meter_refusal refusal;
    size_t at;
    cr_assert_eq(ingest_line_parse(line, sizeof line - 1, &e, &at), INGEST_OK);
    return meter_event(b->meter, s, &e, &refusal);
}

static enum meter_verdict full_hello(struct bench *b, unsigned s)
{
    struct ingest_event e = {.type = INGEST_TYPE_HELLO, .source = {"s1"}, .boot_id = {"b2"}};
    uint64_t durable;
    bool fresh;
    return meter_hello(b->meter, &e, &s, &durable, &fresh);
}

Test(meter_full, every_call_says_so_takes_nothing_and_is_taken_after_a_seal)
{
    static const struct {
        const char *name;
        enum meter_verdict (*call)(struct bench *b, unsigned source), then;
    } calls[] = {
        {"tick", full_tick, METER_ACCEPTED},           {"sample", full_sample, METER_ACCEPTED},
        {"heartbeat", full_heartbeat, METER_ACCEPTED}, {"refuse", full_refuse, METER_REFUSED},
        {"event", full_event, METER_ACCEPTED},         {"hello", full_hello, METER_ACCEPTED},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        unsigned s;
        struct bench b = full_bench(&s);
        struct meter_stats before, after;
        meter_stats(b.meter, &before);
        cr_expect_eq(calls[i].call(&b, s), METER_FULL, "%s", calls[i].name);
        meter_stats(b.meter, &after);
        cr_expect_eq(memcmp(&before, &after, sizeof before), 0, "%s took something", calls[i].name);
        cr_expect_eq(meter_next_n(b.meter, s), 3, "%s", calls[i].name);
        seal(&b);
        cr_expect_eq(calls[i].call(&b, s), calls[i].then, "%s", calls[i].name);
        commit(&b);
        cr_expect_eq(b.got.running_ms, b.got.totals.running_ms, "%s", calls[i].name);
        teardown(&b);
    }
}

/* The minutes before the event may leave no room for the event itself: whatever their number, all are billed once. */
Test(meter_full, an_event_waits_when_the_minutes_before_it_took_the_room)
{
    unsigned waited = 0;
    for (uint64_t minutes = METER_BATCH_ROWS_MAX - 16; minutes <= METER_BATCH_ROWS_MAX; minutes++) {
        struct bench b = setup(METER_CLOCK_EVENT);
        unsigned s = greet(&b, "s1", "b1", 0, NOON);
        say(&b, s, CREATED, U(1), U(0), "run1");
        cr_expect_eq(say(&b, s, USAGE, U(2), U(minutes * MINUTE_MS + 7), "run1", U(9)), METER_ACCEPTED);
        waited += b.got.batches > 0;
        commit(&b);
        cr_expect_eq(b.got.running_ms, minutes * MINUTE_MS + 7);
        cr_expect_eq(b.got.cpu_us, 9);
        teardown(&b);
    }
    cr_expect_gt(waited, 0);
    cr_expect_lt(waited, 17);
}

/* As above; then a host that has ended takes many batches to be billed, and any number of minutes may be left. */
Test(meter_full, the_end_of_a_host_goes_on_after_each_seal)
{
    for (uint64_t minutes = METER_BATCH_ROWS_MAX - 16; minutes <= METER_BATCH_ROWS_MAX; minutes++) {
        struct bench b = setup(METER_CLOCK_EVENT);
        unsigned s = greet(&b, "s1", "b1", 0, NOON);
        say(&b, s, CREATED, U(1), U(0), "run1");
        say(&b, s, CREATED, U(2), U(0), "run2");
        say(&b, s, ADOPTED, U(3), U(0), "run3", "false");
        say(&b, s, TICK, U(4), U(minutes * MINUTE_MS));
        greet(&b, "s1", "b2", 0, NOON + INT64_C(1000) * DAY_MS);
        commit(&b);
        cr_expect_eq(b.got.running_ms, 2 * minutes * MINUTE_MS);
        cr_expect_eq(b.got.reason[REASON_HOST], 3);
        cr_expect_geq(b.got.batches, 2);
        teardown(&b);
    }
}

/* Of long names that all differ, a batch's bytes have room for fewer than its rows. */
Test(meter_full, a_batch_of_long_names_is_full_by_its_bytes)
{
    struct bench b = watched_bench(METER_BATCH_ROWS_MAX);
    unsigned s = greet(&b, "s1", "b1", 0, NOON);
    uint64_t count = 0;
    while (b.got.batches == 0 && count < METER_BATCH_ROWS_MAX) {
        count++;
        cr_assert_eq(
            say(&b, s,
                EVENT("sandbox.created") ",\"sandbox\":\"%064llu\",\"team\":\"%064llu\","
                                         "\"project\":\"%064llu\",\"vcpus\":1000,\"mem_mib\":10000000,"
                                         "\"disk_mib\":1000000000,\"origin\":\"create\",\"create_ms\":80000000}",
                U(count), U(0), U(count), U(count), U(count)),
            METER_ACCEPTED);
    }
    cr_expect_lt(count, METER_BATCH_ROWS_MAX - 8);
    seal(&b);
    cr_expect_eq(b.got.starts, count);
    teardown(&b);
}

#define LONG_NAME "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

/* Sandboxes with names as long as they may be, until the table could not be saved any more; and then a change of each,
 * until the change could not be stored. */
Test(meter_full, the_state_stays_within_what_a_snapshot_and_a_delta_may_take)
{
    struct bench b = watched_bench(1000000);
    struct buffer snapshot;
    char cgroup[INGEST_CGROUP_BYTES_MAX + 1];
    enum meter_verdict v;
    uint64_t count = 0, batches;
    unsigned s = greet(&b, "s1", "b1", 0, NOON);
    memset(cgroup, 'g', sizeof cgroup - 1);
    cgroup[sizeof cgroup - 1] = '\0';
    do {
        v = say(&b, s,
                EVENT("sandbox.created") ",\"sandbox\":\"%08llu" LONG_NAME "\",\"team\":\"t\",\"project\":\"p\","
                                         "\"vcpus\":1,\"mem_mib\":1,\"disk_mib\":1,\"origin\":\"create\","
                                         "\"create_ms\":5,\"cgroup\":\"%s\"}",
                U(count + 1), U(0), U(count), cgroup);
        count += v == METER_ACCEPTED;
    } while (v == METER_ACCEPTED);
    cr_expect_eq(v, METER_REFUSED);
    cr_expect_eq(b.refused.error, INGEST_TABLE_FULL);
    seal(&b);
    buffer_init(&snapshot, METER_SNAPSHOT_BYTES_MAX);
    cr_expect_eq(meter_save(b.meter, &snapshot), SG_OK);
    cr_expect_gt(snapshot.length, METER_SNAPSHOT_BYTES_MAX / 4, "the bound is of the longest numbers");
    batches = b.got.batches;
    for (uint64_t i = 0; i < count; i++)
        cr_assert_eq(
            say(&b, s, EVENT("sandbox.usage") ",\"sandbox\":\"%08llu" LONG_NAME "\"}", U(count + 2 + i), U(0), U(i)),
            METER_ACCEPTED);
    cr_expect_gt(b.got.batches, batches, "no row was made, and yet it had to be sealed");
    buffer_destroy(&snapshot);
    teardown(&b);
}
