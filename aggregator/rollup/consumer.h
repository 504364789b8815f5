/* The events topic, as a member of the consumer group reads it (librdkafka 2.0 and newer; settings and why:
 * proto/topics.md).
 *
 * HAPPY PATH  the group assigns partitions; the consumer parks them (reads nothing) and says so; its owner finds out
 * where they stand and places them with one full assign(), which works in every state; then messages come, in order.
 * DOUBT       whatever is in doubt is parked and placed again. Positions are never committed in the group: they are
 * stored with the sums. For lag tools they are published under `<group>.positions` by a client that is no member.
 * FAILURES    brokers away: librdkafka tries again for ever; consumer_fault says so. A position that the log does not
 *             have: CONSUMER_OUT_OF_RANGE; ask for the watermarks. Fatal errors (a second process with our instance
 * id): returned. One thread. */
#ifndef ROLLUP_CONSUMER_H
#define ROLLUP_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

struct consumer_config {
    const char *brokers, *group, *instance, *topic;
    const struct config_list *properties; /* "NAME VALUE" of librdkafka; NULL: none */
};

enum consumer_kind {
    CONSUMER_NOTHING,
    CONSUMER_ASSIGNMENT,   /* the partitions have changed (consumer_partitions); all are parked */
    CONSUMER_MESSAGE,      /* partition, offset, time, bytes */
    CONSUMER_END,          /* partition: the log was seen to end at offset */
    CONSUMER_OUT_OF_RANGE, /* partition: the log does not have the position */
};
struct consumer_event {
    enum consumer_kind kind;
    uint32_t partition;
    uint64_t offset;
    struct wall_ms time;
    const uint8_t *bytes;
    size_t length;
    void *message; /* owned: consumer_event_done */
};

/* Opaque. */
struct consumer;

/* Joins when brokers can be reached. CONFIG, NOMEM. */
SG_MUST_USE enum sg_error consumer_new(struct consumer **out, const struct consumer_config *config, struct sg_fault *f);
/* Does not leave the group: its place is kept for the next one of that name. Takes 3 s at most; what librdkafka has not
 * let go of by then is left to the end of the process. NULL is allowed. */
void consumer_free(struct consumer *c);
/* How many partitions the topic has. UNREACHABLE, NOT_FOUND: try again. */
SG_MUST_USE enum sg_error consumer_partition_count(struct consumer *c, uint32_t timeout_ms, uint32_t *out,
                                                   struct sg_fault *f);
/* The next event; waits up to timeout_ms. STATE: fatal, the process must end. */
SG_MUST_USE enum sg_error consumer_poll(struct consumer *c, uint32_t timeout_ms, struct consumer_event *out,
                                        struct sg_fault *f);
/* Ends an event. Safe on a zeroed one. */
void consumer_event_done(struct consumer_event *e);
/* Partitions that are assigned, ascending; until the next poll. */
const uint32_t *consumer_partitions(const struct consumer *c, size_t *count);
/* True while the group has given us our place, be it without partitions; false while we wait for it. */
bool consumer_assigned(const struct consumer *c);
/* Reads on from offsets[i] of the i-th assigned partition. */
SG_MUST_USE enum sg_error consumer_place(struct consumer *c, const uint64_t *offsets, struct sg_fault *f);
/* Reads nothing until placed. */
void consumer_park(struct consumer *c);
/* True when placed. */
bool consumer_placed(const struct consumer *c);
/* The log's start and end as last fetched; false when not known. Does not block. */
bool consumer_end(const struct consumer *c, uint32_t partition, uint64_t *end);
/* Asks for both. UNREACHABLE. */
SG_MUST_USE enum sg_error consumer_watermarks(struct consumer *c, uint32_t partition, uint32_t timeout_ms,
                                              uint64_t *start, uint64_t *end, struct sg_fault *f);
/* Publishes positions[i] of the i-th assigned partition for lag tools. Errors are of no consequence. */
void consumer_publish(struct consumer *c, const uint64_t *positions);
/* What is wrong with the brokers, static; NULL: nothing that is known. A message or an answer clears it. */
const char *consumer_fault(const struct consumer *c);

#endif
