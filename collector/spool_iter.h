/* A reader of spools for people and tools: every record of a directory or of one segment file, without a lock and
 * without changing anything. Damage is reported with file and offset, and reading goes on with the next segment.
 *
 * A spool that a collector writes to meanwhile is read as it is: its newest segment may seem to end in a torn tail, and
 * a segment that was delivered meanwhile is passed over. */
#ifndef COLLECTOR_SPOOL_ITER_H
#define COLLECTOR_SPOOL_ITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/spool_format.h"
#include "sandglass/error.h"

/* One record. Pointers live until the next call. */
struct spool_entry {
    const char *file; /* name of the segment, without its directory */
    uint64_t offset;  /* of the record in it */
    const struct spool_header *header;
    struct spool_record record;
    const uint8_t *batch; /* record.batch_bytes of them; exactly what goes to Kafka */
    const uint8_t *state; /* record.state_bytes of them; the meter's own */
};

/* All fields are the iterator's own. Zeroed is valid for spool_iter_close. */
struct spool_iter {
    int directory_fd, fd;
    bool open;
    uint64_t *first_seq; /* of the segments, ascending */
    size_t count, index; /* index: of the current segment */
    char file[SPOOL_NAME_BYTES];
    struct spool_header header;
    bool entered; /* header was read */
    uint64_t size, offset;
    uint64_t next_seq;          /* 0: any, as at the start and behind damage */
    uint64_t epoch;             /* 0: not known yet */
    struct spool_cursor cursor; /* of the directory; generation 0: none, or it was judged */
    enum sg_error cursor_error; /* why there is none; VERSION, IO: told behind the last record */
    struct sg_fault cursor_fault;
    uint8_t *buffer;
    size_t buffer_bytes;
};

/* path: a spool's directory or a segment in one. NOT_FOUND (no such file, or no segment in it), IO, NOMEM. */
SG_MUST_USE enum sg_error spool_iter_open(struct spool_iter *it, const char *path, struct sg_fault *f);
/* Releases everything. */
void spool_iter_close(struct spool_iter *it);
/* The next record. NOT_FOUND: there is none any more. CORRUPT, VERSION, STATE (a torn tail, which recovery would cut):
 * f says what, in which file, at which offset; call again to go on behind it. IO, NOMEM.
 *
 * Of a directory, what is wrong with its cursor comes behind the last record: CORRUPT (it is of another epoch, or
 * beyond the log's end), VERSION, IO. Of a single segment neither the cursor nor what follows it is known: what is
 * STATE there may be damage, and one that lacks its last records may seem whole. */
SG_MUST_USE enum sg_error spool_iter_next(struct spool_iter *it, struct spool_entry *out, struct sg_fault *f);

/* The newer valid cursor of a spool's directory. NOT_FOUND: there is none. VERSION, IO. */
SG_MUST_USE enum sg_error spool_iter_cursor(const char *directory, struct spool_cursor *out, struct sg_fault *f);

#endif
