/* sandglass decode, spool verify, spool dump: batches and spool segments read from files, without a lock and without
 * changing anything.
 *
 * A segment is read into memory whole (it is bounded by what a spool reserves for one). Records are read to the first
 * that is not valid: in the newest segment that is where writing stands or a torn tail, told as such; in any other it
 * is damage. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "aggregator/ctl/batch_json.h"
#include "aggregator/ctl/ctl.h"
#include "proto/spool_format.h"

enum { FILE_BYTES_MAX = 256 << 20, SEGMENTS_MAX = 4096, PATH_BYTES = 4096 };

struct bytes {
    uint8_t *data;
    size_t length;
};

static enum sg_error file_read(const char *path, struct bytes *out, struct sg_fault *f)
{
    struct stat st;
    FILE *file = fopen(path, "re");
    if (!file) return sg_fail(f, SG_ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    bool ok = fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_BYTES_MAX;
    out->data = ok ? malloc((size_t)st.st_size + 1) : NULL;
    out->length = out->data ? fread(out->data, 1, (size_t)st.st_size, file) : 0;
    ok = out->data && !ferror(file);
    fclose(file);
    return ok ? SG_OK : sg_fail(f, SG_ERR_IO, "%s: cannot be read, or is longer than %d bytes", path, FILE_BYTES_MAX);
}

/* What is done with each batch of a segment; NULL: nothing but the checks. */
struct reading {
    struct batch_decoder decoder;
    bool dump;
    uint64_t batches, rows;
};

static enum sg_error take_batch(struct reading *r, const uint8_t *bytes, size_t length, struct sg_fault *f)
{
    struct batch b;
    struct batch_place nowhere = {.partition = -1};
    enum sg_error e = batch_decode(&r->decoder, bytes, length, &b, f);
    if (e) return e;
    r->batches++;
    r->rows += batch_row_count(&b);
    if (r->dump && batch_json_write(&b, &nowhere, stdout))
        return sg_fail(f, SG_ERR_IO, "standard output could not be written");
    return SG_OK;
}

/* Where a segment's valid records end. */
struct segment_end {
    uint64_t next_seq;
    size_t offset;
    bool clean; /* behind it stand only zeros, or nothing */
};

static bool all_zero(const uint8_t *p, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (p[i]) return false;
    return true;
}

/* Rules 1 to 6 of proto/spool_format.h. False: no valid record stands at offset. */
static bool record_at(const struct bytes *file, const struct spool_header *h, const struct segment_end *at,
                      struct spool_record *r)
{
    const uint8_t *p = file->data + at->offset;
    size_t left = file->length - at->offset;
    if (left < SPOOL_RECORD_HEADER_BYTES || spool_record_decode(p, r, NULL) || spool_record_bytes(r) > left)
        return false;
    if (!spool_record_check(r, h->epoch, p, p + SPOOL_RECORD_HEADER_BYTES)) return false;
    return r->kind == SPOOL_SNAPSHOT ? at->offset == SPOOL_HEADER_BYTES && r->seq + 1 == h->first_seq
                                     : r->seq == at->next_seq;
}

static enum sg_error segment_read(const struct bytes *file, struct reading *r, struct segment_end *end,
                                  struct sg_fault *f)
{
    struct spool_header h;
    struct spool_record record;
    enum sg_error e = spool_header_decode(file->data, file->length, &h, f);
    if (e) return e;
    *end = (struct segment_end){.next_seq = h.first_seq, .offset = SPOOL_HEADER_BYTES};
    while (!e && record_at(file, &h, end, &record)) {
        if (record.kind == SPOOL_BATCH) {
            e = take_batch(r, file->data + end->offset + SPOOL_RECORD_HEADER_BYTES, record.batch_bytes, f);
            end->next_seq = record.seq + 1;
        }
        if (e) (void)sg_wrap(f, "offset %zu", end->offset);
        end->offset += spool_record_bytes(&record);
    }
    end->clean = all_zero(file->data + end->offset, file->length - end->offset);
    return e;
}

