/* sandglass decode, spool verify, spool dump: batches and spools read from files, without a lock and without changing
 * anything (collector/spool_iter.h). A torn tail is told and is no damage: recovery cuts it; damage is told with file
 * and offset, and ends in exit code 1. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "aggregator/ctl/batch_json.h"
#include "aggregator/ctl/ctl.h"
#include "collector/spool_iter.h"
#include "proto/spool_format.h"

enum { FILE_BYTES_MAX = 256 << 20 };

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

/* Every record of a spool or a segment. *damaged counts what recovery would stop at. */
static enum sg_error spool_read_all(const char *path, struct reading *r, unsigned *damaged, struct sg_fault *f)
{
    struct spool_iter it = {0};
    struct spool_entry entry;
    enum sg_error e = spool_iter_open(&it, path, f);
    if (e) return e;
    while ((e = spool_iter_next(&it, &entry, f)) != SG_ERR_NOT_FOUND) {
        if (!e && entry.record.kind == SPOOL_BATCH) {
            e = take_batch(r, entry.batch, entry.record.batch_bytes, f);
            if (e) (void)sg_wrap(f, "%s: offset %" PRIu64, entry.file, entry.offset);
        }
        if (e == SG_ERR_IO || e == SG_ERR_NOMEM) break;
        if (e) fprintf(stderr, "sandglass: %s\n", f->text);
        *damaged += e && e != SG_ERR_STATE;
    }
    spool_iter_close(&it);
    return e == SG_ERR_NOT_FOUND ? SG_OK : e;
}

static bool is_segment(const struct bytes *file)
{
    struct spool_header h;
    return spool_header_decode(file->data, file->length, &h, NULL) == SG_OK;
}

int ctl_decode(const struct ctl_call *c)
{
    struct reading r = {.dump = true};
    struct bytes file = {0};
    struct sg_fault f = {0};
    unsigned damaged = 0;
    enum sg_error e = batch_decoder_init(&r.decoder);
    if (!e) e = file_read(c->arg[0], &file, &f);
    if (!e)
        e = is_segment(&file) ? spool_read_all(c->arg[0], &r, &damaged, &f)
                              : take_batch(&r, file.data, file.length, &f);
    free(file.data);
    batch_decoder_destroy(&r.decoder);
    if (e) return ctl_fail(&f);
    return damaged ? CTL_NO : CTL_DONE;
}

static int spool_command(const struct ctl_call *c, bool dump)
{
    struct reading r = {.dump = dump};
    struct sg_fault f = {0};
    unsigned damaged = 0;
    enum sg_error e = batch_decoder_init(&r.decoder);
    if (!e) e = spool_read_all(c->arg[0], &r, &damaged, &f);
    batch_decoder_destroy(&r.decoder);
    if (e) return ctl_fail(&f);
    if (!dump)
        printf("%" PRIu64 " batches, %" PRIu64 " rows: %s\n", r.batches, r.rows,
               damaged ? "damaged" : "every record holds");
    return damaged ? CTL_NO : CTL_DONE;
}

int ctl_spool_verify(const struct ctl_call *c)
{
    return spool_command(c, false);
}

int ctl_spool_dump(const struct ctl_call *c)
{
    return spool_command(c, true);
}
