/* The collector's durable log.
 *
 * LAYOUT    a directory:
 *
 *     lock                        flock'ed by the collector that owns the spool
 *     00000000000000000001.seg    segments: header, snapshot of the meter, batches 1 ..
 *     00000000000000004711.seg    the newest one is active: records are appended, zeros behind them are reserved space
 *     *.seg.tmp                   a segment whose creation a crash has cut short; deleted at start
 *     cursor.0  cursor.1          how far Kafka has it, written alternately: generation g goes to cursor.(g mod 2)
 *
 *   The bytes are proto/spool_format.h. The directory is valid if and only if
 *     1. every segment's header is valid and names the file's first seq, one runner and one epoch;
 *     2. its first record is a valid snapshot; every record behind it is a valid batch, numbered on without a hole, up
 *        to the next segment's first seq; behind the last record of a segment there are only zeros;
 *     3. in the newest segment alone the records may end in a torn tail: bytes that are no valid record, behind which
 *        no record stands that was written when the missing one was already durable, and which Kafka does not have;
 *     4. a valid cursor has the segments' epoch and a number that the log reaches. Of two valid ones the higher
 *        generation counts; an invalid one is ignored.
 *
 * HAPPY PATH  append is one pwritev into reserved space, sync one fdatasync. A full segment asks for a roll: the next
 *   one is written under a temporary name with header and snapshot, fsync'ed, renamed, the directory fsync'ed; only
 * then the old one is cut to its length and closed. Segments whose batches Kafka has are unlinked, oldest first, the
 *   directory fsync'ed after each, so that a crash cannot bring back one without those behind it.
 *
 * FAILURES
 *   crash anywhere     spool_open recovers: newest snapshot, then the batches behind it; the torn tail is cut off
 *                      (ftruncate, so that nothing stale can follow a shorter record) and space reserved again
 *   end without crash  what the next program sees may not be durable: names since the directory's last fsync, and after
 *                      a failed fsync pages that no later one writes. So spool_open syncs the directory, and writes
 *                      again the records that no later one says to be durable, before anything is built upon them
 *   damage             (not a torn tail) CORRUPT with file and offset, at start or when the shipper reads: the
 *                      collector stops
 *   write, fsync       IO; final: what is on disk is unknown, so nothing more is said about it
 *   no space           LIMIT, before anything was accepted: space for a whole segment is reserved when it is made
 *   cursor lost, old   batches are sent again, which the aggregator skips; never the other way round: a cursor beyond
 *                      the log's end is CORRUPT, for numbers that Kafka has would be given out twice
 *   spool lost         a new epoch
 *
 * INVARIANTS  delivered <= durable <= last. A batch is acknowledged, or read for shipping, only at or below durable. A
 *   segment is unlinked only when wholly delivered, and never the newest. A .seg name implies that header and snapshot
 *   are durable. */
#include "collector/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/spool_internal.h"
#include "proto/batch.h"

enum { TEMPORARY_NAME_BYTES = SPOOL_NAME_BYTES + 4 };

_Static_assert((int)SPOOL_SHA256_BYTES == (int)SHA256_BYTES, "one digest");

enum sg_error spool_die(struct spool *s, const char *name, const char *what, int error, struct sg_fault *f)
{
    s->dead = true;
    return sg_fail(f, SG_ERR_IO, "%s/%s: %s: %s", s->directory, name, what, strerrordesc_np(error));
}

static const struct spool_segment *active(const struct spool *s)
{
    return &s->segment[s->segment_count - 1];
}

/* The same of a segment that was opened before. */
static enum sg_error segment_died(struct spool *s, const struct spool_segment *segment, const char *what, int error,
                                  struct sg_fault *f)
{
    char name[SPOOL_NAME_BYTES];
    spool_name(segment->first_seq, name);
    return spool_die(s, name, what, error, f);
}

static enum sg_error refuse_dead(struct sg_fault *f)
{
    return sg_fail(f, SG_ERR_IO, "the spool has failed before");
}

