/* Opening the spool: lock, cursors, segments, recovery. What is valid stands at the top of spool.c. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/spool_internal.h"
#include "proto/batch.h"

enum { CHUNK_BYTES = 64 << 10 };

/* ---- the directory ---- */

static enum sg_error take_lock(struct spool *s, struct sg_fault *f)
{
    s->lock_fd = s->io->open(s->io->arg, s->directory_fd, "lock", O_RDWR | O_CREAT);
    if (s->lock_fd < 0) return sg_fail(f, SG_ERR_IO, "%s/lock: open: %s", s->directory, strerrordesc_np(errno));
    if (s->io->lock(s->io->arg, s->lock_fd) == 0) return SG_OK;
    if (errno == EWOULDBLOCK) return sg_fail(f, SG_ERR_LOCKED, "%s: another collector uses this spool", s->directory);
    return sg_fail(f, SG_ERR_IO, "%s/lock: flock: %s", s->directory, strerrordesc_np(errno));
}

static int by_first_seq(const void *a, const void *b)
{
    uint64_t x = ((const struct spool_segment *)a)->first_seq, y = ((const struct spool_segment *)b)->first_seq;
    return x < y ? -1 : x > y;
}

static bool is_temporary(const char *name)
{
    size_t length = strlen(name);
    return length > 8 && strcmp(name + length - 8, ".seg.tmp") == 0;
}

struct listing {
    struct spool *s;
    struct sg_fault *f;
    enum sg_error e;
};

static bool take_name(void *taker, const char *name)
{
    struct listing *l = taker;
    struct spool *s = l->s;
    uint64_t first_seq;
    if (is_temporary(name)) {
        if (s->io->unlink(s->io->arg, s->directory_fd, name))
            l->e = sg_fail(l->f, SG_ERR_IO, "%s: unlink of a temporary file: %s", s->directory, strerrordesc_np(errno));
    } else if (spool_name_parse(name, &first_seq)) {
        if (s->segment_count == SPOOL_SEGMENTS_MAX)
            l->e = sg_fail(l->f, SG_ERR_LIMIT, "%s: more than %d segments", s->directory, SPOOL_SEGMENTS_MAX);
        else
            s->segment[s->segment_count++] = (struct spool_segment){.first_seq = first_seq};
    }
    return !l->e;
}

/* Lists the segments, oldest first; deletes temporary files. */
static enum sg_error list_segments(struct spool *s, struct sg_fault *f)
{
    struct listing l = {s, f, SG_OK};
    if (s->io->list(s->io->arg, s->directory_fd, take_name, &l) && !l.e)
        return sg_fail(f, SG_ERR_IO, "%s: list: %s", s->directory, strerrordesc_np(errno));
    qsort(s->segment, s->segment_count, sizeof *s->segment, by_first_seq);
    return l.e;
}

/* The last program may have ended between a change of the directory and its sync: what is seen may not be durable yet.
 */
static enum sg_error settle_names(struct spool *s, struct sg_fault *f)
{
    if (s->io->fsync(s->io->arg, s->directory_fd) == 0) return SG_OK;
    return sg_fail(f, SG_ERR_IO, "%s: fsync: %s", s->directory, strerrordesc_np(errno));
}

/* Opens both cursor files, reserves their bytes and takes the newer valid one, if any. */
static enum sg_error load_cursors(struct spool *s, struct sg_fault *f)
{
    for (int i = 0; i < 2; i++) {
        char name[] = {'c', 'u', 'r', 's', 'o', 'r', '.', (char)('0' + i), '\0'};
        int fd = s->cursor_fd[i] = s->io->open(s->io->arg, s->directory_fd, name, O_RDWR | O_CREAT);
        if (fd < 0) return sg_fail(f, SG_ERR_IO, "%s/%s: open: %s", s->directory, name, strerrordesc_np(errno));
        int error = s->io->fallocate(s->io->arg, fd, 0, SPOOL_CURSOR_BYTES);
        if (error)
            return sg_fail(f, error == ENOSPC ? SG_ERR_LIMIT : SG_ERR_IO, "%s/%s: reserve: %s", s->directory, name,
                           strerrordesc_np(error));
        uint8_t bytes[SPOOL_CURSOR_BYTES];
        struct spool_cursor c;
        enum sg_error e = spool_pread_exact(s->io, fd, name, bytes, sizeof bytes, 0, f);
        if (e) return e;
        e = spool_cursor_decode(bytes, sizeof bytes, &c, f);
        if (e == SG_ERR_VERSION) return sg_wrap(f, "%s/%s", s->directory, name);
        if (!e && c.generation > s->cursor.generation) s->cursor = c;
    }
    if (f) *f = (struct sg_fault){0}; /* an invalid cursor is no fault */
    return SG_OK;
}

