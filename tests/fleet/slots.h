/* The sandboxes of one source that are alive in the simulation, and what each will do next. */
#ifndef FLEET_SLOTS_H
#define FLEET_SLOTS_H

#include "event.h"

#include <stdint.h>

#define SLOT_NONE  UINT32_MAX
#define SLOT_NEVER UINT64_MAX

enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_HIBERNATED, SLOT_STATES };
enum slot_action { ACTION_HIBERNATE, ACTION_RESUME, ACTION_DESTROY };

struct slot {
    uint64_t sandbox;
    uint64_t due_ms; /* boot time of its next action */
    uint64_t end_ms; /* boot time of its planned end */
    uint64_t born_n; /* number of the line that made it known */
    uint64_t counters[COUNTERS];
    uint64_t mem_bytes;
    uint64_t mem_peak_bytes;
    uint32_t team;
    uint32_t project;
    uint32_t vcpus;
    uint32_t mem_mib;
    uint32_t disk_mib;
    uint32_t list_at; /* its place in the list of its state */
    uint8_t state;
    uint8_t action;
    uint8_t hibernations_left;
    uint8_t lasting; /* counted among those that live long */
};

struct slot_list {
    uint32_t *items;
    uint32_t count;
};

/* Owns its arrays. `lists` holds the slots of each state, `heap` those alive by due time. */
struct slots {
    struct slot *slots;
    uint32_t capacity;
    struct slot_list lists[SLOT_STATES];
    uint32_t *heap;
    uint32_t heap_count;
    uint32_t lasting;
};

/* Room for `capacity` sandboxes; aborts when memory is out. */
void slots_init(struct slots *slots, uint32_t capacity);

/* Releases everything; safe on a zeroed struct. */
void slots_destroy(struct slots *slots);

/* Moves a slot to another state (SLOT_FREE: it is gone). */
void slots_move(struct slots *slots, uint32_t at, enum slot_state state);

/* Puts a slot, whose due_ms is set, among those that will act. */
void slots_schedule(struct slots *slots, uint32_t at);

/* The due time of the next to act, SLOT_NEVER when none. */
uint64_t slots_next_due(const struct slots *slots);

/* Takes the next to act. */
uint32_t slots_pop(struct slots *slots);

/* Forgets all that was scheduled. */
void slots_unschedule_all(struct slots *slots);

#endif
