/* See spool_iter.h. The rules are those of spool.c's file-top comment. */
#include "collector/spool_iter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENTS_MAX = 1 << 16, CHUNK_BYTES = 64 << 10 };

/* ---- opening ---- */

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static enum sg_error list(struct spool_iter *it, struct sg_fault *f)
{
    int fd = dup(it->directory_fd);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0) close(fd);
        return sg_fail(f, SG_ERR_IO, "list: %s", strerrordesc_np(errno));
    }
    size_t room = 0;
    enum sg_error e = SG_OK;
    for (struct dirent *d; !e && (d = readdir(dir));) {
        uint64_t first_seq;
        if (!spool_name_parse(d->d_name, &first_seq)) continue;
        if (it->count == room) {
            room = room ? 2 * room : 64;
            uint64_t *more = room <= SEGMENTS_MAX ? reallocarray(it->first_seq, room, sizeof *more) : NULL;
            if (!more) {
                e = sg_fail(f, SG_ERR_NOMEM, "no memory for the list of segments");
                break;
            }
            it->first_seq = more;
        }
        it->first_seq[it->count++] = first_seq;
    }
    closedir(dir);
    if (it->count) qsort(it->first_seq, it->count, sizeof *it->first_seq, ascending);
    return e;
}

/* path names one segment: its directory is opened, the list holds it alone. */
static enum sg_error open_file(struct spool_iter *it, const char *path, struct sg_fault *f)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    uint64_t first_seq;
    if (!spool_name_parse(name, &first_seq)) return sg_fail(f, SG_ERR_NOT_FOUND, "not a segment's name");
    char *parent = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    it->first_seq = malloc(sizeof *it->first_seq);
    if (parent) it->directory_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (!it->first_seq || !parent) return sg_fail(f, SG_ERR_NOMEM, "no memory for the list of segments");
    if (it->directory_fd < 0) return sg_fail(f, SG_ERR_IO, "open: %s", strerrordesc_np(errno));
    it->first_seq[it->count++] = first_seq;
    return SG_OK;
}

enum sg_error spool_iter_open(struct spool_iter *it, const char *path, struct sg_fault *f)
{
    *it = (struct spool_iter){.directory_fd = -1, .fd = -1, .open = true};
    struct stat st;
    enum sg_error e;
    if (stat(path, &st)) {
        e = sg_fail(f, errno == ENOENT ? SG_ERR_NOT_FOUND : SG_ERR_IO, "open: %s", strerrordesc_np(errno));
    } else if (S_ISDIR(st.st_mode)) {
        it->cursor_error =
            spool_iter_cursor(path, &it->cursor, &it->cursor_fault); /* before the list, which may grow */
        if (it->cursor_error) it->cursor = (struct spool_cursor){0};
        it->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        e = it->directory_fd < 0 ? sg_fail(f, SG_ERR_IO, "open: %s", strerrordesc_np(errno)) : list(it, f);
        if (!e && !it->count) e = sg_fail(f, SG_ERR_NOT_FOUND, "no segment in the directory");
    } else {
        e = open_file(it, path, f);
    }
    if (e) spool_iter_close(it);
    return e;
}

void spool_iter_close(struct spool_iter *it)
{
    if (!it->open) return;
    if (it->directory_fd >= 0) close(it->directory_fd);
    if (it->fd >= 0) close(it->fd);
    free(it->first_seq);
    free(it->buffer);
    *it = (struct spool_iter){0};
}

/* ---- reading ---- */