/* ---- segments ---- */

/* Checks the header of segment i; the first one's epoch is taken over. Gives its descriptor. */
static enum sg_error open_segment(struct spool *s, size_t i, const char *name, int *out, struct sg_fault *f)
{
    int fd = s->io->open(s->io->arg, s->directory_fd, name, O_RDWR);
    if (fd < 0) return sg_fail(f, SG_ERR_IO, "%s: open: %s", name, strerrordesc_np(errno));
    uint8_t bytes[SPOOL_HEADER_BYTES];
    struct spool_header h;
    enum sg_error e = spool_pread_exact(s->io, fd, name, bytes, sizeof bytes, 0, f);
    if (!e) {
        e = spool_header_decode(bytes, sizeof bytes, &h, f);
        if (e) (void)!sg_wrap(f, "%s offset 0", name);
    }
    if (!e && s->io->size(s->io->arg, fd, &s->segment[i].bytes))
        e = sg_fail(f, SG_ERR_IO, "%s: stat: %s", name, strerrordesc_np(errno));
    if (!e && i == 0) {
        s->epoch = h.epoch;
        s->last_seq = h.first_seq - 1;
    }
    if (!e && strcmp(h.runner.s, s->runner.s) != 0)
        e = sg_fail(f, SG_ERR_CONFIG, "%s: the spool belongs to another runner", s->directory);
    if (!e && (h.first_seq != s->segment[i].first_seq || h.epoch != s->epoch))
        e = sg_fail(f, SG_ERR_CORRUPT, "%s offset 0: a header of another name or epoch", name);
    if (!e && h.first_seq != s->last_seq + 1)
        e = sg_fail(f, SG_ERR_CORRUPT, "%s: batches from %" PRIu64 " on are missing before it", name, s->last_seq + 1);
    if (e) {
        s->io->close(s->io->arg, fd);
        return e;
    }
    memcpy(s->previous_sha256, h.previous_sha256, sizeof h.previous_sha256);
    *out = fd;
    return SG_OK;
}

/* *end = one past the last byte of [offset, size) that is not zero; offset when there is none. */
static enum sg_error find_end(struct spool *s, int fd, const char *name, uint64_t offset, uint64_t size, uint64_t *end,
                              struct sg_fault *f)
{
    uint8_t chunk[CHUNK_BYTES];
    *end = offset;
    for (uint64_t at = offset; at < size;) {
        size_t n = size - at < sizeof chunk ? (size_t)(size - at) : sizeof chunk;
        enum sg_error e = spool_pread_exact(s->io, fd, name, chunk, n, at, f);
        if (e) return e;
        size_t last = n;
        if (!chunk[0] && !memcmp(chunk, chunk + 1, n - 1)) last = 0; /* mostly zeros: at memcmp's speed */
        while (last && !chunk[last - 1]) last--;
        if (last) *end = at + last;
        at += n;
    }
    return SG_OK;
}

static enum sg_error read_tail(struct spool *s, int fd, const char *name, size_t length, struct sg_fault *f)
{
    enum sg_error e = spool_reserve_buffer(s, length, f);
    return e ? e : spool_pread_exact(s->io, fd, name, s->reader.buffer, length, s->used, f);
}

/* Was what stood at s->used on disk once? Kafka has it, or a record behind it says so. Of the `rest` bytes from there
 * on, those behind `length` are zeros. */
