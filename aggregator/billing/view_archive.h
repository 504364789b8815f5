/* The Redis view as the archiver uses it: `arch`, the cells it names, marks. Errors as in billing/view.h. */
#ifndef BILLING_VIEW_ARCHIVE_H
#define BILLING_VIEW_ARCHIVE_H

#include "aggregator/billing/view.h"
#include "proto/archive.h"

enum { VIEW_ARCH_MAX = 2048, VIEW_ARCH_FIELD_BYTES = 256 };

/* A field of `arch`. */
struct view_arch {
    char field[VIEW_ARCH_FIELD_BYTES];
    struct archive_cell cell; /* text is NULL until view_arch_cells */
    bool unread;              /* what stands there is no cell */
    uint64_t offset;
};
/* The next portion of `arch`; as view_due_read. */
SG_MUST_USE enum sg_error view_arch_read(struct redis_store *s, uint32_t shard, struct view_cursor *cursor,
                                         struct view_arch *out, size_t *count, uint64_t *unread, bool *wrapped,
                                         struct sg_fault *f);
/* Reads the cells of arch[0..count): texts live in *reply, which is the caller's (freeReplyObject). A cell that is
 * missing or stands behind its field keeps text NULL, and so does what is no cell, which says so. */
SG_MUST_USE enum sg_error view_arch_cells(struct redis_store *s, uint32_t shard, struct view_arch *arch, size_t count,
                                          struct redisReply **reply, struct sg_fault *f);
/* Removes those fields that still say this offset, of entries whose text is set. */
SG_MUST_USE enum sg_error view_arch_done(struct redis_store *s, uint32_t shard, const struct view_arch *arch,
                                         size_t count, struct sg_fault *f);
/* A partition's marks and its gaps at one moment: two lists of texts, field, value, ... *at: the offset that the marks
 * stand at, 0: there are none. *reply is the caller's. */
SG_MUST_USE enum sg_error view_marks_read(struct redis_store *s, uint32_t shard, uint32_t partition,
                                          struct redisReply **reply, uint64_t *at, struct sg_fault *f);

#endif