/* Up to length bytes; *got says how many. */
static enum sg_error read_at(int fd, uint8_t *bytes, size_t length, uint64_t offset, size_t *got, struct sg_fault *f)
{
    for (*got = 0; *got < length;) {
        ssize_t n = pread(fd, bytes + *got, length - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return sg_fail(f, SG_ERR_IO, "read: %s", strerrordesc_np(errno));
        if (n == 0) break;
        *got += (size_t)n;
    }
    return SG_OK;
}

static enum sg_error grow(struct spool_iter *it, size_t length, struct sg_fault *f)
{
    if (length <= it->buffer_bytes) return SG_OK;
    free(it->buffer);
    it->buffer = malloc(length);
    it->buffer_bytes = it->buffer ? length : 0;
    return it->buffer ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for %zu bytes", length);
}

static void leave(struct spool_iter *it)
{
    if (it->fd >= 0) close(it->fd);
    it->fd = -1;
    it->entered = false;
    it->index++;
}

/* Opens the current segment and checks its header. */
static enum sg_error enter(struct spool_iter *it, struct sg_fault *f)
{
    spool_name(it->first_seq[it->index], it->file);
    struct stat st;
    it->offset = 0;
    it->fd = openat(it->directory_fd, it->file, O_RDONLY | O_CLOEXEC);
    if (it->fd < 0 && errno == ENOENT) return SG_ERR_NOT_FOUND; /* delivered meanwhile */
    if (it->fd < 0 || fstat(it->fd, &st)) return sg_fail(f, SG_ERR_IO, "open: %s", strerrordesc_np(errno));
    uint8_t bytes[SPOOL_HEADER_BYTES];
    size_t got;
    enum sg_error e = read_at(it->fd, bytes, sizeof bytes, 0, &got, f);
    if (!e) e = spool_header_decode(bytes, got, &it->header, f);
    if (e) return e;
    if (it->header.first_seq != it->first_seq[it->index] || (it->epoch && it->header.epoch != it->epoch))
        return sg_fail(f, SG_ERR_CORRUPT, "a header of another name or epoch");
    it->epoch = it->header.epoch;
    it->size = (uint64_t)st.st_size;
    it->entered = true;
    it->offset = sizeof bytes;
    if (it->next_seq && it->next_seq != it->header.first_seq) {
        uint64_t missing = it->next_seq;
        it->next_seq = it->header.first_seq;
        return sg_fail(f, SG_ERR_CORRUPT, "batches from %" PRIu64 " on are missing before it", missing);
    }
    it->next_seq = it->header.first_seq;
    return SG_OK;
}

/* The record at the offset. STATE: no valid one, or none in order; f says why. */
static enum sg_error load(struct spool_iter *it, struct spool_entry *out, struct sg_fault *f)
{
    uint8_t header[SPOOL_RECORD_HEADER_BYTES];
    size_t got;
    enum sg_error e = read_at(it->fd, header, sizeof header, it->offset, &got, f);
    if (e) return e;
    if (got < sizeof header) return sg_fail(f, SG_ERR_STATE, "the file ends inside a record");
    if (spool_record_decode(header, &out->record, f)) return SG_ERR_STATE;
    size_t body_bytes = spool_record_bytes(&out->record) - sizeof header;
    e = grow(it, body_bytes, f);
    if (!e) e = read_at(it->fd, it->buffer, body_bytes, it->offset + sizeof header, &got, f);
    if (e) return e;
    if (got < body_bytes) return sg_fail(f, SG_ERR_STATE, "the file ends inside a record");
    if (!spool_record_check(&out->record, it->epoch, header, it->buffer))
        return sg_fail(f, SG_ERR_STATE, "a record's checksum is wrong");
    bool first = it->offset == SPOOL_HEADER_BYTES;
    if (out->record.kind != (first ? SPOOL_SNAPSHOT : SPOOL_BATCH) || out->record.seq != it->next_seq - first)
        return sg_fail(f, SG_ERR_CORRUPT, "a record out of order");
    return SG_OK;
}

/* *end = one past the last byte behind the offset that is not zero. */
static enum sg_error find_end(const struct spool_iter *it, uint64_t *end, struct sg_fault *f)
{
    uint8_t chunk[CHUNK_BYTES];
    size_t got = 1;
    *end = it->offset;
    for (uint64_t at = it->offset; got; at += got) {
        enum sg_error e = read_at(it->fd, chunk, sizeof chunk, at, &got, f);
        if (e) return e;
        size_t last = got;
        if (got && !chunk[0] && !memcmp(chunk, chunk + 1, got - 1)) last = 0; /* mostly zeros: at memcmp's speed */
        while (last && !chunk[last - 1]) last--;
        if (last) *end = at + last;
    }
    return SG_OK;
}

static enum sg_error read_tail(struct spool_iter *it, size_t length, size_t *got, struct sg_fault *f)
{
    enum sg_error e = grow(it, length, f);
    return e ? e : read_at(it->fd, it->buffer, length, it->offset, got, f);
}

/* What it means that the record at the offset is not valid. OK: the segment just ends here. */
static enum sg_error judge(struct spool_iter *it, struct sg_fault *f)
{
    struct sg_fault other = {0};
    uint64_t end;
    size_t got = 0, reach = 0;
    enum sg_error e = find_end(it, &end, &other);
    if (!e && end == it->offset && it->offset > SPOOL_HEADER_BYTES) return SG_OK;
    bool delivered = it->cursor.epoch == it->epoch && it->cursor.delivered_seq >= it->next_seq;
    if (!e && (it->index + 1 < it->count || it->offset == SPOOL_HEADER_BYTES || delivered)) return SG_ERR_CORRUPT;
    if (!e) e = read_tail(it, (size_t)(end - it->offset) + SPOOL_RECORD_HEADER_BYTES, &got, &other);
    if (!e) reach = spool_records_reach(it->buffer, got);
    if (!e && reach > got) e = read_tail(it, reach, &got, &other);
    if (!e) return spool_proves_damage(it->buffer, got, it->epoch, it->next_seq) ? SG_ERR_CORRUPT : SG_ERR_STATE;
    if (f) *f = other;
    return e;
}

/* Behind the last record, once: what is wrong with the cursor. Behind damage the log's end is not known. */
static enum sg_error settle_cursor(struct spool_iter *it, struct sg_fault *f)
{
    struct spool_cursor c = it->cursor;
    enum sg_error e = it->cursor_error;
    it->cursor = (struct spool_cursor){0};
    it->cursor_error = SG_ERR_NOT_FOUND;
    if (e && e != SG_ERR_NOT_FOUND) {
        if (f) *f = it->cursor_fault;
        return e;
    }
    if (c.generation && it->epoch && c.epoch != it->epoch)
        return sg_fail(f, SG_ERR_CORRUPT, "the cursor is of epoch %" PRIu64 ", the segments of %" PRIu64, c.epoch,
                       it->epoch);
    if (it->next_seq && c.delivered_seq >= it->next_seq)
        return sg_fail(f, SG_ERR_CORRUPT,
                       "%s offset %" PRIu64 ": batch %" PRIu64 " was delivered, but the log ends at %" PRIu64, it->file,
                       it->offset, c.delivered_seq, it->next_seq - 1);
    return SG_ERR_NOT_FOUND;
}

enum sg_error spool_iter_next(struct spool_iter *it, struct spool_entry *out, struct sg_fault *f)
{
    while (it->index < it->count) {
        enum sg_error e = it->entered ? SG_OK : enter(it, f);
        if (e == SG_ERR_CORRUPT && it->entered) { /* what is missing stood before it: go on inside it */
            (void)!sg_wrap(f, "%s", it->file);
            return e;
        }
        if (!e && it->offset < it->size) {
            *out = (struct spool_entry){.file = it->file, .offset = it->offset, .header = &it->header};
            e = load(it, out, f);
            if (!e) {
                out->batch = it->buffer;
                out->state = it->buffer + out->record.batch_bytes;
                it->offset += spool_record_bytes(&out->record);
                it->next_seq = out->record.seq + 1;
                return SG_OK;
            }
            if (e == SG_ERR_STATE) e = judge(it, f);
        }
        uint64_t offset = it->offset;
        if (e) it->next_seq = 0;
        leave(it);
        if (!e || e == SG_ERR_NOT_FOUND) continue;
        char text[SG_FAULT_BYTES] = "damaged";
        if (f) memcpy(text, f->text, sizeof text);
        return sg_fail(f, e, "%s offset %" PRIu64 ": %s%s", it->file, offset, e == SG_ERR_STATE ? "torn tail: " : "",
                       text);
    }
    return settle_cursor(it, f);
}

/* ---- cursor ---- */

static enum sg_error read_cursor(int directory_fd, const char *name, struct spool_cursor *out, struct sg_fault *f)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return SG_ERR_NOT_FOUND;
    if (fd < 0) return sg_fail(f, SG_ERR_IO, "open: %s", strerrordesc_np(errno));
    uint8_t bytes[SPOOL_CURSOR_BYTES];
    size_t got;
    enum sg_error e = read_at(fd, bytes, sizeof bytes, 0, &got, f);
    close(fd);
    return e ? e : spool_cursor_decode(bytes, got, out, f);
}

enum sg_error spool_iter_cursor(const char *directory, struct spool_cursor *out, struct sg_fault *f)
{
    int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0) return sg_fail(f, SG_ERR_IO, "open: %s", strerrordesc_np(errno));
    enum sg_error e = SG_OK;
    *out = (struct spool_cursor){0};
    for (int i = 0; i < 2; i++) {
        struct spool_cursor c;
        const char *name = i ? "cursor.1" : "cursor.0";
        e = read_cursor(directory_fd, name, &c, f);
        if (e == SG_ERR_VERSION || e == SG_ERR_IO) {
            (void)!sg_wrap(f, "%s", name);
            break;
        }
        if (!e && c.generation > out->generation) *out = c;
        e = SG_OK; /* there is none, or it is not valid */
    }
    close(directory_fd);
    if (!e && !out->generation) e = sg_fail(f, SG_ERR_NOT_FOUND, "no valid cursor");
    return e;
}
