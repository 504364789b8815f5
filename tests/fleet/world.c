/* The simulated life of one source.
 *
 * HAPPY PATH  A few sandboxes run already (PHASE_ADOPT). Then two streams of events merge by time: what each sandbox
 * planned (hibernate, resume, end), kept in a heap, and fillers (create, sample, exec, api call, tick), whose pace is
 * set so that the wanted number of events fills the wanted span. Half-way the host may go down (PHASE_REBOOT). At the
 * end most sandboxes are destroyed (PHASE_WIND_DOWN; all of them with clock=system, where nothing may run on
 * unobserved), and ticks carry time past the last hour (PHASE_DRAIN). INVARIANTS  t_ms never falls within a boot. A
 * slot that is alive and not being destroyed is in the heap. Events on the exact millisecond of minute and hour
 * boundaries are made on purpose: that is where meters go wrong. */
#include "world.h"
#include "mix.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MINUTE_MS = 60000,
    HOUR_MS = 3600000,
    REBOOT_TAKES_MS = 45000,
    WIND_DOWN_MS = 60000,
    DRAIN_TICK_MS = 600000,
};

uint64_t world_wall_ms(const struct world *world, uint64_t boot_ms)
{
    return world->anchor_wall_ms + (boot_ms - world->anchor_boot_ms);
}

static uint64_t boot_of_wall(const struct world *world, uint64_t wall_ms)
{
    return wall_ms <= world->anchor_wall_ms ? world->anchor_boot_ms
                                            : world->anchor_boot_ms + (wall_ms - world->anchor_wall_ms);
}

/* The first boot time at or after `boot_ms` that is a UTC boundary of `width_ms`. */
static uint64_t next_boundary(const struct world *world, uint64_t boot_ms, uint64_t width_ms)
{
    uint64_t rest = world_wall_ms(world, boot_ms) % width_ms;
    return rest == 0 ? boot_ms : boot_ms + (width_ms - rest);
}

/* Sets the anchor of the present boot and what follows from it. */
static void anchor(struct world *world, struct world_present present)
{
    const struct fleet_options *options = world->options;
    uint64_t draw = rng_mix(options->seed * 1000003 + world->runner * 64 + world->boot);
    world->boot++;
    snprintf(world->boot_id, sizeof world->boot_id, "boot-%llu-%u", (unsigned long long)options->seed, world->boot);
    if (options->clock_system) {
        world->anchor_boot_ms = present.boot_ms;
        world->anchor_wall_ms = present.wall_ms;
        world->end_ms = options->seconds == 0 ? SLOT_NEVER : present.boot_ms + options->seconds * 1000;
        world->final_ms = present.boot_ms;
        world->reboot_ms = SLOT_NEVER;
    } else {
        uint64_t half_ms = options->span_ms / 2, end_wall_ms = options->start_ms + options->span_ms;
        uint64_t jitter_ms = draw % (half_ms < 2000 ? half_ms + 1 : 2000);
        bool first = world->boot == 1;
        world->anchor_boot_ms = (first ? 1000000 : 20000) + draw % 100000000;
        world->anchor_wall_ms = options->start_ms + jitter_ms + (first ? 0 : half_ms + REBOOT_TAKES_MS);
        world->end_ms = boot_of_wall(world, end_wall_ms);
        world->final_ms = boot_of_wall(world, (end_wall_ms + HOUR_MS - 1) / HOUR_MS * HOUR_MS + options->drain_ms);
        world->reboot_ms = options->reboot && first ? boot_of_wall(world, options->start_ms + half_ms) : SLOT_NEVER;
    }
    world->t_ms = world->anchor_boot_ms;
    world->next_us = world->t_ms * 1000;
    world->phase = PHASE_ADOPT;
}

void world_init(struct world *world, const struct fleet_options *options, uint32_t runner, uint32_t index,
                uint32_t count, struct world_present present)
{
    *world = (struct world){.options = options, .runner = runner, .source = index};
    uint64_t capacity = options->sandboxes / count + (index < options->sandboxes % count);
    world->quota = options->events / count + (index < options->events % count);
    world->rng.state = rng_mix(options->seed ^ UINT64_C(0x5eed)) + index;
    world->tells_capacity = index % options->sources == 0;
    if (capacity == 0) capacity = 1;
    slots_init(&world->slots, (uint32_t)capacity);
    world->readopt = calloc(capacity, sizeof *world->readopt);
    assert(world->readopt != NULL);
    world->adopt_left = capacity < 4 ? 0 : (uint32_t)(capacity / 20 + 1);
    anchor(world, present);
}

void world_destroy(struct world *world)
{
    slots_destroy(&world->slots);
    free(world->readopt);
    *world = (struct world){0};
}