static enum sg_error is_damage(struct spool *s, int fd, const char *name, uint64_t length, uint64_t rest, bool *damage,
                               struct sg_fault *f)
{
    *damage = s->cursor.epoch == s->epoch && s->cursor.delivered_seq > s->last_seq;
    length = rest - length > SPOOL_RECORD_HEADER_BYTES ? length + SPOOL_RECORD_HEADER_BYTES : rest;
    enum sg_error e = read_tail(s, fd, name, (size_t)length, f);
    if (e) return e;
    uint64_t reach = spool_records_reach(s->reader.buffer, (size_t)length);
    if (reach > length) {
        length = reach < rest ? reach : rest;
        e = read_tail(s, fd, name, (size_t)length, f);
        if (e) return e;
    }
    *damage |= spool_proves_damage(s->reader.buffer, (size_t)length, s->epoch, s->last_seq + 1);
    return SG_OK;
}

/* The record at s->used is not valid, why is what f says. OK: it is a torn tail, or zeros, and was removed. */
static enum sg_error judge_tail(struct spool *s, size_t i, int fd, const char *name, struct sg_fault *f)
{
    uint64_t size = s->segment[i].bytes, end;
    struct sg_fault other = {0};
    enum sg_error e = find_end(s, fd, name, s->used, size, &end, &other);
    bool newest = i + 1 == s->segment_count, damage = false;
    if (!e && end > s->used) {
        if (!newest) return SG_ERR_CORRUPT;
        e = is_damage(s, fd, name, end - s->used, size - s->used, &damage, &other);
        if (!e && damage) return SG_ERR_CORRUPT;
    }
    if (e) {
        if (f) *f = other;
        return e;
    }
    /* Sealed: released, if a crash came before the roll could. Newest: cut, so that nothing stale follows a record. */
    if ((!newest || end > s->used) && s->io->ftruncate(s->io->arg, fd, (off_t)s->used))
        return sg_fail(f, SG_ERR_IO, "%s: ftruncate: %s", name, strerrordesc_np(errno));
    if (!newest || end > s->used) s->segment[i].bytes = s->used;
    if (f) *f = (struct sg_fault){0};
    return SG_OK;
}

/* Rule 4 for the record that was just loaded from s->used. */
static bool follows(const struct spool *s, const struct spool_record *r)
{
    if (s->used == SPOOL_HEADER_BYTES) return r->kind == SPOOL_SNAPSHOT && r->seq == s->last_seq;
    return r->kind == SPOOL_BATCH && r->seq == s->last_seq + 1;
}

/* Reads every record of segment i; those of the newest go to apply. */
static enum sg_error scan_segment(struct spool *s, size_t i, int fd, const char *name, spool_apply *apply, void *arg,
                                  struct sg_fault *f)
{
    bool newest = i + 1 == s->segment_count;
    s->used = SPOOL_HEADER_BYTES;
    while (s->used < s->segment[i].bytes) {
        struct spool_record r;
        enum sg_error e = spool_load_record(s, fd, name, s->used, &r, f);
        if (e == SG_ERR_CORRUPT && s->used > SPOOL_HEADER_BYTES) return judge_tail(s, i, fd, name, f);
        if (e) return e;
        if (!follows(s, &r))
            return sg_fail(f, SG_ERR_CORRUPT, "%s offset %" PRIu64 ": a record out of order", name, s->used);
        const uint8_t *body = s->reader.buffer;
        if (newest) {
            e = apply(arg, r.kind, r.seq, body + r.batch_bytes, r.state_bytes, f);
            if (e) return e;
        }
        if (newest && r.kind == SPOOL_BATCH) batch_sha256(body, r.batch_bytes, s->previous_sha256);
        if (r.durable_seq + 1 == r.seq) s->unproven = s->used; /* the first one since a sync */
        s->used += spool_record_bytes(&r);
        s->last_seq = r.seq;
        if (r.kind == SPOOL_SNAPSHOT) s->start = s->unproven = s->used;
    }
    if (s->used == SPOOL_HEADER_BYTES)
        return sg_fail(f, SG_ERR_CORRUPT, "%s offset %" PRIu64 ": the snapshot is missing", name, s->used);
    return SG_OK;
}

