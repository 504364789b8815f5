#include "tests/sim/events_log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void events_destroy(struct events_log *l)
{
    for (uint32_t p = 0; p < EVENTS_PARTITIONS_MAX; p++) {
        events_truncate(l, p, l->partition[p].start);
        free(l->partition[p].message);
    }
    *l = (struct events_log){0};
}

uint64_t events_append(struct events_log *l, uint32_t partition, const uint8_t *bytes, size_t length,
                       struct wall_ms time)
{
    struct events_partition *p = &l->partition[partition];
    if (p->end == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 64;
        p->message = reallocarray(p->message, p->capacity, sizeof *p->message);
        if (!p->message) abort();
    }
    struct events_message *m = &p->message[p->end];
    *m = (struct events_message){malloc(length + 1), length, time};
    if (!m->bytes) abort();
    memcpy(m->bytes, bytes, length);
    return p->end++;
}

const struct events_message *events_at(const struct events_log *l, uint32_t partition, uint64_t offset)
{
    const struct events_partition *p = &l->partition[partition];
    return offset >= p->start && offset < p->end ? &p->message[offset] : NULL;
}

void events_forget(struct events_log *l, uint32_t partition, uint64_t start)
{
    struct events_partition *p = &l->partition[partition];
    assert(start <= p->end);
    for (; p->start < start; p->start++) free(p->message[p->start].bytes);
}

void events_truncate(struct events_log *l, uint32_t partition, uint64_t end)
{
    struct events_partition *p = &l->partition[partition];
    assert(end >= p->start && end <= p->end);
    while (p->end > end) free(p->message[--p->end].bytes);
}
