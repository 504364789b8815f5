/* Reading the spool: one record after the other by pread into one buffer, for the shipper and for recovery. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/spool_internal.h"

enum { BUFFER_BYTES_MIN = 64 << 10 };

enum sg_error spool_pread_exact(const struct spool_io *io, int fd, const char *name, uint8_t *bytes, size_t length,
                                uint64_t offset, struct sg_fault *f)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = io->pread(io->arg, fd, bytes + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return sg_fail(f, SG_ERR_IO, "%s offset %" PRIu64 ": read: %s", name, offset, strerrordesc_np(errno));
        if (n == 0)
            return sg_fail(f, SG_ERR_CORRUPT, "%s offset %" PRIu64 ": the file ends inside a record", name, offset);
        done += (size_t)n;
    }
    return SG_OK;
}

enum sg_error spool_reserve_buffer(struct spool *s, size_t length, struct sg_fault *f)
{
    if (length <= s->reader.buffer_bytes) return SG_OK;
    size_t bytes = s->reader.buffer_bytes ? s->reader.buffer_bytes : BUFFER_BYTES_MIN;
    while (bytes < length) bytes *= 2;
    /* not realloc: nothing of the old content is needed */
    free(s->reader.buffer);
    s->reader.buffer = malloc(bytes);
    s->reader.buffer_bytes = s->reader.buffer ? bytes : 0;
    if (!s->reader.buffer) return sg_fail(f, SG_ERR_NOMEM, "no memory for a record of %zu bytes", length);
    return SG_OK;
}

enum sg_error spool_load_record(struct spool *s, int fd, const char *name, uint64_t offset, struct spool_record *out,
                                struct sg_fault *f)
{
    uint8_t header[SPOOL_RECORD_HEADER_BYTES];
    enum sg_error e = spool_pread_exact(s->io, fd, name, header, sizeof header, offset, f);
    if (e) return e;
    e = spool_record_decode(header, out, f);
    if (e) {
        (void)!sg_wrap(f, "%s offset %" PRIu64, name, offset);
        return e;
    }
    size_t body_bytes = spool_record_bytes(out) - sizeof header;
    e = spool_reserve_buffer(s, body_bytes, f);
    if (e) return e;
    e = spool_pread_exact(s->io, fd, name, s->reader.buffer, body_bytes, offset + sizeof header, f);
    if (e == SG_ERR_CORRUPT) return sg_fail(f, e, "%s offset %" PRIu64 ": the file ends inside a record", name, offset);
    if (e) return e;
    if (!spool_record_check(out, s->epoch, header, s->reader.buffer))
        return sg_fail(f, SG_ERR_CORRUPT, "%s offset %" PRIu64 ": a record's checksum is wrong", name, offset);
    return SG_OK;
}

/* Where the record behind the one at s->reader.offset starts, reading its header only. */
static enum sg_error skip_record(struct spool *s, const char *name, struct sg_fault *f)
{
    uint8_t header[SPOOL_RECORD_HEADER_BYTES];
    struct spool_record r;
    enum sg_error e = spool_pread_exact(s->io, s->reader.fd, name, header, sizeof header, s->reader.offset, f);
    if (e) return e;
    e = spool_record_decode(header, &r, f);
    if (e) {
        (void)!sg_wrap(f, "%s offset %" PRIu64, name, s->reader.offset);
        return e;
    }
    s->reader.offset += spool_record_bytes(&r);
    return SG_OK;
}

/* The reader stands before the first batch of the segment that starts with first_seq. */
static enum sg_error enter_segment(struct spool *s, uint64_t first_seq, const char *name, struct sg_fault *f)
{
    if (s->reader.fd >= 0) s->io->close(s->io->arg, s->reader.fd);
    s->reader.fd = s->io->open(s->io->arg, s->directory_fd, name, O_RDONLY);
    if (s->reader.fd < 0) return sg_fail(f, SG_ERR_IO, "%s: open: %s", name, strerrordesc_np(errno));
    s->reader.first_seq = s->reader.seq = first_seq;
    s->reader.offset = SPOOL_HEADER_BYTES;
    return skip_record(s, name, f);
}

static uint64_t segment_of(const struct spool *s, uint64_t seq)
{
    size_t i = s->segment_count;
    while (s->segment[i - 1].first_seq > seq) i--;
    return s->segment[i - 1].first_seq;
}

enum sg_error spool_read(struct spool *s, uint64_t seq, const uint8_t **batch, size_t *length, struct sg_fault *f)
{
    assert(s->open && seq > s->delivered_seq && seq <= s->durable_seq);
    uint64_t first_seq = segment_of(s, seq);
    char name[SPOOL_NAME_BYTES];
    spool_name(first_seq, name);
    enum sg_error e = SG_OK;
    if (s->reader.fd < 0 || s->reader.first_seq != first_seq || s->reader.seq > seq)
        e = enter_segment(s, first_seq, name, f);
    for (; !e && s->reader.seq < seq; s->reader.seq++) e = skip_record(s, name, f);
    struct spool_record r;
    if (!e) e = spool_load_record(s, s->reader.fd, name, s->reader.offset, &r, f);
    if (!e && (r.kind != SPOOL_BATCH || r.seq != seq))
        e = sg_fail(f, SG_ERR_CORRUPT, "%s offset %" PRIu64 ": not the record of batch %" PRIu64, name,
                    s->reader.offset, seq);
    if (e) {
        if (s->reader.fd >= 0) s->io->close(s->io->arg, s->reader.fd);
        s->reader.fd = -1;
        return e;
    }
    s->reader.offset += spool_record_bytes(&r);
    s->reader.seq = seq + 1;
    *batch = s->reader.buffer;
    *length = r.batch_bytes;
    return SG_OK;
}
