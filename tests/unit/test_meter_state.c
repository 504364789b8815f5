#include "tests/unit/meter_fixture.h"

/* A deterministic stream of valid and refused lines: line n is a function of the seed and of n alone, so that it can be
 * sent again. */
enum { LINES = 3000, NAMES = 12, SEEDS = 12 };

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x7fb5d329728ea185);
    x = (x ^ x >> 27) * UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

/* Says line n; refusals (a resume of what runs, ...) are part of the stream. */
static enum meter_verdict say_line(struct bench *b, unsigned s, uint64_t seed, uint64_t n)
{
    char name[16];
    uint64_t dice = mix(seed * 1000003 + n), value = dice >> 40;
    uint64_t boot = n * 731 + (n / 500) * UINT64_C(7200000); /* leaps of hours now and then */
    snprintf(name, sizeof name, "run%u", (unsigned)(dice >> 8) % NAMES);
    switch (dice % 8) {
    case 0:
    case 1: return say(b, s, CREATED, U(n), U(boot), name);
    case 2: return say(b, s, ADOPTED, U(n), U(boot), name, value % 2 ? "true" : "false");
    case 3: return say(b, s, HIBERNATED, U(n), U(boot), name);
    case 4: return say(b, s, RESUMED, U(n), U(boot), name);
    case 5: return say(b, s, DESTROYED, U(n), U(boot), name);
    case 6: return say(b, s, TICK, U(n), U(boot));
    default: return say(b, s, USAGE, U(n), U(boot), name, U(value));
    }
}

static void drive(struct bench *b, unsigned s, uint64_t seed, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n <= to; n++) {
        enum meter_verdict v = say_line(b, s, seed, n);
        cr_assert(v == METER_ACCEPTED || v == METER_REFUSED || v == METER_DUPLICATE);
    }
}

/* A disk: the last snapshot and the deltas behind it. */
struct disk {
    struct buffer snapshot, deltas[64];
    size_t count;
};

static void disk_init(struct disk *d)
{
    d->count = 0;
    buffer_init(&d->snapshot, METER_SNAPSHOT_BYTES_MAX);
    for (size_t i = 0; i < 64; i++) buffer_init(&d->deltas[i], METER_DELTA_BYTES_MAX);
}

static void disk_destroy(struct disk *d)
{
    buffer_destroy(&d->snapshot);
    for (size_t i = 0; i < 64; i++) buffer_destroy(&d->deltas[i]);
}

/* Keeps the last seal's delta; a snapshot now and then instead. */
static void disk_keep(struct disk *d, struct bench *b)
{
    if (d->count == 64 || mix(b->seq) % 16 == 0) {
        cr_assert_eq(meter_save(b->meter, &d->snapshot), SG_OK);
        d->count = 0;
        return;
    }
    buffer_reset(&d->deltas[d->count]);
    buffer_append(&d->deltas[d->count++], b->delta.data, b->delta.length);
}

static void disk_recover(const struct disk *d, struct bench *b)
{
    struct sg_fault f = {0};
    meter_free(b->meter);
    b->meter = new_meter(METER_CLOCK_EVENT);
    cr_assert_eq(meter_load(b->meter, (const uint8_t *)d->snapshot.data, d->snapshot.length, &f), SG_OK, "%s", f.text);
    for (size_t i = 0; i < d->count; i++)
        cr_assert_eq(meter_apply(b->meter, (const uint8_t *)d->deltas[i].data, d->deltas[i].length, &f), SG_OK, "%s",
                     f.text);
}

