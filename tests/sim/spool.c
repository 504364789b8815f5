/* One schedule of the spool's world (spool_world.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/spool_world.h"
#include "tests/sim/worlds.h"

enum { LENGTHS = 3, ZEROS_SHOWN = 16 << 10 };

static bool fault(struct spool_world *w, enum sim_fault kind)
{
    return !w->sim->quiet && sim_fault(w->sim, kind);
}

static bool disk_happens(void *arg, enum disk_event event)
{
    struct spool_world *w = arg;
    switch (event) {
    case DISK_KEEPS: return sim_draw(w->sim, 2);
    case DISK_FULL:
    case DISK_FULL_FOR_A_WRITE: return w->full;
    case DISK_WRITE_SHORT: return fault(w, SIM_WRITE_SHORT);
    case DISK_WRITE_FAILS: return fault(w, SIM_WRITE_FAILS);
    case DISK_SYNC_FAILS: return fault(w, SIM_SYNC_FAILS);
    default: return false;
    }
}

/* ---- batches ---- */

/* Their lengths come from few: records then fall where others were. */
size_t spool_world_batch(uint64_t content, uint8_t out[static SPOOL_RECORD])
{
    size_t length = 300 + content % LENGTHS * 500;
    for (size_t i = 0; i < length; i++) out[i] = (uint8_t)(content * 131 + i * 7 + (content >> 8));
    return length;
}

static enum sg_error apply(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes, size_t length,
                           struct sg_fault *f)
{
    struct spool_world *w = arg;
    (void)kind;
    if (length != sizeof w->state) return length ? sg_fail(f, SG_ERR_MALFORMED, "a state of %zu bytes", length) : SG_OK;
    memcpy(w->state, bytes, length);
    return w->state[0] == seq ? SG_OK : sg_fail(f, SG_ERR_MALFORMED, "the state of another batch");
}

static enum sg_error append(struct spool_world *w)
{
    uint8_t batch[SPOOL_RECORD];
    uint64_t seq = spool_last_seq(&w->spool) + 1;
    const uint64_t state[SPOOL_STATE_NUMBERS] = {seq};
    w->content[seq] = sim_draw(w->sim, 1 << 20);
    w->durable_before[seq] = spool_durable_seq(&w->spool);
    w->appended = seq;
    w->sim->rows++;
    size_t length = spool_world_batch(w->content[seq], batch);
    return spool_append(&w->spool, batch, length, (const uint8_t *)state, sizeof state, NULL);
}

static enum sg_error roll(struct spool_world *w)
{
    const uint64_t state[SPOOL_STATE_NUMBERS] = {spool_last_seq(&w->spool)};
    return spool_roll(&w->spool, (const uint8_t *)state, sizeof state, NULL);
}

/* ---- lives ---- */

static void expect_recovered(struct spool_world *w)
{
    struct sim *s = w->sim;
    uint64_t last = spool_last_seq(&w->spool);
    s->checks++;
    if (last < w->acked) sim_fail(s, "synced batches are gone: %" PRIu64 " of %" PRIu64, last, w->acked);
    if (last > w->appended) sim_fail(s, "batch %" PRIu64 " was never appended, %" PRIu64 " was", last, w->appended);
    if (w->state[0] != last) sim_fail(s, "the state of batch %" PRIu64 " behind batch %" PRIu64, w->state[0], last);
    if (spool_delivered_seq(&w->spool) > w->delivered) sim_fail(s, "a position beyond what Kafka has");
    for (uint64_t seq = spool_delivered_seq(&w->spool) + 1; seq <= last && !s->failed; seq++) {
        uint8_t want[SPOOL_RECORD];
        const uint8_t *got;
        size_t length;
        struct sg_fault f = {0};
        if (spool_read(&w->spool, seq, &got, &length, &f))
            sim_fail(s, "batch %" PRIu64 " cannot be read: %s", seq, f.text);
        else if (length != spool_world_batch(w->content[seq], want) || memcmp(got, want, length) != 0)
            sim_fail(s, "batch %" PRIu64 " has other bytes", seq);
    }
    w->appended = w->acked = last;
}

