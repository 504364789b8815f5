/* Every crash image of the spool: crash_images [--large]
 *
 * A workload of real batches (lines -> parser -> meter -> spool: commits of one to three batches, rolls, deliveries,
 * cursors) runs on the disk in memory. Before each call that changes the disk, and at the end, the power is cut in
 * every way that it may be: every subset of what was not synced, writes torn at 512 bytes. Each image is recovered by
 * spool_open, meter_load and meter_apply, and then
 *   1. what was acknowledged is there; nothing is that was not handed to the spool; batches have the bytes they had;
 *   2. the meter's state is what it was after the last of them;
 *   3. the position is not beyond what Kafka said, nor before the cursor that was saved;
 *   4. the collector goes on: appends, syncs, rolls, saves its cursor, and finds that again after one more power cut.
 * spool_open may refuse none of them.
 *
 * SUBSETS    all 2^n of n pieces up to EXHAUSTIVE; beyond, none, all, each alone, all but each, and SAMPLED by chance.
 * TWO LIVES  the same after the end of a program without a power cut: killed at every n-th call and behind each change
 *            of the directory, or ended by a sync that failed, every n-th of them. The next life sees what is not
 *            durable, and its images are those of a power cut that comes then.
 *
 * --large raises all bounds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/meter.h"
#include "proto/ingest_line.h"
#include "tests/sim/disk.h"

enum { BATCHES = 40, MORE_BATCHES = 5, SEGMENT_BYTES = 5000, SEQ_MAX = 128, SEEN_SLOTS = 1 << 22, CALLS_MAX = 1024 };

static struct {
    unsigned exhaustive, sampled, kills_stride, syncs_stride;
} bound = {.exhaustive = 5, .sampled = 5, .kills_stride = 31, .syncs_stride = 5};

/* One program: what it knows and what it has said. */
struct life {
    struct spool_io io;
    struct spool spool;
    struct meter *meter;
    struct buffer snapshot;
    uint64_t random, n[SOURCES_MAX], boot_ms;
};

/* What must hold of an image, whoever looks at it. */
static struct {
    uint64_t sealed, acked, reported, cursor; /* by number of batch */
    uint64_t batch[SEQ_MAX], state[SEQ_MAX];  /* hashes */
    uint64_t images, distinct, moments,
        sampled; /* moments: of a power cut; sampled: those with too many pieces for all images */
    bool end_here[CALLS_MAX], sync_here[CALLS_MAX]; /* by number of the call in the first life */
    const char *last_call;
    uint64_t fails_at, syncs;
    uint64_t seen[SEEN_SLOTS];
    uint64_t random;
} all;

static void die(const char *what, uint64_t a, uint64_t b, const char *text)
{
    printf("FAILED after %" PRIu64 " images: %s (%" PRIu64 ", %" PRIu64 ") %s\n", all.images, what, a, b, text);
    exit(1);
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

static uint64_t draw(uint64_t *random, uint64_t below)
{
    *random = mix(*random, 1) + 1;
    return *random % below;
}

static uint64_t hash_bytes(const uint8_t *bytes, size_t length)
{
    uint64_t h = length;
    for (size_t i = 0; i < length; i++) h = mix(h, bytes[i]);
    return h;
}

/* Of a state, whatever the order of its entries: how often each byte occurs. */
static uint64_t hash_state(struct life *l)
{
    uint64_t h = 0, count[256] = {0};
    if (meter_save(l->meter, &l->snapshot)) die("meter_save", 0, 0, "");
    for (size_t i = 0; i < l->snapshot.length; i++) count[(uint8_t)l->snapshot.data[i]]++;
    for (size_t i = 0; i < 256; i++) h = mix(h, count[i]);
    return h;
}

/* ---- a collector ---- */

static enum sg_error apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes, size_t length,
                           struct sg_fault *f)
{
    struct life *l = arg;
    (void)seq;
    return kind == SPOOL_SNAPSHOT ? meter_load(l->meter, bytes, length, f) : meter_apply(l->meter, bytes, length, f);
}

static enum sg_error begin(struct life *l, struct disk *disk, struct sg_fault *f)
{
    static const struct meter_config config = {
        .runner = "r1", .region = "eu", .clock = METER_CLOCK_EVENT, .sandboxes_max = 1000};
    l->io = disk_io(disk);
    struct spool_options o = {.directory = "spool",
                              .runner = "r1",
                              .now = {1763884800000},
                              .bytes_max = SPOOL_BYTES_MIN,
                              .segment_bytes = SEGMENT_BYTES,
                              .io = &l->io};
    l->meter = meter_new(&config);
    if (!l->meter) abort();
    buffer_init(&l->snapshot, METER_SNAPSHOT_BYTES_MAX);
    return spool_open(&l->spool, &o, apply, l, f);
}

