/* A batch as JSON lines, for people: one line for the head, then one per row, in the order of the kinds. */
#ifndef CTL_BATCH_JSON_H
#define CTL_BATCH_JSON_H

#include <stdint.h>
#include <stdio.h>

#include "proto/batch.h"

/* Where a batch came from: shown in its head. partition < 0: not from Kafka. */
struct batch_place {
    int32_t partition;
    uint64_t offset;
};

/* Writes b's lines to out. NOMEM, IO. */
SG_MUST_USE enum sg_error batch_json_write(const struct batch *b, const struct batch_place *place, FILE *out);

#endif