enum sg_error spool_world_open(struct spool_world *w, const struct spool_io *io, struct sg_fault *f)
{
    struct spool_options o = {.directory = "spool",
                              .runner = "r1",
                              .now = {1},
                              .bytes_max = SPOOL_BYTES_MIN,
                              .segment_bytes = w->segment_bytes,
                              .io = io};
    memset(w->state, 0, sizeof w->state);
    enum sg_error e = spool_open(&w->spool, &o, apply, w, f);
    w->spool.bytes_max = w->bytes_max; /* far less than may be configured: so it is reached */
    return e;
}

static bool start(struct spool_world *w)
{
    struct sg_fault f = {0};
    enum sg_error e = spool_world_open(w, &w->io, &f);
    if (!e) expect_recovered(w);
    sim_trace(w->sim, "starts: %s, batch %" PRIu64, e ? f.text : "well", w->acked);
    if (e && !w->disk.dead && (w->sim->quiet || (e != SG_ERR_IO && e != SG_ERR_LIMIT)))
        sim_fail(w->sim, "does not start: %s", f.text);
    return !e;
}

/* One call, or two. */
static enum sg_error act(struct spool_world *w)
{
    struct sim *s = w->sim;
    enum sg_error e = SG_OK;
    switch (sim_draw(s, 8)) {
    case 0: w->full = fault(w, SIM_DISK_FULL); return SG_OK;
    case 1:
        if (w->acked > w->delivered) w->delivered += 1 + sim_draw(s, w->acked - w->delivered);
        return w->delivered > spool_delivered_seq(&w->spool) ? spool_delivered(&w->spool, w->delivered, NULL) : SG_OK;
    case 2: return spool_save_cursor(&w->spool, NULL);
    case 3:
    case 4:
        e = spool_sync(&w->spool, NULL);
        if (!e) w->acked = spool_durable_seq(&w->spool);
        return e;
    default:
        if (spool_wants_roll(&w->spool)) e = roll(w);
        if (!e && spool_last_seq(&w->spool) < SPOOL_SEQ_MAX) e = append(w);
        return e == SG_ERR_LIMIT ? SG_OK : e;
    }
}

/* Beside what is reserved for the largest record: the disk shows less of it, and here one takes less than SPOOL_RECORD.
 */
static void check_size(struct spool_world *w)
{
    uint64_t bytes = disk_bytes(&w->disk, ".seg");
    w->sim->checks++;
    if (bytes > w->bytes_max - SPOOL_BATCH_RECORD_BYTES_MAX + SPOOL_RECORD + ZEROS_SHOWN)
        sim_fail(w->sim, "the spool takes %" PRIu64 " bytes, which is more than it may", bytes);
}

static void live(struct spool_world *w)
{
    w->full = false;
    if (!start(w)) return;
    for (uint64_t calls = 1 + sim_draw(w->sim, SPOOL_CALLS); calls && !w->sim->failed; calls--) {
        if (act(w)) break;
        check_size(w);
        if (spool_durable_seq(&w->spool) > w->acked) w->acked = spool_durable_seq(&w->spool); /* a roll syncs too */
    }
    spool_close(&w->spool);
}

static void step(struct spool_world *w)
{
    w->sim->now += SECOND_MS;
    if (fault(w, SIM_COLLECTOR_KILLED)) w->disk.dies_at = w->disk.calls + 1 + sim_draw(w->sim, 2 * SPOOL_CALLS);
    live(w);
    if (fault(w, SIM_POWER_CUT))
        disk_cut_power(&w->disk);
    else
        disk_restart(&w->disk);
    if (!w->sim->failed && fault(w, SIM_SPOOL_DAMAGED)) spool_world_damage(w);
}

bool spool_schedule(struct sim *s)
{
    struct spool_world *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->sim = s;
    w->io = disk_io(&w->disk);
    w->disk.happens = disk_happens;
    w->disk.arg = w;
    w->disk.reserve_shown = ZEROS_SHOWN;
    w->segment_bytes = 1000 + sim_draw(s, 8000);
    w->bytes_max = SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + sizeof w->state + SPOOL_BATCH_RECORD_BYTES_MAX +
                   (2 + sim_draw(s, 8)) * w->segment_bytes;
    for (int i = 0; i < SPOOL_LIVES && sim_goes_on(s); i++) step(w);
    s->quiet = true;
    if (!s->failed) step(w);
    disk_destroy(&w->disk);
    disk_destroy(&w->copy);
    free(w);
    return !s->failed;
}