static void end(struct life *l)
{
    spool_close(&l->spool);
    meter_free(l->meter);
    buffer_destroy(&l->snapshot);
}

static void say(struct life *l, unsigned source, const char *line)
{
    struct ingest_event e;
    struct meter_refusal refusal;
    size_t at;
    if (ingest_line_parse(line, strlen(line), &e, &at)) die("a line of the workload", source, at, line);
    enum meter_verdict v = meter_event(l->meter, source, &e, &refusal);
    if (v != METER_ACCEPTED && v != METER_REFUSED) die("a line of the workload is not taken", source, v, line);
}

static void greet(struct life *l, const char *name, unsigned *source)
{
    char line[256];
    struct ingest_event e;
    size_t at;
    bool fresh;
    uint64_t durable;
    snprintf(line, sizeof line,
             "{\"v\":1,\"type\":\"hello\",\"source\":\"%s\",\"boot_id\":\"b\",\"boot_ms\":1,\"wall_ms\":1763884800000}",
             name);
    if (ingest_line_parse(line, strlen(line), &e, &at)) die("hello", at, 0, line);
    if (meter_hello(l->meter, &e, source, &durable, &fresh) != METER_ACCEPTED) die("hello", 0, 0, name);
    l->n[*source] = durable;
}

/* Creates, uses and destroys sandboxes; a few thousand bytes at most. */
static void some_lines(struct life *l, unsigned source)
{
    static const struct {
        const char *type, *rest;
    } shapes[] = {{"sandbox.created", ",\"team\":\"t1\",\"project\":\"p1\",\"vcpus\":2,\"mem_mib\":512,\"disk_mib\":10,"
                                      "\"origin\":\"fork\",\"create_ms\":12"},
                  {"sandbox.usage", ",\"cpu_us\":77123"},
                  {"exec.exited", ",\"exit_code\":3,\"duration_ms\":5"},
                  {"sandbox.destroyed", ",\"reason\":\"oom\""}};
    for (uint64_t lines = 1 + draw(&l->random, 12); lines; lines--) {
        char line[512];
        uint64_t shape = draw(&l->random, 4), sandbox = draw(&l->random, 20);
        l->boot_ms += draw(&l->random, 20000);
        snprintf(line, sizeof line,
                 "{\"n\":%" PRIu64 ",\"boot_ms\":%" PRIu64 ",\"type\":\"%s\",\"sandbox\":\"s%u-%" PRIu64 "\"%s}",
                 ++l->n[source], l->boot_ms, shapes[shape].type, source, sandbox, shapes[shape].rest);
        say(l, source, line);
    }
}

/* Seals a batch and hands it to the spool; what is written of it is what an image may have. */
static enum sg_error append(struct life *l, bool told)
{
    const uint8_t *batch, *delta;
    size_t batch_bytes, delta_bytes;
    struct meter_position position = {spool_epoch(&l->spool), spool_last_seq(&l->spool) + 1,
                                      spool_previous_sha256(&l->spool)};
    if (meter_settle(l->meter) != METER_ACCEPTED) die("settling", position.seq, 0, "");
    if (meter_seal(l->meter, &position, &batch, &batch_bytes, &delta, &delta_bytes))
        die("sealing", position.seq, 0, "");
    if (told) {
        all.sealed = position.seq;
        all.batch[all.sealed] = hash_bytes(batch, batch_bytes);
        all.state[all.sealed] = hash_state(l);
    }
    return spool_append(&l->spool, batch, batch_bytes, delta, delta_bytes, NULL);
}

static enum sg_error roll(struct life *l)
{
    if (meter_save(l->meter, &l->snapshot)) die("meter_save", 0, 0, "");
    return spool_roll(&l->spool, (const uint8_t *)l->snapshot.data, l->snapshot.length, NULL);
}

/* The workload: `batches` more. Ends with the disk's first refusal: the program was killed. */
static enum sg_error work(struct life *l, uint64_t batches)
{
    enum sg_error e = SG_OK;
    unsigned source;
    greet(l, "s1", &source);
    for (uint64_t last = spool_last_seq(&l->spool) + batches; !e && spool_last_seq(&l->spool) < last;) {
        uint64_t group = 1 + draw(&l->random, 3);
        for (; group && !e && !spool_wants_roll(&l->spool); group--) {
            some_lines(l, source);
            e = append(l, true);
        }
        if (!e) e = spool_sync(&l->spool, NULL);
        if (!e) all.acked = spool_durable_seq(&l->spool);
        if (!e && spool_wants_roll(&l->spool)) e = roll(l);
        if (!e && draw(&l->random, 2)) {
            all.reported = all.acked - draw(&l->random, 3) % (all.acked - spool_delivered_seq(&l->spool) + 1);
            e = spool_delivered(&l->spool, all.reported, NULL);
            if (!e && draw(&l->random, 2) && !spool_cursor_saved(&l->spool)) {
                e = spool_save_cursor(&l->spool, NULL);
                if (!e) all.cursor = all.reported;
            }
        }
    }
    return e;
}