/* Writes again what may be seen without being on disk: when a sync has failed, its pages stay to be read and no later
 * sync writes them. */
static enum sg_error rewrite_unproven(struct spool *s, const char *name, struct sg_fault *f)
{
    uint8_t chunk[CHUNK_BYTES];
    for (uint64_t at = s->unproven; at < s->used;) {
        size_t n = s->used - at < sizeof chunk ? (size_t)(s->used - at) : sizeof chunk;
        enum sg_error e = spool_pread_exact(s->io, s->active_fd, name, chunk, n, at, f);
        if (e) return e;
        struct iovec part = {chunk, n};
        int error = spool_write_all(s, s->active_fd, &part, 1, at);
        if (spool_out_of_space(error)) return sg_fail(f, SG_ERR_LIMIT, "%s: the disk is full", s->directory);
        if (error) return spool_die(s, name, "write", error, f);
        at += n;
    }
    return SG_OK;
}

/* Reserves what the active segment may still take, and makes durable what was found in it. */
static enum sg_error revive_active(struct spool *s, const char *name, struct sg_fault *f)
{
    struct spool_segment *active = &s->segment[s->segment_count - 1];
    uint64_t reserve = spool_reservation(s, s->start);
    if (reserve < s->used) reserve = s->used; /* segment_bytes was lowered */
    int error = s->io->fallocate(s->io->arg, s->active_fd, 0, (off_t)reserve);
    if (error == ENOSPC || error == EDQUOT)
        return sg_fail(f, SG_ERR_LIMIT, "%s: no space for the active segment", s->directory);
    if (error) return sg_fail(f, SG_ERR_IO, "%s: reserve: %s", name, strerrordesc_np(error));
    enum sg_error e = rewrite_unproven(s, name, f);
    if (e) return e;
    if (s->io->fsync(s->io->arg, s->active_fd)) return spool_die(s, name, "fsync", errno, f);
    if (active->bytes < reserve) active->bytes = reserve;
    return SG_OK;
}

static enum sg_error recover(struct spool *s, spool_apply *apply, void *arg, struct sg_fault *f)
{
    for (size_t i = 0; i < s->segment_count; i++) {
        char name[SPOOL_NAME_BYTES];
        int fd = -1;
        spool_name(s->segment[i].first_seq, name);
        enum sg_error e = open_segment(s, i, name, &fd, f);
        if (e) return e;
        s->io->sequential(s->io->arg, fd);
        e = scan_segment(s, i, fd, name, apply, arg, f);
        s->active_fd = fd;
        if (e) return e;
        if (i + 1 == s->segment_count)
            e = revive_active(s, name, f);
        else
            s->io->close(s->io->arg, fd), s->active_fd = -1;
        if (e) return e;
        s->segments_bytes += s->segment[i].bytes;
    }
    return SG_OK;
}

/* Rule 4 of the directory, and what it leads to. */
static enum sg_error settle_cursor(struct spool *s, struct sg_fault *f)
{
    if (s->cursor.generation && s->cursor.epoch != s->epoch)
        return sg_fail(f, SG_ERR_CORRUPT, "%s: the cursor is of epoch %" PRIu64 ", the segments of %" PRIu64,
                       s->directory, s->cursor.epoch, s->epoch);
    if (s->cursor.delivered_seq > s->last_seq)
        return sg_fail(f, SG_ERR_CORRUPT, "%s: batch %" PRIu64 " was delivered, but the log ends at %" PRIu64,
                       s->directory, s->cursor.delivered_seq, s->last_seq);
    s->durable_seq = s->last_seq;
    s->delivered_seq = s->segment[0].first_seq - 1;
    s->open = true;
    if (s->cursor.delivered_seq <= s->delivered_seq) return SG_OK;
    return spool_delivered(s, s->cursor.delivered_seq, f);
}

