/* A meter at every allocation that may fail. What is half taken is never sealed, also when there is memory again; what
 * was sealed before is whole. */
#include "tests/unit/alloc.h"
#include "tests/unit/meter_fixture.h"

enum { MANY = 70 }; /* so that the table, the marks and the columns grow */

/* Seals and keeps the delta. */
static enum sg_error seal_of(struct bench *b)
{
    const uint8_t *bytes, *delta;
    size_t length, delta_length;
    struct meter_position position = {1, ++b->seq, b->sha256};
    enum sg_error e = meter_seal(b->meter, &position, &bytes, &length, &delta, &delta_length);
    if (e) cr_assert_eq(meter_seal(b->meter, &position, &bytes, &length, &delta, &delta_length), e, "never again");
    if (e) return e;
    buffer_reset(&b->delta);
    buffer_append(&b->delta, delta, delta_length);
    return b->delta.error;
}

/* All kinds of lines, on the way to a state of many sandboxes. */
static enum sg_error live(struct bench *b)
{
    char name[16];
    unsigned s = greet(b, "s1", "b1", 0, NOON);
    uint64_t n = 3; /* the first two are a gap */
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "run%u", i);
        cr_assert_eq(say(b, s, CREATED, U(n++), U(i), name), METER_ACCEPTED);
    }
    say(b, s, ADOPTED, U(n++), U(MANY), "sleeper", "false");
    say(b, s, EVENT("api.called") ",\"team\":\"t\",\"operation\":\"file.read\",\"status\":200}", U(n++), U(MANY));
    say(b, s, EVENT("exec.exited") ",\"sandbox\":\"run1\",\"exit_code\":1,\"duration_ms\":2}", U(n++), U(MANY));
    say(b, s, EVENT("runner.capacity") ",\"vcpus_total\":64,\"mem_mib_total\":1,\"disk_mib_total\":2,\"warm\":3}",
        U(n++), U(MANY));
    return seal_of(b);
}

/* The snapshot's sandboxes, in the meter of a new process, whose host has ended. */
static enum sg_error end_of(struct bench *b, const struct buffer *snapshot)
{
    struct sg_fault f = {0};
    enum sg_error e = meter_load(b->meter, (const uint8_t *)snapshot->data, snapshot->length, &f);
    if (e) return e;
    say(b, 0, TICK, U(1000), U(1000)); /* a number too many: a gap */
    say(b, 0, TICK, U(MANY + 7), U(1000));
    greet(b, "s1", "b2", 0, NOON + HOUR_MS);
    return seal_of(b);
}

static enum sg_error life(void)
{
    struct bench b = {.meter = meter_new(&(struct meter_config){.runner = "r1", .region = "eu", .sandboxes_max = 100})};
    struct buffer snapshot;
    if (!b.meter) return SG_ERR_NOMEM;
    buffer_init(&b.delta, METER_DELTA_BYTES_MAX);
    buffer_init(&snapshot, METER_SNAPSHOT_BYTES_MAX);
    enum sg_error e = live(&b);
    if (!e) e = meter_save(b.meter, &snapshot);
    if (!e) {
        meter_free(b.meter);
        b.meter = meter_new(&(struct meter_config){.runner = "r1", .region = "eu", .sandboxes_max = 100});
        e = b.meter ? end_of(&b, &snapshot) : SG_ERR_NOMEM;
    }
    buffer_destroy(&snapshot);
    teardown(&b);
    cr_expect(!e || e == SG_ERR_NOMEM, "%s", sg_error_name(e));
    return e;
}

Test(meter_nomem, an_event_that_was_taken_in_part_is_never_sealed)
{
    alloc_at_every("life", life);
}

static struct buffer before, change;

/* What a spool holds: a state, and the change behind it, with a new sandbox and without an old one. */
static void store(void)
{
    struct bench b = setup(METER_CLOCK_EVENT);
    buffer_init(&before, METER_SNAPSHOT_BYTES_MAX);
    buffer_init(&change, METER_DELTA_BYTES_MAX);
    cr_assert_eq(live(&b), SG_OK);
    cr_assert_eq(meter_save(b.meter, &before), SG_OK);
    say(&b, 0, CREATED, U(MANY + 7), U(2000), "later");
    say(&b, 0, DESTROYED, U(MANY + 8), U(2000), "run1");
    cr_assert_eq(seal_of(&b), SG_OK);
    buffer_append(&change, b.delta.data, b.delta.length);
    teardown(&b);
}

static enum sg_error recover(void)
{
    struct meter_stats stats;
    struct sg_fault f = {0};
    struct meter *m = meter_new(&(struct meter_config){.runner = "r1", .region = "eu", .sandboxes_max = 100});
    enum sg_error e = m ? SG_OK : SG_ERR_NOMEM;
    if (!e) e = meter_load(m, (const uint8_t *)before.data, before.length, &f);
    if (!e) e = meter_apply(m, (const uint8_t *)change.data, change.length, &f);
    if (m) meter_stats(m, &stats);
    if (!e) cr_expect_eq(stats.sandboxes, MANY + 1);
    cr_expect(!e || e == SG_ERR_NOMEM, "%s", sg_error_name(e));
    if (m && e) cr_expect(strstr(f.text, "memory"), "%s", f.text);
    meter_free(m);
    return e;
}

Test(meter_nomem, a_state_that_cannot_be_loaded_whole_is_not_loaded)
{
    store();
    alloc_at_every("recover", recover);
    buffer_destroy(&before);
    buffer_destroy(&change);
}
