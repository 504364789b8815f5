/* Damage to a spool that was whole: a page that rots, a file that is lost. A start on it, or the shipper's reading,
 * must stop and name the file and the record, wherever a torn write cannot be the cause; where it can, the tail is cut
 * there and nowhere else. What can be proved is arithmetic of this file: of the batches' lengths, and of what was on
 * disk when each was appended. All of it on a copy: the schedule goes on with what was whole. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/spool_world.h"

enum { NOISE = 0xA5, LENGTH_MOST = 600 }; /* more than a sector */

enum damage_kind { OF_A_RECORD, OF_THE_HEAD, OF_CURSORS, SEGMENT_LOST, WHILE_RUNNING, DAMAGE_KINDS };

/* A segment, and what the damage to it must lead to. */
struct damage {
    struct spool_world *w;
    size_t segment; /* by its place in the list */
    uint64_t first_seq, last_seq;
    bool newest;
    uint64_t position; /* as the cursors have it */
    uint64_t at;       /* of the first byte */
    size_t length;
    enum sg_error error; /* that a start must say; OK: it goes on, and `last` is its last batch */
    char where[64];      /* in its text */
    uint64_t last;
};

/* ---- where things are ---- */

static uint64_t record_bytes(const struct spool_world *w, uint64_t seq)
{
    uint8_t batch[SPOOL_RECORD];
    return SPOOL_RECORD_HEADER_BYTES + spool_world_batch(w->content[seq], batch) + sizeof w->state;
}

/* The state that a new spool begins with is empty. */
static uint64_t head_bytes(const struct damage *d)
{
    return SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + (d->first_seq > 1 ? sizeof d->w->state : 0);
}

static uint64_t offset_of(const struct damage *d, uint64_t seq)
{
    uint64_t at = head_bytes(d);
    for (uint64_t i = d->first_seq; i < seq; i++) at += record_bytes(d->w, i);
    return at;
}

/* Some segment of the open spool. */
static void choose_segment(struct damage *d)
{
    const struct spool *s = &d->w->spool;
    d->position = s->cursor.delivered_seq;
    d->segment = sim_draw(d->w->sim, s->segment_count);
    d->newest = d->segment + 1 == s->segment_count;
    d->first_seq = s->segment[d->segment].first_seq;
    d->last_seq = d->newest ? spool_last_seq(s) : s->segment[d->segment + 1].first_seq - 1;
}

static void name(struct damage *d, uint64_t first_seq, const char *what, uint64_t offset)
{
    char file[SPOOL_NAME_BYTES];
    spool_name(first_seq, file);
    snprintf(d->where, sizeof d->where, "%s%s%" PRIu64 ": ", file, what, offset);
}

/* ---- what is damaged ---- */

/* A record behind the damage that is whole says that the damaged one was on disk, or the position that Kafka has it. */
static bool is_proved(const struct damage *d, uint64_t seq)
{
    bool proved = !d->newest || seq <= d->position;
    for (uint64_t i = seq + 1; i <= d->last_seq && !proved; i++)
        proved = offset_of(d, i) >= d->at + d->length && d->w->durable_before[i] >= seq;
    return proved;
}

/* From somewhere in a record on; false: the segment has none. */
static bool damage_record(struct damage *d, uint64_t first)
{
    struct sim *s = d->w->sim;
    if (first > d->last_seq) return false;
    uint64_t seq = first + sim_draw(s, d->last_seq - first + 1), end = offset_of(d, d->last_seq + 1);
    d->at = offset_of(d, seq) + sim_draw(s, record_bytes(d->w, seq));
    d->length = 1 + sim_draw(s, sim_draw(s, 2) ? LENGTH_MOST : 1);
    if (d->length > end - d->at) d->length = (size_t)(end - d->at);
    d->last = seq - 1;
    if (is_proved(d, seq)) d->error = SG_ERR_CORRUPT;
    name(d, d->first_seq, " offset ", offset_of(d, seq));
    return true;
}

/* The segment's header, or the snapshot behind it. */
static void damage_head(struct damage *d)
{
    enum { VERSION_AT = 8, VERSION_END = 12 };
    d->at = sim_draw(d->w->sim, head_bytes(d));
    d->length = 1;
    d->error = d->at >= VERSION_AT && d->at < VERSION_END ? SG_ERR_VERSION : SG_ERR_CORRUPT;
    name(d, d->first_seq, " offset ", d->at < SPOOL_HEADER_BYTES ? 0 : SPOOL_HEADER_BYTES);
}

