/* The simulated life of one source: which event happens next, and when.
 *
 * Deterministic: options, source and the limits of time it is asked with (clock=event: none) decide every event. Times
 * are boot_ms of the source's host; `anchor_*` maps them to UTC. All sources of a host share boots and anchors. */
#ifndef FLEET_WORLD_H
#define FLEET_WORLD_H

#include "event.h"
#include "options.h"
#include "rng.h"
#include "slots.h"

enum world_phase { PHASE_ADOPT, PHASE_RUN, PHASE_REBOOT, PHASE_WIND_DOWN, PHASE_DRAIN, PHASE_DONE };

enum world_step {
    WORLD_EVENT,  /* an event was made */
    WORLD_WAIT,   /* nothing happens before the limit */
    WORLD_REBOOT, /* the host went down: settle what was sent, then call world_boot */
    WORLD_DONE
};

/* The present, for clock=system. */
struct world_present {
    uint64_t boot_ms;
    uint64_t wall_ms;
};

struct world {
    const struct fleet_options *options;
    struct rng rng;
    struct slots slots;
    uint32_t runner;
    uint32_t source; /* over all runners */
    bool tells_capacity;
    bool stopping;
    enum world_phase phase;
    uint32_t boot;
    char boot_id[FLEET_NAME_MAX + 1];
    uint64_t anchor_boot_ms;
    uint64_t anchor_wall_ms;
    uint64_t t_ms;      /* of the newest event */
    uint64_t end_ms;    /* of the busy time */
    uint64_t reboot_ms; /* SLOT_NEVER: none to come */
    uint64_t final_ms;  /* of the last tick */
    uint64_t next_us;   /* boot time of the next filler */
    uint64_t quota;     /* events to make yet */
    uint64_t born;      /* sandboxes so far */
    uint32_t adopt_left;
    uint32_t keep[SLOT_STATES]; /* stay alive to the end */
    uint32_t *readopt;          /* slots to announce again */
    uint32_t readopt_count;
};

/* A source numbered `index` of `count` on `runner`, with its share of sandboxes and events; aborts when memory is out.
 */
void world_init(struct world *world, const struct fleet_options *options, uint32_t runner, uint32_t index,
                uint32_t count, struct world_present present);

/* Releases everything; safe on a zeroed struct. */
void world_destroy(struct world *world);

/* Makes the next event up to boot time `limit_ms`; `n` is the number its line will have. */
enum world_step world_next(struct world *world, uint64_t limit_ms, uint64_t n, struct event *event);

/* The next boot of the host, after WORLD_REBOOT. */
void world_boot(struct world *world);

/* The collector lost all it knew: announces again what is alive and was made known by a line up to `acked`. */
void world_readopt(struct world *world, uint64_t acked);

/* The UTC milliseconds of a boot time. */
uint64_t world_wall_ms(const struct world *world, uint64_t boot_ms);

#endif
