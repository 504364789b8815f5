/* Commits on a real meter and a real spool, whose disk fills and fails when a test says so. */
#include <errno.h>

#include "collector/commit.h"
#include "tests/unit/alloc.h"
#include "tests/unit/meter_fixture.h"
#include "tests/unit/tree_fixture.h"

enum { SEAL_MS = 1000, HEARTBEAT_MS = 60000, EPOCH = 1700000000, ROLL_ALWAYS = 1, ROLL_SELDOM = 4 << 20 };

/* What the disk does from now on. */
static enum fault { NO_FAULT, DISK_FULL, SEGMENT_FULL, WRITE_FAILS, SYNC_FAILS, SEGMENT_FAILS } fault;

static struct {
    char directory[64];
    struct spool_io io;
    struct spool spool;
    struct bench bench; /* its meter; and what the stored batches say */
    struct commit commit;
    unsigned source, told; /* told: how often that what was taken is durable */
    uint64_t handle, segment_bytes;
} w;

static ssize_t faulty_pwritev(void *arg, int fd, const struct iovec *iov, int count, off_t offset)
{
    errno = fault == DISK_FULL ? ENOSPC : EIO;
    if (fault == DISK_FULL || fault == WRITE_FAILS) return -1;
    return spool_io_real.pwritev(arg, fd, iov, count, offset);
}

static int faulty_sync(void *arg, int fd)
{
    (void)arg, (void)fd;
    errno = EIO;
    return fault == SYNC_FAILS ? -1 : 0;
}

static int faulty_fallocate(void *arg, int fd, off_t offset, off_t length)
{
    if (fault == SEGMENT_FULL || fault == DISK_FULL) return ENOSPC;
    if (fault == SEGMENT_FAILS) return EIO;
    return spool_io_real.ftruncate(arg, fd, offset + length) ? errno : 0; /* sparse: sooner done */
}

/* Called for what is on disk, and for nothing else. */
static void durable(void *arg)
{
    (void)arg;
    w.told++;
    cr_expect_eq(spool_durable_seq(&w.spool), spool_last_seq(&w.spool));
    cr_expect_eq(meter_durable_n(w.bench.meter, w.source) + 1, meter_next_n(w.bench.meter, w.source));
}

static void watch_begin(void *arg, uint64_t handle, const char *cgroup, const char *tap)
{
    (void)arg, (void)cgroup, (void)tap;
    w.handle = handle;
}

/* A collector's start: the meter is what the spool says. */
static void start(void)
{
    struct sg_fault f = {0};
    const struct meter_config config = {.runner = "r1",
                                        .region = "eu",
                                        .clock = METER_CLOCK_SYSTEM,
                                        .sandboxes_max = 10,
                                        .watch = {.begin = watch_begin}};
    const struct spool_options o = {.directory = w.directory,
                                    .runner = "r1",
                                    .now = {EPOCH},
                                    .bytes_max = SPOOL_BYTES_MIN,
                                    .segment_bytes = w.segment_bytes,
                                    .io = &w.io};
    w.bench.meter = meter_new(&config);
    cr_assert_not_null(w.bench.meter);
    cr_assert_eq(spool_open(&w.spool, &o, commit_recover, w.bench.meter, &f), SG_OK, "%s", f.text);
    const struct commit_options c = {.meter = w.bench.meter,
                                     .spool = &w.spool,
                                     .seal_interval_ms = SEAL_MS,
                                     .heartbeat_interval_ms = HEARTBEAT_MS,
                                     .durable = durable};
    commit_init(&w.commit, &c);
    cr_assert_eq(commit_roll(&w.commit, &f), SG_OK, "%s", f.text);
    w.source = greet(&w.bench, "s1", "b1", 0, NOON);
    meter_watch_all(w.bench.meter);
}

static void stop(void)
{
    commit_destroy(&w.commit);
    spool_close(&w.spool);
    meter_free(w.bench.meter);
}

static void restart(void)
{
    fault = NO_FAULT;
    stop();
    start();
}

