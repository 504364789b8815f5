/* Archive records: what is taken is written again with the same bytes. */
#include <assert.h>
#include <string.h>

#include "proto/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum sg_error again_cell(void *arg, const struct archive_cell *cell)
{
    bool fits = archive_add_cell(arg, cell);
    return fits ? SG_OK : SG_ERR_LIMIT;
}

static enum sg_error again_mark(void *arg, const struct archive_head *head, const struct archive_mark *mark)
{
    bool fits = archive_add_mark(arg, mark);
    (void)head;
    return fits ? SG_OK : SG_ERR_LIMIT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct archive_head head, same;
    struct buffer b;
    const char *text = (const char *)data;
    if (archive_decode(text, size, &head, NULL, NULL) != SG_OK) return 0;
    assert(archive_is(text, size));
    buffer_init(&b, ARCHIVE_BYTES_MAX);
    if (head.kind == ARCHIVE_CELLS)
        archive_begin_cells(&b, head.at);
    else
        archive_begin_marks(&b, head.at, head.partition, head.part);
    struct archive_each each = {.cell = again_cell, .mark = again_mark, .arg = &b};
    enum sg_error e = archive_decode(text, size, &same, &each, NULL);
    if (e == SG_OK) {
        if (head.last) archive_end_marks(&b);
        assert(b.length == size && memcmp(b.data, text, size) == 0);
    }
    buffer_destroy(&b);
    return 0;
}