/* ---- an image ---- */

static void expect_image(struct life *l)
{
    uint64_t last = spool_last_seq(&l->spool), delivered = spool_delivered_seq(&l->spool);
    if (last < all.acked) die("acknowledged batches are gone", last, all.acked, "");
    if (last > all.sealed) die("batches that never were", last, all.sealed, "");
    if (delivered > all.reported || delivered < all.cursor) die("the position", delivered, all.cursor, "");
    if (last && hash_state(l) != all.state[last]) die("the meter's state", last, all.acked, "");
    for (uint64_t seq = delivered + 1; seq <= last; seq++) {
        const uint8_t *bytes;
        size_t length;
        struct sg_fault f = {0};
        if (spool_read(&l->spool, seq, &bytes, &length, &f)) die("reading", seq, last, f.text);
        if (hash_bytes(bytes, length) != all.batch[seq]) die("a batch has other bytes", seq, last, "");
    }
}

/* The collector goes on. Returns the hash of its state. */
static uint64_t go_on(struct life *l)
{
    unsigned source;
    enum sg_error e = SG_OK;
    if (spool_wants_roll(&l->spool)) e = roll(l);
    greet(l, "s2", &source);
    some_lines(l, source);
    if (!e) e = append(l, false);
    if (!e) e = spool_sync(&l->spool, NULL);
    if (!e) e = roll(l);
    some_lines(l, source);
    if (!e) e = append(l, false);
    if (!e) e = spool_sync(&l->spool, NULL);
    if (!e) e = spool_delivered(&l->spool, spool_durable_seq(&l->spool) - 1, NULL);
    if (!e) e = spool_save_cursor(&l->spool, NULL);
    if (e) die("the collector cannot go on", spool_last_seq(&l->spool), e, "");
    return hash_state(l);
}

static void examine(struct disk *image)
{
    struct life l = {.random = 5}, next = {.random = 6};
    struct sg_fault f = {0};
    if (begin(&l, image, &f)) die("recovery refuses", all.acked, all.sealed, f.text);
    expect_image(&l);
    uint64_t last = spool_last_seq(&l.spool) + 2, state = go_on(&l);
    end(&l);
    disk_cut_power(image);
    if (begin(&next, image, &f)) die("recovery refuses what was recovered", last, 0, f.text);
    if (spool_last_seq(&next.spool) != last) die("what was recovered is gone", spool_last_seq(&next.spool), last, "");
    if (spool_delivered_seq(&next.spool) != last - 1)
        die("the position moved", spool_delivered_seq(&next.spool), last, "");
    if (hash_state(&next) != state) die("the state changed", last, 0, "");
    end(&next);
}

/* ---- every subset ---- */

/* Which pieces are kept: bit by bit, in the order of asking. */
struct subset {
    const uint8_t *keep;
    size_t asked;
};

static bool keeps(void *arg, enum disk_event event)
{
    struct subset *s = arg;
    return event == DISK_KEEPS && s->keep[s->asked++];
}

static bool is_new(uint64_t key)
{
    size_t at = key % SEEN_SLOTS;
    for (; all.seen[at]; at = (at + 1) % SEEN_SLOTS)
        if (all.seen[at] == key) return false;
    if (++all.distinct > SEEN_SLOTS / 2) die("too many images", all.distinct, 0, "");
    all.seen[at] = key;
    return true;
}

static void cut(const struct disk *d, const uint8_t *keep)
{
    static struct disk image;
    struct subset s = {keep, 0};
    disk_copy(&image, d);
    image.happens = keeps;
    image.arg = &s;
    disk_cut_power(&image);
    image.happens = NULL;
    all.images++;
    if (is_new(mix(mix(mix(disk_hash(&image), all.acked), all.sealed), all.reported) | 1)) examine(&image);
}

static void cut_in_every_way(const struct disk *d)
{
    static uint8_t keep[DISK_CHANGES_MAX];
    size_t pieces = disk_unsynced(d);
    if (pieces > sizeof keep) die("too many pieces", pieces, 0, "");
    all.moments++;
    if (pieces <= bound.exhaustive) {
        for (uint64_t set = 0; set < UINT64_C(1) << pieces; set++) {
            for (size_t i = 0; i < pieces; i++) keep[i] = set >> i & 1;
            cut(d, keep);
        }
        return;
    }
    all.sampled++;
    for (int most = 0; most < 2; most++) {
        memset(keep, most, pieces);
        cut(d, keep);
        for (size_t i = 0; i < pieces; i++) {
            keep[i] ^= 1;
            cut(d, keep);
            keep[i] ^= 1;
        }
    }
    for (unsigned n = 0; n < bound.sampled; n++) {
        for (size_t i = 0; i < pieces; i++) keep[i] = draw(&all.random, 2) != 0;
        cut(d, keep);
    }
}

