/* The exact totals that must come out, by this program's own arithmetic (the ingest contract, "What it means in
 * usage").
 *
 * Fed with every accepted event in the order of its source. Times are boot_ms of a source and its boot's anchor;
 * windows are UTC. Where the pipeline cuts usage into minute slices and adds them up, this integrates a sandbox's whole
 * span at once and splits it at hours only: two ways to the same number. */
#ifndef FLEET_ORACLE_H
#define FLEET_ORACLE_H

#include "event.h"
#include "options.h"

#include <stdio.h>

enum oracle_field {
    FIELD_VCPU_MS,
    FIELD_MEM_MIB_MS,
    FIELD_DISK_MIB_MS,
    FIELD_RUNNING_MS,
    FIELD_COUNTERS, /* by enum event_counter */
    FIELD_EXECS = FIELD_COUNTERS + COUNTERS,
    FIELD_CREATES,                            /* by enum event_origin */
    FIELD_DESTROYS = FIELD_CREATES + ORIGINS, /* by enum event_reason */
    FIELD_EXITS = FIELD_DESTROYS + REASONS,   /* by exit code */
    FIELD_API = FIELD_EXITS + EXIT_CODES,     /* by operation, then status class 1xx..5xx */
    FIELDS = FIELD_API + (int)OPERATIONS * (int)STATUS_CLASSES,
};

enum { ORACLE_RUNS_MAX = 1000, ORACLE_NONE = 0xffffffff };

/* The sums of one (team, project, region) in one window. */
struct oracle_cell {
    uint64_t fields[FIELDS];
};

/* Windows of one width; cells[group * windows + window], NULL where nothing happened. A group is
 * (region * teams + team) * (projects + 1) + project, its last project the one of calls without a project. */
struct oracle_grid {
    uint64_t width_ms;
    uint64_t first; /* the number of the first window: UTC ms / width */
    uint64_t windows;
    struct oracle_cell **cells;
};

/* One sandbox as this side sees it. */
struct oracle_sandbox {
    uint64_t since_ms; /* start of the span that runs */
    uint64_t last[COUNTERS];
    uint64_t running_ms;
    uint64_t cpu_us;
    uint32_t based; /* counters whose base is known, a bit each */
    uint32_t team;
    uint32_t project;
    uint32_t vcpus;
    uint32_t mem_mib;
    uint32_t disk_mib;
    uint32_t run; /* its place among the runs told in detail, or ORACLE_NONE */
    bool alive;
    bool running;
};

/* A sandbox from create to destroy, as the view should show it. Times are UTC ms. */
struct oracle_run {
    uint64_t sandbox;
    uint64_t created_ms;
    uint64_t destroyed_ms;
    uint64_t running_ms;
    uint64_t cpu_us;
    uint64_t mem_peak_bytes;
    uint32_t source;
    uint32_t team;
    uint32_t project;
    uint32_t region;
    uint32_t vcpus;
    uint32_t mem_mib;
    uint32_t create_ms;
    uint32_t reason;    /* REASONS while it lives */
    uint32_t last_exit; /* EXIT_CODES when nothing exited */
    bool adopted;
    bool hibernated;
    bool has_mem_peak;
};

struct oracle_source {
    uint32_t runner;
    uint32_t region;
    uint32_t sandbox_count; /* room in `sandboxes` */
    uint64_t anchor_boot_ms;
    uint64_t anchor_wall_ms;
    uint64_t newest_ms; /* boot_ms of the newest event */
    bool booted;
    struct oracle_sandbox *sandboxes;
};

/* Owns its arrays; `options` must live as long. */
struct oracle {
    const struct fleet_options *options;
    const char *regions[FLEET_RUNNERS_MAX];
    uint32_t region_count;
    uint32_t source_count;
    struct oracle_source *sources;
    struct oracle_grid hours;
    struct oracle_grid minutes; /* no cells unless asked for */
    struct oracle_run *runs;
    uint32_t run_count;
    uint64_t sandboxes_seen;
    uint64_t capacity[FLEET_RUNNERS_MAX][CAPACITIES];
};

/* Usage may fall between the two UTC times. Every source has room for `slots` sandboxes. Aborts when memory is out. */
void oracle_init(struct oracle *oracle, const struct fleet_options *options, uint32_t slots, uint64_t from_ms,
                 uint64_t to_ms);

/* Releases everything; safe on a zeroed struct. */
void oracle_destroy(struct oracle *oracle);

/* A boot of a source begins; what still lived of the boot before ends at its newest time, by its host. */
void oracle_boot(struct oracle *oracle, uint32_t source, uint64_t boot_ms, uint64_t wall_ms);

/* An accepted event. */
void oracle_apply(struct oracle *oracle, uint32_t source, const struct event *event);

/* The collector lost what it knew after everything so far was acked: nothing runs for it until adopted again. */
void oracle_lost(struct oracle *oracle, uint32_t source);

/* The end: what runs is metered up to its source's newest time. To be called once. */
void oracle_finish(struct oracle *oracle);

/* The dotted name of a field, in `name` of 64 bytes. */
void oracle_field_name(char *name, int field);

/* Adds the cells of `count` windows from window `at` of a group to `sum`; false when all are empty. */
bool oracle_sum(const struct oracle_grid *grid, uint64_t group, uint64_t at, uint64_t count, struct oracle_cell *sum);

/* Groups there are. */
uint64_t oracle_groups(const struct oracle *oracle);

#endif