/* One sandbox runs since second 1; it is 24 s, and the meter closes its slices by the clock. */
static void begin(uint64_t segment_bytes)
{
    struct sg_fault f = {0};
    w.segment_bytes = segment_bytes;
    w.told = 0;
    fault = NO_FAULT;
    snprintf(w.directory, sizeof w.directory, P_tmpdir "/sandglass-commit-XXXXXX");
    cr_assert(mkdtemp(w.directory));
    w.io = spool_io_real;
    w.io.pwritev = faulty_pwritev;
    w.io.fdatasync = w.io.fsync = faulty_sync;
    w.io.fallocate = faulty_fallocate;
    w.bench = (struct bench){0};
    start();
    meter_connected(w.bench.meter, w.source, true);
    cr_assert_eq(say(&w.bench, w.source, CREATED, U(1), U(1000), "run1"), METER_ACCEPTED);
    for (uint64_t now = 1000; now <= 24000; now += METER_TICK_MS)
        cr_assert_eq(commit_tick(&w.commit, (struct boot_ms){now}, &f), SG_OK);
    cr_assert_eq(w.told, 0, "there was room: nothing was sealed");
}

static void end(void)
{
    stop();
    remove_tree(w.directory);
}

/* What all stored batches say. */
static const struct harvest *stored(void)
{
    struct batch_decoder d;
    struct sg_fault f = {0};
    w.bench.got = (struct harvest){0};
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    for (uint64_t seq = 1; seq <= spool_durable_seq(&w.spool); seq++) {
        struct batch batch;
        const uint8_t *bytes;
        size_t length;
        cr_assert_eq(spool_read(&w.spool, seq, &bytes, &length, &f), SG_OK, "%s", f.text);
        cr_assert_eq(batch_decode(&d, bytes, length, &batch, &f), SG_OK, "%s", f.text);
        cr_assert_eq(batch.seq, seq);
        add_batch(&w.bench.got, &batch);
    }
    batch_decoder_destroy(&d);
    return &w.bench.got;
}

static const struct meter_sample *one_more_us(void)
{
    static struct meter_sample sample = {.present = {[METER_CPU_US] = true}};
    sample.value[METER_CPU_US]++;
    return &sample;
}

/* Samples, each a microsecond more, until the meter has no room. Gives how many were taken. */
static uint64_t fill(void)
{
    uint64_t taken = 0;
    while (meter_sample(w.bench.meter, w.handle, one_more_us(), (struct boot_ms){24000}) == METER_ACCEPTED) taken++;
    return taken;
}

static enum sg_error step(uint64_t now, bool wants_room)
{
    struct sg_fault f = {0};
    return commit_step(&w.commit, (struct boot_ms){now}, wants_room, &f);
}

Test(commit, what_was_taken_is_told_once_it_is_on_disk_and_is_there_after_a_restart)
{
    begin(ROLL_SELDOM);
    cr_expect_eq(step(24000, false), SG_OK);
    cr_expect_eq(w.told, 1);
    cr_expect_eq(w.commit.batches, spool_last_seq(&w.spool));
    cr_expect_gt(w.commit.batch_bytes_sum, 0);
    restart();
    cr_expect_eq(meter_durable_n(w.bench.meter, w.source), 1);
    cr_expect_eq(stored()->starts, 1);
    cr_expect_eq(stored()->running_ms, 9000);
    end();
}

Test(commit, seals_are_made_at_the_interval_or_for_want_of_room_and_not_for_nothing)
{
    begin(ROLL_SELDOM);
    cr_assert_eq(step(24000, false), SG_OK);
    cr_assert_eq(step(24000 + SEAL_MS, false), SG_OK);
    cr_expect_eq(w.told, 1, "nothing was taken since");
    cr_assert_eq(say(&w.bench, w.source, HIBERNATED, U(2), U(24000), "run1"), METER_ACCEPTED);
    cr_assert_eq(step(24000 + SEAL_MS, false), SG_OK);
    cr_expect_eq(w.told, 2);
    cr_assert_eq(say(&w.bench, w.source, RESUMED, U(3), U(25000), "run1"), METER_ACCEPTED);
    cr_assert_eq(step(25001, false), SG_OK);
    cr_expect_eq(w.told, 2, "the interval is not over");
    cr_assert_eq(step(25001, true), SG_OK);
    cr_expect_eq(w.told, 3, "somebody waits for room");
    cr_assert_eq(step(24000 + HEARTBEAT_MS, false), SG_OK);
    cr_expect_eq(w.told, 4, "a heartbeat");
    cr_expect_eq(stored()->states, 2);
    end();
}