void world_boot(struct world *world)
{
    assert(world->phase == PHASE_REBOOT);
    slots_unschedule_all(&world->slots);
    for (int state = SLOT_RUNNING; state < SLOT_STATES; state++)
        while (world->slots.lists[state].count > 0)
            slots_move(&world->slots, world->slots.lists[state].items[0], SLOT_FREE);
    world->readopt_count = 0;
    anchor(world, (struct world_present){0});
    world->phase = PHASE_RUN;
}

void world_readopt(struct world *world, uint64_t acked)
{
    world->readopt_count = 0;
    for (uint32_t i = 0; i < world->slots.capacity; i++) {
        const struct slot *slot = &world->slots.slots[i];
        if (slot->state != SLOT_FREE && slot->born_n <= acked) world->readopt[world->readopt_count++] = i;
    }
}

/* Plans what a sandbox does next, from now on; `end_ms` is kept at or after it. */
static void plan(struct world *world, uint32_t at)
{
    struct slot *slot = &world->slots.slots[at];
    struct rng *rng = &world->rng;
    uint64_t left_ms = slot->end_ms == SLOT_NEVER   ? HOUR_MS
                       : slot->end_ms > world->t_ms ? slot->end_ms - world->t_ms
                                                    : 0;
    bool sleeps = slot->state == SLOT_HIBERNATED;
    slot->action = ACTION_DESTROY;
    slot->due_ms = slot->end_ms;
    if (sleeps ? !rng_one_in(rng, 10) || slot->end_ms == SLOT_NEVER : slot->hibernations_left > 0) {
        slot->action = sleeps ? ACTION_RESUME : ACTION_HIBERNATE;
        slot->due_ms = world->t_ms + rng_below(rng, left_ms / (slot->hibernations_left + 1U) + 1);
    }
    if (slot->due_ms != SLOT_NEVER && !world->options->clock_system) {
        if (rng_one_in(rng, 32)) slot->due_ms = next_boundary(world, slot->due_ms, MINUTE_MS);
        if (rng_one_in(rng, 256)) slot->due_ms = next_boundary(world, slot->due_ms, HOUR_MS);
    }
    if (slot->end_ms < slot->due_ms) slot->end_ms = slot->due_ms;
    slots_schedule(&world->slots, at);
}

static void fill_sandbox(const struct world *world, uint32_t at, struct event *event)
{
    const struct slot *slot = &world->slots.slots[at];
    event->slot = at;
    event->sandbox = slot->sandbox;
    event->team = slot->team;
    event->project = slot->project;
    event->vcpus = slot->vcpus;
    event->mem_mib = slot->mem_mib;
    event->disk_mib = slot->disk_mib;
}

static uint32_t pick(struct world *world, enum slot_state state)
{
    const struct slot_list *list = &world->slots.lists[state];
    return list->items[rng_below(&world->rng, list->count)];
}

/* A new sandbox in a free slot: created, forked from one that runs, restored, or adopted. */
static void make_birth(struct world *world, enum event_type type, uint64_t n, struct event *event)
{
    struct rng *rng = &world->rng;
    uint32_t at = pick(world, SLOT_FREE);
    struct slot *slot = &world->slots.slots[at];
    event->type = type;
    event->origin = rng_one_in(rng, 6) ? ORIGIN_RESTORE : ORIGIN_CREATE;
    uint32_t team_a = (uint32_t)rng_below(rng, world->options->teams),
             team_b = (uint32_t)rng_below(rng, world->options->teams);
    slot->team = team_a < team_b ? team_a : team_b;
    slot->project = (uint32_t)rng_below(rng, world->options->projects);
    mix_allocation(rng, slot);
    if (type == EVENT_CREATED && world->slots.lists[SLOT_RUNNING].count > 0 && rng_one_in(rng, 6)) {
        const struct slot *parent = &world->slots.slots[pick(world, SLOT_RUNNING)];
        event->origin = ORIGIN_FORK;
        slot->team = parent->team;
        slot->project = parent->project;
        slot->vcpus = parent->vcpus;
        slot->mem_mib = parent->mem_mib;
        slot->disk_mib = parent->disk_mib;
    }
    slot->sandbox = rng_mix(((uint64_t)world->source << 40 | world->born++) ^ rng_mix(world->options->seed));
    slot->born_n = n;
    uint64_t life_ms = mix_lifetime(rng, world->slots.lasting, world->slots.capacity);
    slot->lasting = life_ms >= MIX_LASTING_MS;
    world->slots.lasting += slot->lasting;
    slot->end_ms = life_ms == SLOT_NEVER ? SLOT_NEVER : world->t_ms + life_ms;
    slot->hibernations_left = life_ms >= 200 && rng_one_in(rng, 4) ? (uint8_t)rng_between(rng, 1, 4) : 0;
    event->running = type == EVENT_CREATED || !rng_one_in(rng, 4);
    event->create_ms = (uint32_t)rng_between(rng, 9, 30);
    event->has_paths = rng_one_in(rng, 8);
    slots_move(&world->slots, at, event->running ? SLOT_RUNNING : SLOT_HIBERNATED);
    fill_sandbox(world, at, event);
    plan(world, at);
}

