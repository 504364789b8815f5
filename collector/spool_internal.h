/* What the spool's files share among themselves. */
#ifndef COLLECTOR_SPOOL_INTERNAL_H
#define COLLECTOR_SPOOL_INTERNAL_H

#include "collector/spool.h"

/* Reads exactly length bytes, or fails: IO, CORRUPT (the file ends before). name is for the fault's text. */
SG_MUST_USE enum sg_error spool_pread_exact(const struct spool_io *io, int fd, const char *name, uint8_t *bytes,
                                            size_t length, uint64_t offset, struct sg_fault *f);
/* Writes all parts at offset; 0 or an error number. Parts are consumed. */
int spool_write_all(struct spool *s, int fd, struct iovec *part, int count, uint64_t offset);
/* The error number says that there is no room. */
bool spool_out_of_space(int error);
/* Fills the reader's buffer with the record at offset and checks rules 1, 2, 3, 5 and 6. The body stands in
 * s->reader.buffer. CORRUPT names file and offset. */
SG_MUST_USE enum sg_error spool_load_record(struct spool *s, int fd, const char *name, uint64_t offset,
                                            struct spool_record *out, struct sg_fault *f);
/* The buffer holds at least length bytes. NOMEM. */
SG_MUST_USE enum sg_error spool_reserve_buffer(struct spool *s, size_t length, struct sg_fault *f);
/* Makes the segment that starts with s->last_seq + 1 the active one; the list has room. LIMIT: nothing has changed. */
SG_MUST_USE enum sg_error spool_create_segment(struct spool *s, const uint8_t *snapshot, size_t length,
                                               struct sg_fault *f);
/* Unlinks the oldest segment for good. IO. */
SG_MUST_USE enum sg_error spool_drop_oldest(struct spool *s, struct sg_fault *f);
/* What the active segment reserves when its snapshot ends at start. */
uint64_t spool_reservation(const struct spool *s, uint64_t start);
/* The spool is dead: every later call fails. Returns IO with "directory/name: what: errno". */
SG_MUST_USE enum sg_error spool_die(struct spool *s, const char *name, const char *what, int error, struct sg_fault *f);

#endif