Test(commit, a_full_disk_holds_the_sealed_batch_back_until_there_is_room)
{
    struct sg_fault f = {0};
    begin(ROLL_ALWAYS);
    fault = DISK_FULL;
    cr_expect_eq(step(24000, false), SG_OK);
    cr_expect_eq(w.commit.blocked, COMMIT_BLOCKED_APPEND);
    cr_expect_eq(commit_unblock(&w.commit, &f), SG_OK);
    cr_expect_eq(w.commit.blocked, COMMIT_BLOCKED_APPEND);
    cr_expect_eq(w.told, 0);
    cr_expect_eq(spool_last_seq(&w.spool), 0);
    fault = SEGMENT_FULL;
    cr_expect_eq(commit_unblock(&w.commit, &f), SG_OK);
    cr_expect_eq(w.commit.blocked, COMMIT_BLOCKED_ROLL, "the batch is stored; the segment is full");
    cr_expect_eq(w.told, 1);
    cr_expect_eq(commit_unblock(&w.commit, &f), SG_OK);
    cr_expect_eq(w.commit.blocked, COMMIT_BLOCKED_ROLL);
    fault = NO_FAULT;
    cr_expect_eq(commit_unblock(&w.commit, &f), SG_OK);
    cr_expect_eq(w.commit.blocked, COMMIT_NOT_BLOCKED);
    cr_expect_eq(w.told, 1, "once");
    restart();
    cr_expect_eq(stored()->running_ms, 9000);
    end();
}

Test(commit, a_batch_without_a_segment_behind_it_is_told_all_the_same)
{
    begin(ROLL_ALWAYS);
    fault = SEGMENT_FULL;
    cr_expect_eq(step(24000, false), SG_OK);
    cr_expect_eq(w.commit.blocked, COMMIT_BLOCKED_ROLL);
    cr_expect_eq(w.told, 1);
    end();
}

/* ---- what seals because the meter is full ---- */

static enum sg_error full_tick(struct sg_fault *f)
{
    return commit_tick(&w.commit, (struct boot_ms){25000}, f);
}

static enum sg_error full_sample(struct sg_fault *f)
{
    return commit_sample(&w.commit, w.handle, one_more_us(), (struct boot_ms){24000}, f);
}

static enum sg_error full_heartbeat(struct sg_fault *f)
{
    return commit_step(&w.commit, (struct boot_ms){24000}, false, f);
}

static enum sg_error full_settle(struct sg_fault *f)
{
    return commit_settle(&w.commit, f);
}

static const struct call {
    const char *name;
    enum sg_error (*run)(struct sg_fault *f);
} calls[] = {{"tick", full_tick}, {"sample", full_sample}, {"heartbeat", full_heartbeat}, {"settle", full_settle}};
enum { CALLS = sizeof calls / sizeof *calls };

/* A full meter; an event asks for the time up to now to be settled. Gives the microseconds that it has taken. */
static uint64_t begin_full(void)
{
    begin(ROLL_SELDOM);
    cr_assert_eq(say(&w.bench, w.source, TICK, U(2), U(24000)), METER_ACCEPTED);
    uint64_t us = fill();
    cr_assert_gt(us, 1000);
    return us;
}

Test(commit, a_full_meter_is_sealed_and_the_call_is_made_again)
{
    for (size_t i = 0; i < CALLS; i++) {
        struct sg_fault f = {0};
        uint64_t us = begin_full();
        cr_expect_eq(calls[i].run(&f), SG_OK, "%s: %s", calls[i].name, f.text);
        cr_expect_geq(w.told, 1, "%s", calls[i].name);
        cr_assert_eq(commit_settle(&w.commit, &f), SG_OK);
        cr_expect_eq(stored()->running_ms, 23000, "%s", calls[i].name);
        cr_expect_geq(stored()->cpu_us, us, "%s", calls[i].name);
        end();
    }
}