static void make_destroy(struct world *world, uint32_t at, enum event_reason reason, struct event *event)
{
    event->type = EVENT_DESTROYED;
    event->reason = reason;
    mix_counters(&world->rng, &world->slots.slots[at], event);
    if (rng_one_in(&world->rng, 5)) event->present = 0;
    fill_sandbox(world, at, event);
    slots_move(&world->slots, at, SLOT_FREE);
}

/* What the sandbox had planned for this moment. */
static void make_planned(struct world *world, uint32_t at, struct event *event)
{
    struct slot *slot = &world->slots.slots[at];
    if (slot->action == ACTION_DESTROY) {
        make_destroy(world, at, mix_reason(&world->rng), event);
        return;
    }
    fill_sandbox(world, at, event);
    if (slot->action == ACTION_HIBERNATE) {
        event->type = EVENT_HIBERNATED;
        slot->hibernations_left--;
        slots_move(&world->slots, at, SLOT_HIBERNATED);
    } else {
        event->type = EVENT_RESUMED;
        event->has_create_ms = rng_one_in(&world->rng, 2);
        event->create_ms = (uint32_t)rng_between(&world->rng, 9, 30);
        if (rng_one_in(&world->rng, 3))
            for (int i = 0; i < COUNTERS; i++) slot->counters[i] = 0;
        slots_move(&world->slots, at, SLOT_RUNNING);
    }
    plan(world, at);
}

static void make_api(struct world *world, struct event *event)
{
    struct rng *rng = &world->rng;
    event->type = EVENT_API;
    event->team = (uint32_t)rng_below(rng, world->options->teams);
    event->project = rng_one_in(rng, 4) ? PROJECT_NONE : (uint32_t)rng_below(rng, world->options->projects);
    event->operation = (uint32_t)rng_below(rng, OPERATIONS);
    event->status = mix_status(rng);
}

static void make_capacity(struct world *world, struct event *event)
{
    static const uint64_t totals[CAPACITIES] = {4096, 16777216, 1073741824, 40};
    event->type = EVENT_CAPACITY;
    for (int i = 0; i < CAPACITIES; i++) event->capacity[i] = totals[i] - rng_below(&world->rng, 3);
}

/* Something that no sandbox planned; turned into what is possible now. */
static void make_filler(struct world *world, uint64_t n, struct event *event)
{
    enum mix_filler filler = mix_filler(&world->rng);
    if (filler == FILLER_CREATE && world->slots.lists[SLOT_FREE].count == 0) filler = FILLER_USAGE;
    if ((filler == FILLER_USAGE || filler == FILLER_EXEC) && world->slots.lists[SLOT_RUNNING].count == 0)
        filler = world->slots.lists[SLOT_FREE].count > 0 ? FILLER_CREATE : FILLER_API;
    if (filler == FILLER_CAPACITY && !world->tells_capacity) filler = FILLER_TICK;
    uint32_t at;
    switch (filler) {
    case FILLER_CREATE: make_birth(world, EVENT_CREATED, n, event); break;
    case FILLER_USAGE:
        at = pick(world, SLOT_RUNNING);
        event->type = EVENT_USAGE;
        mix_counters(&world->rng, &world->slots.slots[at], event);
        fill_sandbox(world, at, event);
        break;
    case FILLER_EXEC:
        at = pick(world, SLOT_RUNNING);
        event->type = EVENT_EXEC;
        event->exit_code = mix_exit_code(&world->rng);
        event->duration_ms = rng_below(&world->rng, 30000);
        fill_sandbox(world, at, event);
        break;
    case FILLER_API: make_api(world, event); break;
    case FILLER_CAPACITY: make_capacity(world, event); break;
    case FILLER_TICK:
    case FILLERS: event->type = EVENT_TICK; break;
    }
}

/* Sets the time of the next filler: what is left of the span over what is left of the events. */
static void pace(struct world *world)
{
    uint64_t end_us = world->end_ms == SLOT_NEVER ? 0 : world->end_ms * 1000;
    uint64_t left_us = end_us > world->next_us ? end_us - world->next_us : 0;
    uint64_t before_ms = world->next_us / 1000;
    world->next_us += rng_below(&world->rng, 2 * left_us / (world->quota + 1) + 1);
    uint64_t boundary_ms = next_boundary(world, before_ms + 1, MINUTE_MS);
    if (!world->options->clock_system && boundary_ms < world->next_us / 1000 && rng_one_in(&world->rng, 2))
        world->next_us = boundary_ms * 1000;
}

