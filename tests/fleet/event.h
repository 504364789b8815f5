/* The fleet's own vocabulary: what one simulated event says, before it is a line.
 *
 * This program is an outside party to sandglass. It is written from the ingest contract alone and shares no code with
 * the collector, the formats or the rollup, so that its totals are evidence. */
#ifndef FLEET_EVENT_H
#define FLEET_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_type {
    EVENT_CREATED,
    EVENT_ADOPTED,
    EVENT_USAGE,
    EVENT_HIBERNATED,
    EVENT_RESUMED,
    EVENT_DESTROYED,
    EVENT_EXEC,
    EVENT_API,
    EVENT_CAPACITY,
    EVENT_TICK,
    EVENT_TYPES
};

enum event_reason { REASON_API, REASON_TIMEOUT, REASON_OOM, REASON_CRASH, REASON_HOST, REASONS };
enum event_origin { ORIGIN_CREATE, ORIGIN_FORK, ORIGIN_RESTORE, ORIGINS };
enum event_counter { COUNTER_CPU_US, COUNTER_NET_RX, COUNTER_NET_TX, COUNTER_IO_READ, COUNTER_IO_WRITE, COUNTERS };
enum { OPERATIONS = 14, STATUS_CLASSES = 5, EXIT_CODES = 256, CAPACITIES = 4 };

/* The project of an api.called that names none. */
#define PROJECT_NONE UINT32_MAX

/* Names as the contract spells them, by the enums above. */
extern const char *const event_type_names[EVENT_TYPES];
extern const char *const event_reason_names[REASONS];
extern const char *const event_origin_names[ORIGINS];
extern const char *const event_counter_names[COUNTERS];
extern const char *const event_operation_names[OPERATIONS];
extern const char *const event_capacity_names[CAPACITIES];

/* Only the members that the type has in the contract mean anything. `present` has a bit per counter that is sent. */
struct event {
    enum event_type type;
    uint64_t boot_ms;
    uint64_t sandbox; /* the 16 hex digits of the identifier */
    uint32_t slot;    /* the sandbox's place in its source's tables */
    uint32_t team;    /* 0-based */
    uint32_t project; /* 0-based or PROJECT_NONE */
    uint32_t vcpus;
    uint32_t mem_mib;
    uint32_t disk_mib;
    uint32_t origin;
    uint32_t reason;
    uint32_t operation;
    uint32_t status;
    uint32_t exit_code;
    uint32_t create_ms;
    bool has_create_ms;
    bool running; /* of an adopted sandbox */
    bool has_paths;
    bool has_mem;
    bool has_mem_peak;
    uint32_t present;
    uint64_t duration_ms;
    uint64_t counters[COUNTERS];
    uint64_t mem_bytes;
    uint64_t mem_peak_bytes;
    uint64_t capacity[CAPACITIES];
};

#endif