Test(commit, a_full_meter_on_a_full_disk_takes_nothing_and_loses_nothing)
{
    for (size_t i = 0; i < CALLS; i++) {
        struct sg_fault f = {0};
        (void)begin_full();
        fault = DISK_FULL;
        cr_expect_eq(calls[i].run(&f), SG_OK, "%s: %s", calls[i].name, f.text);
        cr_expect_eq(w.commit.blocked, COMMIT_BLOCKED_APPEND, "%s", calls[i].name);
        cr_expect_eq(w.told, 0, "%s", calls[i].name);
        fault = NO_FAULT;
        cr_assert_eq(commit_unblock(&w.commit, &f), SG_OK);
        cr_expect_eq(w.told, 1, "%s", calls[i].name);
        cr_assert_eq(commit_settle(&w.commit, &f), SG_OK);
        cr_expect_eq(stored()->running_ms, 23000, "%s", calls[i].name);
        end();
    }
}

Test(commit, a_disk_that_fails_ends_every_call_and_nothing_is_told)
{
    static const enum fault faults[] = {WRITE_FAILS, SYNC_FAILS};
    for (size_t i = 0; i < CALLS * 2; i++) {
        struct sg_fault f = {0};
        const struct call *call = &calls[i / 2];
        (void)begin_full();
        fault = faults[i % 2];
        cr_expect_eq(call->run(&f), SG_ERR_IO, "%s", call->name);
        cr_expect_neq(f.text[0], '\0', "%s", call->name);
        cr_expect_eq(w.told, 0, "%s", call->name);
        end();
    }
}

Test(commit, a_disk_that_fails_while_the_spool_is_full_ends_the_waiting)
{
    static const struct {
        enum fault first, then;
        unsigned told;
    } cases[] = {{DISK_FULL, WRITE_FAILS, 0}, {DISK_FULL, SEGMENT_FAILS, 1}, {SEGMENT_FULL, SEGMENT_FAILS, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sg_fault f = {0};
        begin(ROLL_ALWAYS);
        fault = cases[i].first;
        cr_assert_eq(step(24000, false), SG_OK);
        cr_assert_neq(w.commit.blocked, COMMIT_NOT_BLOCKED);
        fault = cases[i].then;
        cr_expect_eq(commit_unblock(&w.commit, &f), SG_ERR_IO, "%zu", i);
        cr_expect_eq(w.told, cases[i].told, "%zu", i);
        end();
    }
}

Test(commit, a_leap_of_time_is_stored_in_turns)
{
    const uint64_t leap = UINT64_C(200) * DAY_MS;
    begin(ROLL_SELDOM);
    cr_assert_eq(say(&w.bench, w.source, TICK, U(2), U(leap)), METER_ACCEPTED);
    cr_assert_eq(step(24000, false), SG_OK);
    cr_expect_eq(w.commit.seal_at.v, 0, "the rest is due at once");
    cr_expect_eq(meter_durable_n(w.bench.meter, w.source), 2);
    uint64_t batches = w.commit.batches;
    cr_expect_lt(stored()->running_ms, leap - 1000);
    cr_assert_eq(step(24001, false), SG_OK);
    cr_expect_eq(w.commit.seal_at.v, 24001 + SEAL_MS);
    cr_expect_gt(w.commit.batches, batches);
    cr_expect_eq(stored()->running_ms, leap - 1000);
    end();
}

/* Sealing, storing and a new segment, without the n-th allocation, for every n. */
Test(commit, without_memory_it_ends_and_what_is_on_disk_is_whole)
{
    for (uint64_t n = 1;; n++) {
        struct sg_fault f = {0};
        begin(ROLL_ALWAYS);
        alloc_fail_at(n);
        enum sg_error e = commit_seal(&w.commit, &f);
        bool failed = alloc_failed();
        alloc_fail_at(0);
        cr_expect_eq(e, failed ? SG_ERR_NOMEM : SG_OK, "allocation %llu", U(n));
        cr_expect_eq(w.told, failed ? 0 : 1);
        uint64_t stored_seq = spool_durable_seq(&w.spool);
        restart();
        cr_expect_eq(meter_durable_n(w.bench.meter, w.source), stored_seq);
        end();
        if (failed) continue;
        cr_expect_gt(n, 3, "the batch, the change and the state need memory");
        return;
    }
}