static enum world_step step_run(struct world *world, uint64_t limit_ms, uint64_t n, struct event *event)
{
    uint64_t due_ms = slots_next_due(&world->slots), filler_ms = world->next_us / 1000;
    uint64_t at_ms = due_ms <= filler_ms ? due_ms : filler_ms;
    uint64_t stop_ms = world->reboot_ms < world->end_ms ? world->reboot_ms : world->end_ms;
    if (at_ms > limit_ms && !world->stopping && limit_ms < stop_ms) return WORLD_WAIT;
    if (world->quota == 0 || world->stopping || at_ms >= stop_ms) {
        bool down = world->reboot_ms != SLOT_NEVER && !world->stopping;
        bool keeps_some = !world->options->clock_system && !world->options->all_end;
        world->phase = down ? PHASE_REBOOT : PHASE_WIND_DOWN;
        for (int state = SLOT_RUNNING; state < SLOT_STATES; state++)
            world->keep[state] = keeps_some ? (world->slots.lists[state].count + 9) / 10 : 0;
        return world_next(world, limit_ms, n, event);
    }
    world->t_ms = world->options->clock_system ? limit_ms : at_ms > world->t_ms ? at_ms : world->t_ms;
    world->quota--;
    if (due_ms <= filler_ms) {
        make_planned(world, slots_pop(&world->slots), event);
    } else {
        make_filler(world, n, event);
        pace(world);
    }
    event->boot_ms = world->t_ms;
    return WORLD_EVENT;
}

static enum world_step step_wind_down(struct world *world, uint64_t limit_ms, uint64_t n, struct event *event)
{
    slots_unschedule_all(&world->slots);
    for (int state = SLOT_RUNNING; state < SLOT_STATES; state++) {
        const struct slot_list *list = &world->slots.lists[state];
        if (list->count <= world->keep[state]) continue;
        uint64_t gap_ms = rng_below(&world->rng, 2 * WIND_DOWN_MS / world->slots.capacity + 1);
        world->t_ms = world->options->clock_system ? limit_ms : world->t_ms + gap_ms;
        make_destroy(world, pick(world, (enum slot_state)state), REASON_API, event);
        event->boot_ms = world->t_ms;
        return WORLD_EVENT;
    }
    world->phase = world->options->clock_system ? PHASE_DONE : PHASE_DRAIN;
    return world_next(world, limit_ms, n, event);
}

static enum world_step step_drain(struct world *world, struct event *event)
{
    if (world->t_ms >= world->final_ms) {
        world->phase = PHASE_DONE;
        return WORLD_DONE;
    }
    uint64_t left_ms = world->final_ms - world->t_ms;
    world->t_ms += left_ms < DRAIN_TICK_MS ? left_ms : DRAIN_TICK_MS;
    event->type = EVENT_TICK;
    event->boot_ms = world->t_ms;
    return WORLD_EVENT;
}

/* A slot announced again may be gone or asleep by now; what it is now counts. */
static bool step_readopt(struct world *world, uint64_t limit_ms, uint64_t n, struct event *event)
{
    if (world->readopt_count == 0) return false;
    uint32_t at = world->readopt[--world->readopt_count];
    struct slot *slot = &world->slots.slots[at];
    if (world->options->clock_system) world->t_ms = limit_ms;
    event->type = EVENT_ADOPTED;
    event->running = slot->state == SLOT_RUNNING;
    event->boot_ms = world->t_ms;
    slot->born_n = n;
    fill_sandbox(world, at, event);
    return true;
}

enum world_step world_next(struct world *world, uint64_t limit_ms, uint64_t n, struct event *event)
{
    *event = (struct event){0};
    if (step_readopt(world, limit_ms, n, event)) return WORLD_EVENT;
    switch (world->phase) {
    case PHASE_ADOPT:
        if (world->adopt_left-- > 0) {
            make_birth(world, EVENT_ADOPTED, n, event);
            event->boot_ms = world->t_ms;
            return WORLD_EVENT;
        }
        world->phase = PHASE_RUN;
        return step_run(world, limit_ms, n, event);
    case PHASE_RUN: return step_run(world, limit_ms, n, event);
    case PHASE_REBOOT: return WORLD_REBOOT;
    case PHASE_WIND_DOWN: return step_wind_down(world, limit_ms, n, event);
    case PHASE_DRAIN: return step_drain(world, event);
    case PHASE_DONE: break;
    }
    return WORLD_DONE;
}