int ctl_decode(const struct ctl_call *c)
{
    static const char magic[] = "SGSPOOL\n";
    struct reading r = {.dump = true};
    struct segment_end end = {.clean = true};
    struct bytes file = {0};
    struct sg_fault f = {0};
    enum sg_error e = batch_decoder_init(&r.decoder);
    if (!e) e = file_read(c->arg[0], &file, &f);
    if (!e && file.length >= sizeof magic - 1 && memcmp(file.data, magic, sizeof magic - 1) == 0)
        e = segment_read(&file, &r, &end, &f);
    else if (!e)
        e = take_batch(&r, file.data, file.length, &f);
    free(file.data);
    batch_decoder_destroy(&r.decoder);
    if (e) return ctl_fail(&f);
    if (!end.clean) fprintf(stderr, "sandglass: no valid record at offset %zu: a torn tail or damage\n", end.offset);
    return end.clean ? CTL_DONE : CTL_NO;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* First seqs of the segments in a directory, ascending. */
static enum sg_error segments_find(const char *path, uint64_t *first, size_t *count, struct sg_fault *f)
{
    DIR *dir = opendir(path);
    *count = 0;
    if (!dir) return sg_fail(f, SG_ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    for (struct dirent *e; (e = readdir(dir));)
        if (*count < SEGMENTS_MAX && spool_name_parse(e->d_name, &first[*count])) (*count)++;
    closedir(dir);
    qsort(first, *count, sizeof *first, by_number);
    return *count ? SG_OK : sg_fail(f, SG_ERR_NOT_FOUND, "%s: there is no segment", path);
}

/* One segment of a spool. expected_seq: what its first batch must be; 0: the oldest one, anything. */
static enum sg_error spool_segment(const char *directory, uint64_t first, bool newest, struct reading *r,
                                   uint64_t *expected_seq, struct sg_fault *f)
{
    char name[SPOOL_NAME_BYTES], path[PATH_BYTES];
    struct bytes file = {0};
    struct segment_end end;
    spool_name(first, name);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (*expected_seq && *expected_seq != first)
        return sg_fail(f, SG_ERR_CORRUPT, "%s: batches %" PRIu64 " to %" PRIu64 " are missing before it", path,
                       *expected_seq, first - 1);
    enum sg_error e = file_read(path, &file, f);
    if (!e) {
        e = segment_read(&file, r, &end, f);
        if (e)
            (void)sg_wrap(f, "%s", path);
        else if (!end.clean && !newest)
            e = sg_fail(f, SG_ERR_CORRUPT, "%s: offset %zu: damaged", path, end.offset);
        else if (!end.clean)
            fprintf(stderr, "%s: offset %zu: a torn tail, or writing is under way\n", path, end.offset);
        *expected_seq = end.next_seq;
    }
    free(file.data);
    return e;
}

static int spool_read_all(const struct ctl_call *c, bool dump)
{
    static uint64_t first[SEGMENTS_MAX];
    struct reading r = {.dump = dump};
    struct sg_fault f = {0};
    size_t count;
    uint64_t expected_seq = 0;
    enum sg_error e = batch_decoder_init(&r.decoder);
    if (!e) e = segments_find(c->arg[0], first, &count, &f);
    for (size_t i = 0; !e && i < count; i++)
        e = spool_segment(c->arg[0], first[i], i + 1 == count, &r, &expected_seq, &f);
    batch_decoder_destroy(&r.decoder);
    if (e) return ctl_fail(&f);
    if (!dump)
        printf("%zu segments, %" PRIu64 " batches, %" PRIu64 " rows: every record holds\n", count, r.batches, r.rows);
    return CTL_DONE;
}

int ctl_spool_verify(const struct ctl_call *c)
{
    return spool_read_all(c, false);
}

int ctl_spool_dump(const struct ctl_call *c)
{
    return spool_read_all(c, true);
}