/* One in the middle: of the first and the last nothing on this disk says that they ever were. */
static bool lose_segment(struct damage *d)
{
    const struct spool *s = &d->w->spool;
    char file[SPOOL_NAME_BYTES];
    if (d->segment == 0 || d->newest) return false;
    spool_name(d->first_seq, file);
    disk_lose(&d->w->copy, file);
    d->error = SG_ERR_CORRUPT;
    spool_name(s->segment[d->segment + 1].first_seq, file);
    snprintf(d->where, sizeof d->where, "%s: batches from %" PRIu64 " on are missing", file, d->first_seq);
    return true;
}

/* Without its position the spool is sent again from its first batch. */
static void damage_cursors(struct damage *d)
{
    enum { NUMBERS_AT = 16 }; /* what stands before them says that it is a cursor */
    for (int i = 0; i < 2; i++) {
        uint64_t at = NUMBERS_AT + sim_draw(d->w->sim, SPOOL_CURSOR_BYTES - NUMBERS_AT);
        disk_damage(&d->w->copy, i ? "cursor.1" : "cursor.0", at, 1, NOISE);
    }
}

static void damage_segment(struct damage *d)
{
    char file[SPOOL_NAME_BYTES];
    spool_name(d->first_seq, file);
    disk_damage(&d->w->copy, file, d->at, d->length, NOISE);
}

/* ---- what must be said ---- */

static void expect_start(struct damage *d, const struct spool_io *io, bool cursors)
{
    struct sim *s = d->w->sim;
    struct spool *spool = &d->w->spool;
    struct sg_fault f = {0};
    enum sg_error e = spool_world_open(d->w, io, &f);
    s->checks++;
    if (e != d->error)
        sim_fail(s, "damage at %s%s", d->where, e ? f.text : "and it starts");
    else if (e && strncmp(f.text, d->where, strlen(d->where)) != 0)
        sim_fail(s, "damage at %sis told as: %s", d->where, f.text);
    else if (!e && spool_last_seq(spool) != d->last)
        sim_fail(s, "damage at %s%" PRIu64 " is the last batch", d->where, spool_last_seq(spool));
    else if (!e && cursors && spool_delivered_seq(spool) != spool->segment[0].first_seq - 1)
        sim_fail(s, "without cursors the position is %" PRIu64, spool_delivered_seq(spool));
    spool_close(spool);
}

/* The spool is open; what stands before the damage is read as it was. */
static void expect_read(struct damage *d, uint64_t from)
{
    struct sim *s = d->w->sim;
    struct sg_fault f = {0};
    uint8_t want[SPOOL_RECORD];
    const uint8_t *got;
    size_t length;
    for (uint64_t seq = from; seq <= d->last && !s->failed; seq++)
        if (spool_read(&d->w->spool, seq, &got, &length, &f) || length != spool_world_batch(d->w->content[seq], want) ||
            memcmp(got, want, length) != 0)
            sim_fail(s, "batch %" PRIu64 " is not read as it was before damage at %s", seq, d->where);
    if (s->failed) return;
    enum sg_error e = spool_read(&d->w->spool, d->last + 1, &got, &length, &f);
    s->checks++;
    if (e != SG_ERR_CORRUPT || strncmp(f.text, d->where, strlen(d->where)) != 0)
        sim_fail(s, "damage at %sis read: %s", d->where, e ? f.text : "as if there were none");
}

/* ---- one of a kind ---- */

static void damage_and_start(struct damage *d, enum damage_kind kind, const struct spool_io *io)
{
    bool done = true;
    d->last = spool_last_seq(&d->w->spool);
    choose_segment(d);
    if (kind == OF_A_RECORD) done = damage_record(d, d->first_seq);
    if (kind == OF_THE_HEAD) damage_head(d);
    if (kind == OF_CURSORS) damage_cursors(d);
    if (kind == SEGMENT_LOST) done = lose_segment(d);
    spool_close(&d->w->spool);
    if (!done) return;
    if (kind == OF_A_RECORD || kind == OF_THE_HEAD) damage_segment(d);
    expect_start(d, io, kind == OF_CURSORS);
}

static void damage_and_read(struct damage *d)
{
    uint64_t from = spool_delivered_seq(&d->w->spool) + 1;
    choose_segment(d);
    if (damage_record(d, d->first_seq > from ? d->first_seq : from)) {
        damage_segment(d);
        expect_read(d, from);
    }
    spool_close(&d->w->spool);
}

void spool_world_damage(struct spool_world *w)
{
    struct damage d = {.w = w};
    struct sg_fault f = {0};
    struct spool_io io = disk_io(&w->copy);
    enum damage_kind kind = (enum damage_kind)sim_draw(w->sim, DAMAGE_KINDS);
    disk_copy(&w->copy, &w->disk);
    if (spool_world_open(w, &io, &f)) {
        sim_fail(w->sim, "does not start on a copy: %s", f.text);
        return;
    }
    if (kind == WHILE_RUNNING)
        damage_and_read(&d);
    else
        damage_and_start(&d, kind, &io);
}
