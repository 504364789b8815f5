/* Archive records: closed windows' cells and partitions' marks, kept in the ledger topic when the events topic has
 * forgotten them (proto/archive.md). Pure.
 *
 * WRITING  archive_begin_*(), archive_add_*() until one says that it is full, then the buffer is one record. Marks of a
 *          partition are one set: parts 0, 1, ... in one transaction, the last one with archive_end_marks().
 * READING  archive_decode() checks the whole record and calls back for each line. The texts of cells and marks are
 *          those of proto/cell.h and proto/mark.h; whoever takes them in decodes them. */
#ifndef PROTO_ARCHIVE_H
#define PROTO_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "sandglass/error.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

enum { ARCHIVE_VERSION = 1, ARCHIVE_BYTES_MAX = 500 * 1000 };

enum archive_kind { ARCHIVE_CELLS, ARCHIVE_MARKS };

/* The first line. */
struct archive_head {
    enum archive_kind kind;
    struct wall_ms at;  /* when it was written */
    uint32_t partition; /* of marks */
    uint32_t part;      /* of marks: 0, 1, ... */
    bool last;          /* of marks: no further part */
};

/* One line of cells. Texts are not NUL-terminated and live as long as the record. */
struct archive_cell {
    enum window_kind window; /* hour or day */
    struct wall_ms start;
    struct id team, project, region;
    uint32_t partition;
    const char *text;
    size_t length;
};

/* A field of a set of marks that begins so is one of gaps:<p>. */
#define ARCHIVE_GAP "g:"
enum { ARCHIVE_GAP_BYTES_MAX = 80 };

/* A field of marks:<p> and its value, or, behind ARCHIVE_GAP, of gaps:<p>. */
struct archive_mark {
    const char *field, *text;
    size_t field_length, length;
};

/* Starts a record of cells; b must have been initialised with ARCHIVE_BYTES_MAX or more, and is emptied. */
void archive_begin_cells(struct buffer *b, struct wall_ms at);
/* Starts part `part` of a partition's marks. */
void archive_begin_marks(struct buffer *b, struct wall_ms at, uint32_t partition, uint32_t part);
/* Adds a line. False: the record is full, nothing was added. */
SG_MUST_USE bool archive_add_cell(struct buffer *b, const struct archive_cell *cell);
/* As archive_add_cell. */
SG_MUST_USE bool archive_add_mark(struct buffer *b, const struct archive_mark *mark);
/* Says that this part is the last; always fits. */
void archive_end_marks(struct buffer *b);

/* True when a record of the ledger topic is an archive record. */
bool archive_is(const char *text, size_t length);
/* What a reader is told; either may be NULL. Anything but OK ends the reading. */
struct archive_each {
    enum sg_error (*cell)(void *arg, const struct archive_cell *cell);
    enum sg_error (*mark)(void *arg, const struct archive_head *head, const struct archive_mark *mark);
    void *arg;
};
/* Checks the record's form, then calls back for each line in order. MALFORMED, VERSION (with its number), LIMIT, or
 * what a call returned. f never quotes content. */
SG_MUST_USE enum sg_error archive_decode(const char *text, size_t length, struct archive_head *head,
                                         const struct archive_each *each, struct sg_fault *f);

#endif