static int compare(const void *a, const void *b)
{
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

/* Equal up to the order of sandboxes: sizes, and the sorted bytes. */
static void expect_same_state(struct bench *a, struct bench *b)
{
    struct buffer x, y;
    buffer_init(&x, METER_SNAPSHOT_BYTES_MAX);
    buffer_init(&y, METER_SNAPSHOT_BYTES_MAX);
    cr_assert_eq(meter_save(a->meter, &x), SG_OK);
    cr_assert_eq(meter_save(b->meter, &y), SG_OK);
    cr_assert_eq(x.length, y.length);
    qsort(x.data, x.length, 1, compare);
    qsort(y.data, y.length, 1, compare);
    cr_expect_eq(memcmp(x.data, y.data, x.length), 0);
    buffer_destroy(&x);
    buffer_destroy(&y);
}

static void expect_same_harvest(const struct harvest *a, const struct harvest *b)
{
    cr_expect_eq(a->running_ms, b->running_ms);
    cr_expect_eq(a->vcpu_ms, b->vcpu_ms);
    cr_expect_eq(a->cpu_us, b->cpu_us);
    cr_expect_eq(a->starts, b->starts);
    cr_expect_eq(a->states, b->states);
    cr_expect_eq(a->ends, b->ends);
    cr_expect_eq(a->last_end_ms, b->last_end_ms);
    cr_expect_eq(a->complete_through_ms, b->complete_through_ms);
    cr_expect_eq(memcmp(&a->totals, &b->totals, sizeof a->totals), 0);
    cr_expect_eq(b->running_ms, b->totals.running_ms);
}

static void interrupted(struct bench *b, uint64_t seed)
{
    struct disk disk;
    disk_init(&disk);
    unsigned s = greet(b, "s1", "b1", 0, NOON);
    commit(b);
    disk_keep(&disk, b);
    for (uint64_t n = 1; n <= LINES;) {
        uint64_t step = 1 + mix(seed + n) % 90, lost = mix(seed * 7 + n) % 30, end = n + step - 1;
        if (end > LINES) end = LINES;
        drive(b, s, seed, n, end);
        while (meter_settle(b->meter) == METER_FULL) seal(b);
        seal(b);
        disk_keep(&disk, b);
        n = end + 1;
        if (lost % 3) continue;
        drive(b, s, seed, n, n + lost < LINES ? n + lost : LINES); /* taken, and lost before the seal */
        disk_recover(&disk, b);
        cr_assert_eq(greet(b, "s1", "b1", 0, NOON), s);
        cr_assert_eq(meter_durable_n(b->meter, s), end);
    }
    commit(b);
    disk_keep(&disk, b);
    disk_recover(&disk, b);
    disk_destroy(&disk);
}

Test(meter_state, a_meter_that_crashed_at_any_seal_ends_where_an_uninterrupted_one_does)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct bench whole = setup(METER_CLOCK_EVENT), broken = setup(METER_CLOCK_EVENT);
        unsigned s = greet(&whole, "s1", "b1", 0, NOON);
        drive(&whole, s, seed, 1, LINES);
        commit(&whole);
        interrupted(&broken, seed);
        expect_same_harvest(&whole.got, &broken.got);
        expect_same_state(&whole, &broken);
        teardown(&whole);
        teardown(&broken);
    }
}

Test(meter_state, a_host_that_died_during_an_outage_is_ended_after_recovery)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    struct disk disk;
    disk_init(&disk);
    unsigned s = greet(&b, "s1", "b1", 0, NOON);
    say(&b, s, CREATED, U(1), U(0), "run1");
    say(&b, s, TICK, U(2), U(5000));
    commit(&b);
    cr_assert_eq(meter_save(b.meter, &disk.snapshot), SG_OK);
    disk_recover(&disk, &b);
    greet(&b, "s1", "b2", 0, NOON + HOUR_MS);
    commit(&b);
    cr_expect_eq(b.got.running_ms, 5000);
    cr_expect_eq(b.got.reason[REASON_HOST], 1);
    cr_expect_eq(b.got.last_end_ms, NOON + 5000);
    disk_destroy(&disk);
    teardown(&b);
}

Test(meter_state, other_versions_and_damage_are_refused)
{
    struct sg_fault f = {0};
    const uint8_t newer[] = {2, 1, 0}, cut[] = {1, 1, 0}, padded[21] = {1, 1, 0x80};
    struct meter *m = new_meter(METER_CLOCK_EVENT);
    cr_expect_eq(meter_load(m, newer, sizeof newer, &f), SG_ERR_VERSION);
    cr_expect(strstr(f.text, "version 2") != NULL);
    cr_expect_eq(meter_load(m, cut, sizeof cut, &f), SG_ERR_MALFORMED);
    cr_expect_eq(meter_load(m, padded, sizeof padded, &f), SG_ERR_MALFORMED, "a number longer than it is written");
    cr_expect_eq(meter_load(m, NULL, 0, &f), SG_OK, "a new spool has no state");
    meter_free(m);
}

/* The first version's state, kept and read for ever. */
Test(meter_state, the_first_versions_snapshot_is_still_read)
{
    uint8_t bytes[4096];
    struct sg_fault f = {0};
    struct meter_stats stats;
    FILE *file = fopen(TEST_DATA_DIR "/meter_state.v1", "rb");
    cr_assert_not_null(file);
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    struct meter *m = new_meter(METER_CLOCK_EVENT);
    cr_assert_eq(meter_load(m, bytes, length, &f), SG_OK, "%s", f.text);
    meter_stats(m, &stats);
    cr_expect_eq(stats.sandboxes, 2);
    cr_expect_eq(stats.running, 1);
    cr_expect_eq(stats.totals.running_ms, 62000);
    cr_expect_eq(meter_durable_n(m, 0), 4);
    meter_free(m);
}