static enum sg_error begin(struct spool *s, struct wall_ms now, spool_apply *apply, void *arg, struct sg_fault *f)
{
    if (s->cursor.generation)
        return sg_fail(f, SG_ERR_CORRUPT, "%s: cursors without segments; to start a new epoch, empty the directory",
                       s->directory);
    s->epoch = (uint64_t)now.v;
    enum sg_error e = spool_create_segment(s, NULL, 0, f);
    if (e) return e;
    s->open = true;
    return apply(arg, SPOOL_SNAPSHOT, 0, NULL, 0, f);
}

/* ---- open and close ---- */

static enum sg_error take_options(struct spool *s, const struct spool_options *o, struct sg_fault *f)
{
    assert(id_valid(o->runner, strlen(o->runner)) && o->now.v > 0);
    s->io = o->io ? o->io : &spool_io_real;
    s->bytes_max = o->bytes_max;
    s->segment_bytes = o->segment_bytes;
    if (!s->segment_bytes) {
        s->segment_bytes = s->bytes_max / 16;
        if (s->segment_bytes > SPOOL_SEGMENT_BYTES_DEFAULT) s->segment_bytes = SPOOL_SEGMENT_BYTES_DEFAULT;
    }
    uint64_t largest = spool_reservation(s, SPOOL_HEADER_BYTES + SPOOL_RECORD_HEADER_BYTES + SPOOL_SNAPSHOT_BYTES_MAX);
    if (s->bytes_max < SPOOL_BYTES_MIN || s->bytes_max / 2 < largest)
        return sg_fail(f, SG_ERR_CONFIG, "the spool's limit of %" PRIu64 " bytes is below %" PRIu64, s->bytes_max,
                       2 * largest > SPOOL_BYTES_MIN ? 2 * largest : (uint64_t)SPOOL_BYTES_MIN);
    if (strlen(o->directory) >= sizeof s->directory) return sg_fail(f, SG_ERR_CONFIG, "the spool's path is too long");
    snprintf(s->directory, sizeof s->directory, "%s", o->directory);
    snprintf(s->runner.s, sizeof s->runner.s, "%s", o->runner);
    return SG_OK;
}

static enum sg_error open_all(struct spool *s, const struct spool_options *o, spool_apply *apply, void *arg,
                              struct sg_fault *f)
{
    enum sg_error e = take_options(s, o, f);
    if (e) return e;
    s->segment = calloc(SPOOL_SEGMENTS_MAX, sizeof *s->segment);
    if (!s->segment) return sg_fail(f, SG_ERR_NOMEM, "no memory for the list of segments");
    s->directory_fd = s->io->open_directory(s->io->arg, s->directory);
    if (s->directory_fd < 0) return sg_fail(f, SG_ERR_IO, "%s: open: %s", s->directory, strerrordesc_np(errno));
    e = take_lock(s, f);
    if (!e) e = list_segments(s, f);
    if (!e) e = settle_names(s, f);
    if (!e) e = load_cursors(s, f);
    if (e) return e;
    if (!s->segment_count) return begin(s, o->now, apply, arg, f);
    e = recover(s, apply, arg, f);
    return e ? e : settle_cursor(s, f);
}

enum sg_error spool_open(struct spool *s, const struct spool_options *o, spool_apply *apply, void *arg,
                         struct sg_fault *f)
{
    *s =
        (struct spool){.directory_fd = -1, .lock_fd = -1, .active_fd = -1, .cursor_fd = {-1, -1}, .reader = {.fd = -1}};
    enum sg_error e = open_all(s, o, apply, arg, f);
    if (e) {
        s->open = true; /* so that close closes */
        spool_close(s);
    }
    return e;
}

void spool_close(struct spool *s)
{
    if (!s->open) return;
    int *fd[] = {&s->directory_fd, &s->lock_fd, &s->active_fd, &s->cursor_fd[0], &s->cursor_fd[1], &s->reader.fd};
    for (size_t i = 0; i < sizeof fd / sizeof *fd; i++)
        if (*fd[i] >= 0) s->io->close(s->io->arg, *fd[i]);
    free(s->segment);
    free(s->reader.buffer);
    *s = (struct spool){0};
}
