/* Every limit that more than one program must agree on. A limit of one module stands in that module's header. */
#ifndef SANDGLASS_LIMITS_H
#define SANDGLASS_LIMITS_H

enum {
    ID_BYTES_MAX = 64,                    /* identifiers: [A-Za-z0-9_-]{1,64} (ingest.md) */
    BATCH_BYTES_MAX = 900 * 1000,         /* one Kafka message; the client's limit is 1,000,000 with overhead */
    BATCH_ROWS_MAX = 16384,               /* rows of one batch over all kinds */
    BATCH_NAMES_MAX = BATCH_ROWS_MAX,     /* entries of each dictionary of a batch */
    SHARDS_MAX = 256,                     /* slices of Redis */
    PARTITIONS_MAX = 1024,                /* of the events topic */
    SOURCES_MAX = 16,                     /* sources per collector (ingest.md) */
    RUNNER_GRACE_MS_DEFAULT = 600 * 1000, /* a runner silent for longer is left out of the watermark and is a gap */
};

/* Ranges of allocation (ingest.md, sandbox.created). */
enum { VCPUS_MAX = 1024, MEM_MIB_MAX = 16777216, DISK_MIB_MAX = 1073741824 };

/* Counters and gauges are at most 2^53 - 1 (ingest.md, sandbox.usage). */
#define COUNTER_MAX UINT64_C(9007199254740991)

#endif