static void before_call(void *arg, const char *call)
{
    (void)call;
    cut_in_every_way(arg);
}

/* As before_call, in the first life: where others are to end. */
static void before_first_call(void *arg, const char *call)
{
    const struct disk *d = arg;
    uint64_t number = d->calls + 1;
    if (number >= CALLS_MAX) die("too many calls", number, 0, call);
    all.sync_here[number] = strcmp(call, "sync") == 0 && ++all.syncs % bound.syncs_stride == 0;
    all.end_here[number] = number % bound.kills_stride == 0 || strcmp(all.last_call, "rename") == 0 ||
                           strcmp(all.last_call, "unlink") == 0;
    all.last_call = call;
    cut_in_every_way(arg);
}

/* A sync fails, and half of what it was to write is lost. */
static bool sync_fails(void *arg, enum disk_event event)
{
    const struct disk *d = arg;
    if (event == DISK_KEEPS) return draw(&all.random, 2);
    return event == DISK_SYNC_FAILS && d->calls == all.fails_at;
}

/* ---- lives ---- */

static void forget(void)
{
    all.sealed = all.acked = all.reported = all.cursor = 0;
}

enum ending { ENDS_WELL, IS_KILLED, SYNC_FAILS };

/* A life that ends so at its call `at`; images of it when it ends well. */
static void first_life(struct disk *d, enum ending ending, uint64_t at)
{
    struct life l = {.random = 1};
    struct sg_fault f = {0};
    forget();
    d->arg = d;
    d->before = ending == ENDS_WELL ? before_first_call : NULL;
    d->happens = ending == SYNC_FAILS ? sync_fails : NULL;
    d->dies_at = ending == IS_KILLED ? at : 0;
    all.fails_at = at;
    enum sg_error e = begin(&l, d, &f);
    if (!e) e = work(&l, BATCHES);
    if (!e != (ending == ENDS_WELL)) die("the workload's end", e, at, f.text);
    if (ending == ENDS_WELL) cut_in_every_way(d);
    end(&l);
}

/* The next life on what the first has left; its images. */
static void second_life(struct disk *d)
{
    struct life l = {.random = 2};
    struct sg_fault f = {0};
    disk_restart(d);
    d->before = before_call;
    d->happens = NULL;
    if (begin(&l, d, &f)) die("a start after an end", all.acked, 0, f.text);
    all.acked = spool_durable_seq(&l.spool);
    if (work(&l, MORE_BATCHES)) die("the workload stops", 0, 0, "");
    cut_in_every_way(d);
    end(&l);
}

static void two_lives(enum ending ending, const bool here[static CALLS_MAX], uint64_t calls, const char *name)
{
    uint64_t images = all.images, distinct = all.distinct, ends = 0;
    for (uint64_t at = 1; at <= calls; at++) {
        static struct disk d;
        if (!here[at]) continue;
        memset(&d, 0, sizeof d);
        first_life(&d, ending, at);
        second_life(&d);
        disk_destroy(&d);
        ends++;
    }
    printf("%" PRIu64 " lives behind %s: %" PRIu64 " images, %" PRIu64 " distinct, all recovered\n", ends, name,
           all.images - images, all.distinct - distinct);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--large") == 0) {
        bound.exhaustive = 12;
        bound.sampled = 2000;
        bound.kills_stride = bound.syncs_stride = 1;
    } else if (argc > 1) {
        fprintf(stderr, "usage: crash_images [--large]\n");
        return 2;
    }
    static struct disk first;
    all.last_call = "";
    first_life(&first, ENDS_WELL, 0);
    printf("%" PRIu64 " calls of one life: %" PRIu64 " images, %" PRIu64 " distinct, all recovered\n", first.calls,
           all.images, all.distinct);
    two_lives(IS_KILLED, all.end_here, first.calls, "one that was killed");
    two_lives(SYNC_FAILS, all.sync_here, first.calls, "one whose sync failed");
    printf("%" PRIu64 " moments of a power cut: every image of %" PRIu64 ", some of %" PRIu64
           ", which had more than %u pieces that were not synced\n",
           all.moments, all.moments - all.sampled, all.sampled, bound.exhaustive);
    disk_destroy(&first);
    return 0;
}