bool spool_out_of_space(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

int spool_write_all(struct spool *s, int fd, struct iovec *part, int count, uint64_t offset)
{
    while (count) {
        ssize_t n = s->io->pwritev(s->io->arg, fd, part, count, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return EIO;
        offset += (uint64_t)n;
        for (; count && (size_t)n >= part->iov_len; part++, count--) n -= (ssize_t)part->iov_len;
        if (!count) break;
        part->iov_base = (uint8_t *)part->iov_base + n;
        part->iov_len -= (size_t)n;
    }
    return 0;
}

/* iovec takes no const; pwritev only reads. */
static struct iovec part_of(const uint8_t *bytes, size_t length)
{
    union {
        const uint8_t *in;
        void *out;
    } u = {.in = bytes};
    return (struct iovec){.iov_base = u.out, .iov_len = length};
}

uint64_t spool_reservation(const struct spool *s, uint64_t start)
{
    return start + s->segment_bytes + SPOOL_BATCH_RECORD_BYTES_MAX;
}

/* ---- segments ---- */

/* Header and snapshot of the next segment into fd, durably. LIMIT: no space. Anything else: dead. */
static enum sg_error fill_segment(struct spool *s, int fd, const char *name, const uint8_t *snapshot, size_t length,
                                  struct sg_fault *f)
{
    struct spool_header h = {.epoch = s->epoch, .first_seq = s->last_seq + 1, .runner = s->runner};
    memcpy(h.previous_sha256, s->previous_sha256, sizeof h.previous_sha256);
    uint8_t head[SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES];
    spool_header_encode(&h, head);
    struct spool_record r = {
        .kind = SPOOL_SNAPSHOT, .state_bytes = (uint32_t)length, .seq = s->last_seq, .durable_seq = s->last_seq};
    spool_record_encode(&r, s->epoch, NULL, snapshot, head + SPOOL_HEADER_BYTES);

    int error = s->io->fallocate(s->io->arg, fd, 0, (off_t)spool_reservation(s, sizeof head + length));
    if (!error) {
        struct iovec part[] = {part_of(head, sizeof head), part_of(snapshot, length)};
        error = spool_write_all(s, fd, part, length ? 2 : 1, 0);
    }
    if (spool_out_of_space(error)) return sg_fail(f, SG_ERR_LIMIT, "%s: no space for a segment", s->directory);
    if (error) return spool_die(s, name, "write", error, f);
    if (s->io->fsync(s->io->arg, fd)) return spool_die(s, name, "fsync", errno, f);
    return SG_OK;
}

enum sg_error spool_create_segment(struct spool *s, const uint8_t *snapshot, size_t length, struct sg_fault *f)
{
    char name[SPOOL_NAME_BYTES], temporary[TEMPORARY_NAME_BYTES];
    spool_name(s->last_seq + 1, name);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    int fd = s->io->open(s->io->arg, s->directory_fd, temporary, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0 && spool_out_of_space(errno))
        return sg_fail(f, SG_ERR_LIMIT, "%s: no space for a segment", s->directory);
    if (fd < 0) return spool_die(s, temporary, "open", errno, f);

    enum sg_error e = fill_segment(s, fd, temporary, snapshot, length, f);
    if (e) {
        s->io->close(s->io->arg, fd);
        if (s->io->unlink(s->io->arg, s->directory_fd, temporary)) s->dead = true;
        return e;
    }
    if (s->io->rename(s->io->arg, s->directory_fd, temporary, name)) {
        e = spool_die(s, name, "rename", errno, f);
    } else if (s->io->fsync(s->io->arg, s->directory_fd)) {
        e = spool_die(s, name, "fsync of the directory", errno, f);
    }
    if (e) {
        s->io->close(s->io->arg, fd);
        return e;
    }
    if (s->active_fd >= 0) s->io->close(s->io->arg, s->active_fd);
    s->active_fd = fd;
    s->start = s->used = SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + length;
    s->segment[s->segment_count++] =
        (struct spool_segment){.first_seq = s->last_seq + 1, .bytes = spool_reservation(s, s->start)};
    s->segments_bytes += spool_reservation(s, s->start);
    return SG_OK;
}

bool spool_wants_roll(const struct spool *s)
{
    return s->used - s->start >= s->segment_bytes;
}

enum sg_error spool_roll(struct spool *s, const uint8_t *snapshot, size_t length, struct sg_fault *f)
{
    assert(s->open && length <= SPOOL_SNAPSHOT_BYTES_MAX);
    if (s->dead) return refuse_dead(f);
    struct spool_segment *old = &s->segment[s->segment_count - 1];
    if (old->first_seq > s->last_seq) return sg_fail(f, SG_ERR_STATE, "the active segment holds no batch yet");
    enum sg_error e = spool_sync(s, f);
    if (e) return e;

    uint64_t released = old->bytes - s->used;
    uint64_t reserve = spool_reservation(s, SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + length);
    if (s->segments_bytes - released + reserve > s->bytes_max || s->segment_count == SPOOL_SEGMENTS_MAX)
        return sg_fail(f, SG_ERR_LIMIT, "%s: the spool is full: %" PRIu64 " of %" PRIu64 " bytes", s->directory,
                       s->segments_bytes, s->bytes_max);
    /* The old segment is cut only when the new one stands; its descriptor must outlive its successor's creation. */
    int old_fd = s->active_fd;
    uint64_t old_used = s->used;
    s->active_fd = -1;
    e = spool_create_segment(s, snapshot, length, f);
    if (e) {
        s->active_fd = old_fd;
        return e;
    }
    if (s->io->ftruncate(s->io->arg, old_fd, (off_t)old_used)) {
        e = segment_died(s, old, "ftruncate", errno, f);
    } else {
        old->bytes = old_used;
        s->segments_bytes -= released;
    }
    s->io->close(s->io->arg, old_fd);
    return e;
}

enum sg_error spool_drop_oldest(struct spool *s, struct sg_fault *f)
{
    assert(s->segment_count > 1);
    char name[SPOOL_NAME_BYTES];
    spool_name(s->segment[0].first_seq, name);
    if (s->io->unlink(s->io->arg, s->directory_fd, name)) return spool_die(s, name, "unlink", errno, f);
    if (s->io->fsync(s->io->arg, s->directory_fd)) return spool_die(s, name, "fsync of the directory", errno, f);
    if (s->reader.fd >= 0 && s->reader.first_seq == s->segment[0].first_seq) {
        s->io->close(s->io->arg, s->reader.fd);
        s->reader.fd = -1;
    }
    s->segments_bytes -= s->segment[0].bytes;
    s->segment_count--;
    memmove(s->segment, s->segment + 1, s->segment_count * sizeof *s->segment);
    return SG_OK;
}

/* ---- appending ---- */

enum sg_error spool_append(struct spool *s, const uint8_t *batch, size_t batch_bytes, const uint8_t *state,
                           size_t state_bytes, struct sg_fault *f)
{
    assert(s->open && batch_bytes >= 1 && batch_bytes <= BATCH_BYTES_MAX && state_bytes <= SPOOL_DELTA_BYTES_MAX);
    if (s->dead) return refuse_dead(f);
    if (spool_wants_roll(s)) return sg_fail(f, SG_ERR_LIMIT, "%s: the segment is full", s->directory);

    struct spool_record r = {.kind = SPOOL_BATCH,
                             .batch_bytes = (uint32_t)batch_bytes,
                             .state_bytes = (uint32_t)state_bytes,
                             .seq = s->last_seq + 1,
                             .durable_seq = s->durable_seq};
    uint8_t head[SPOOL_RECORD_HEADER_BYTES];
    spool_record_encode(&r, s->epoch, batch, state, head);
    struct iovec part[] = {part_of(head, sizeof head), part_of(batch, batch_bytes), part_of(state, state_bytes)};
    int error = spool_write_all(s, s->active_fd, part, state_bytes ? 3 : 2, s->used);
    if (spool_out_of_space(error)) return sg_fail(f, SG_ERR_LIMIT, "%s: the disk is full", s->directory);
    if (error) return segment_died(s, active(s), "write", error, f);
    s->used += spool_record_bytes(&r);
    s->last_seq++;
    s->unsynced = true;
    batch_sha256(batch, batch_bytes, s->previous_sha256);
    return SG_OK;
}

enum sg_error spool_sync(struct spool *s, struct sg_fault *f)
{
    assert(s->open);
    if (s->dead) return refuse_dead(f);
    if (!s->unsynced) return SG_OK;
    if (s->io->fdatasync(s->io->arg, s->active_fd)) return segment_died(s, active(s), "fdatasync", errno, f);
    s->unsynced = false;
    s->durable_seq = s->last_seq;
    return SG_OK;
}

/* ---- what Kafka has ---- */

enum sg_error spool_delivered(struct spool *s, uint64_t seq, struct sg_fault *f)
{
    assert(s->open && seq >= s->delivered_seq && seq <= s->durable_seq);
    if (s->dead) return refuse_dead(f);
    s->delivered_seq = seq;
    while (s->segment_count > 1 && s->segment[1].first_seq - 1 <= seq) {
        enum sg_error e = spool_drop_oldest(s, f);
        if (e) return e;
    }
    return SG_OK;
}

enum sg_error spool_save_cursor(struct spool *s, struct sg_fault *f)
{
    assert(s->open);
    if (s->dead) return refuse_dead(f);
    if (spool_cursor_saved(s)) return SG_OK;
    struct spool_cursor c = {
        .generation = s->cursor.generation + 1, .epoch = s->epoch, .delivered_seq = s->delivered_seq};
    uint8_t bytes[SPOOL_CURSOR_BYTES];
    spool_cursor_encode(&c, bytes);
    int fd = s->cursor_fd[c.generation & 1];
    struct iovec part[] = {part_of(bytes, sizeof bytes)};
    int error = spool_write_all(s, fd, part, 1, 0);
    const char *name = c.generation & 1 ? "cursor.1" : "cursor.0";
    if (error) return spool_die(s, name, "write", error, f);
    if (s->io->fdatasync(s->io->arg, fd)) return spool_die(s, name, "fdatasync", errno, f);
    s->cursor = c;
    return SG_OK;
}

/* ---- what it says of itself ---- */

uint64_t spool_epoch(const struct spool *s)
{
    return s->epoch;
}

uint64_t spool_last_seq(const struct spool *s)
{
    return s->last_seq;
}

uint64_t spool_durable_seq(const struct spool *s)
{
    return s->durable_seq;
}

uint64_t spool_delivered_seq(const struct spool *s)
{
    return s->delivered_seq;
}

const uint8_t *spool_previous_sha256(const struct spool *s)
{
    return s->previous_sha256;
}

bool spool_cursor_saved(const struct spool *s)
{
    return s->cursor.delivered_seq == s->delivered_seq;
}

uint64_t spool_bytes(const struct spool *s)
{
    return s->segments_bytes;
}
