/* The events topic of the simulated worlds: bytes with their times, by partition and offset. What was appended can be
 * read at once; a world that has messages which are not committed yet keeps them until they are. Retention forgets from
 * the front, a leader that moves cuts from the end. One thread. */
#ifndef SIM_EVENTS_LOG_H
#define SIM_EVENTS_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "sandglass/time.h"

enum { EVENTS_PARTITIONS_MAX = 8 };

struct events_message {
    uint8_t *bytes; /* owned by the log */
    size_t length;
    struct wall_ms time; /* when it was sent */
};

/* Messages of offsets [start, end); those below start are gone. */
struct events_partition {
    struct events_message *message; /* by offset */
    uint64_t start, end;
    size_t capacity;
};

/* Zeroed is empty. */
struct events_log {
    struct events_partition partition[EVENTS_PARTITIONS_MAX];
};

/* Frees. */
void events_destroy(struct events_log *l);
/* Copies the bytes; returns the offset. */
uint64_t events_append(struct events_log *l, uint32_t partition, const uint8_t *bytes, size_t length,
                       struct wall_ms time);
/* NULL: not there. Until the log changes. */
const struct events_message *events_at(const struct events_log *l, uint32_t partition, uint64_t offset);
/* Nothing below start exists any more; start <= end. */
void events_forget(struct events_log *l, uint32_t partition, uint64_t start);
/* Nothing at or beyond end exists any more; end >= start. */
void events_truncate(struct events_log *l, uint32_t partition, uint64_t end);

#endif
