/* The exact totals, in integers.
 *
 * HAPPY PATH  A span that runs is remembered by its start only. When it ends (hibernated, destroyed, the host down, the
 * end of all) its length is split at window boundaries and multiplied by the allocation. Counters rise from the last
 * value seen. INVARIANTS  Nothing is added for an event that was refused. A sandbox that does not run adds nothing but
 * its counters. */
#include "oracle.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void grid_init(struct oracle_grid *grid, uint64_t width_ms, uint64_t groups, uint64_t from_ms, uint64_t to_ms)
{
    grid->width_ms = width_ms;
    grid->first = from_ms / width_ms;
    grid->windows = to_ms / width_ms - grid->first + 1;
    grid->cells = calloc(groups * grid->windows, sizeof *grid->cells);
    assert(grid->cells != NULL);
}

uint64_t oracle_groups(const struct oracle *oracle)
{
    return oracle->region_count * oracle->options->teams * (oracle->options->projects + 1);
}

static uint32_t region_index(struct oracle *oracle, const char *region)
{
    uint32_t i = 0;
    while (i < oracle->region_count && strcmp(oracle->regions[i], region) != 0) i++;
    if (i == oracle->region_count) oracle->regions[oracle->region_count++] = region;
    return i;
}

void oracle_init(struct oracle *oracle, const struct fleet_options *options, uint32_t slots, uint64_t from_ms,
                 uint64_t to_ms)
{
    *oracle = (struct oracle){.options = options};
    oracle->source_count = options->runner_count * (uint32_t)options->sources;
    oracle->sources = calloc(oracle->source_count, sizeof *oracle->sources);
    oracle->runs = calloc(ORACLE_RUNS_MAX, sizeof *oracle->runs);
    assert(oracle->sources != NULL && oracle->runs != NULL);
    for (uint32_t i = 0; i < oracle->source_count; i++) {
        struct oracle_source *source = &oracle->sources[i];
        source->runner = i / (uint32_t)options->sources;
        source->region = region_index(oracle, options->runners[source->runner].region);
        source->sandbox_count = slots;
        source->sandboxes = calloc(slots, sizeof *source->sandboxes);
        assert(source->sandboxes != NULL);
    }
    grid_init(&oracle->hours, 3600000, oracle_groups(oracle), from_ms, to_ms);
    if (options->minutes) grid_init(&oracle->minutes, 60000, oracle_groups(oracle), from_ms, to_ms);
}

static void grid_destroy(struct oracle_grid *grid, uint64_t groups)
{
    if (grid->cells == NULL) return;
    for (uint64_t i = 0; i < groups * grid->windows; i++) free(grid->cells[i]);
    free(grid->cells);
}

void oracle_destroy(struct oracle *oracle)
{
    if (oracle->options == NULL) return;
    grid_destroy(&oracle->hours, oracle_groups(oracle));
    grid_destroy(&oracle->minutes, oracle_groups(oracle));
    for (uint32_t i = 0; i < oracle->source_count; i++) free(oracle->sources[i].sandboxes);
    free(oracle->sources);
    free(oracle->runs);
    *oracle = (struct oracle){0};
}

static struct oracle_cell *cell_at(struct oracle_grid *grid, uint64_t group, uint64_t wall_ms)
{
    uint64_t window = wall_ms / grid->width_ms - grid->first;
    assert(wall_ms / grid->width_ms >= grid->first && window < grid->windows);
    struct oracle_cell **cell = &grid->cells[group * grid->windows + window];
    if (*cell == NULL) *cell = calloc(1, sizeof **cell);
    assert(*cell != NULL);
    return *cell;
}

static uint64_t group_of(const struct oracle *oracle, uint32_t region, uint32_t team, uint32_t project)
{
    uint64_t projects = oracle->options->projects + 1;
    return (region * oracle->options->teams + team) * projects + (project == PROJECT_NONE ? projects - 1 : project);
}

static uint64_t wall_of(const struct oracle_source *source, uint64_t boot_ms)
{
    return source->anchor_wall_ms + (boot_ms - source->anchor_boot_ms);
}

/* Adds to one field at one moment. */
static void count(struct oracle *oracle, uint64_t group, uint64_t wall_ms, int field, uint64_t amount)
{
    cell_at(&oracle->hours, group, wall_ms)->fields[field] += amount;
    if (oracle->minutes.cells != NULL) cell_at(&oracle->minutes, group, wall_ms)->fields[field] += amount;
}

static void integrate(struct oracle_grid *grid, uint64_t group, const struct oracle_sandbox *sandbox, uint64_t from_ms,
                      uint64_t to_ms)
{
    while (from_ms < to_ms) {
        uint64_t boundary_ms = (from_ms / grid->width_ms + 1) * grid->width_ms;
        uint64_t length_ms = (to_ms < boundary_ms ? to_ms : boundary_ms) - from_ms;
        uint64_t *fields = cell_at(grid, group, from_ms)->fields;
        fields[FIELD_RUNNING_MS] += length_ms;
        fields[FIELD_VCPU_MS] += length_ms * sandbox->vcpus;
        fields[FIELD_MEM_MIB_MS] += length_ms * sandbox->mem_mib;
        fields[FIELD_DISK_MIB_MS] += length_ms * sandbox->disk_mib;
        from_ms += length_ms;
    }
}

/* The span that runs ends at a boot time. */
static void stop(struct oracle *oracle, const struct oracle_source *source, struct oracle_sandbox *sandbox,
                 uint64_t boot_ms)
{
    if (!sandbox->running) return;
    assert(boot_ms >= sandbox->since_ms);
    uint64_t group = group_of(oracle, source->region, sandbox->team, sandbox->project);
    uint64_t from_ms = wall_of(source, sandbox->since_ms), to_ms = wall_of(source, boot_ms);
    integrate(&oracle->hours, group, sandbox, from_ms, to_ms);
    if (oracle->minutes.cells != NULL) integrate(&oracle->minutes, group, sandbox, from_ms, to_ms);
    sandbox->running_ms += boot_ms - sandbox->since_ms;
    sandbox->running = false;
}

static void rise(struct oracle *oracle, const struct oracle_source *source, struct oracle_sandbox *sandbox,
                 const struct event *event)
{
    uint64_t group = group_of(oracle, source->region, sandbox->team, sandbox->project);
    for (int i = 0; i < COUNTERS; i++) {
        if (!(event->present >> i & 1)) continue;
        uint64_t value = event->counters[i], last = sandbox->last[i];
        uint64_t risen = value >= last ? value - last : value;
        if (!(sandbox->based >> i & 1)) risen = 0;
        sandbox->based |= 1U << i;
        sandbox->last[i] = value;
        if (i == COUNTER_CPU_US) sandbox->cpu_us += risen;
        count(oracle, group, wall_of(source, event->boot_ms), FIELD_COUNTERS + i, risen);
    }
}

static void birth(struct oracle *oracle, uint32_t index, struct oracle_sandbox *sandbox, const struct event *event)
{
    const struct oracle_source *source = &oracle->sources[index];
    if (sandbox->alive && event->type == EVENT_ADOPTED) return; /* announced again after a loss that cannot be exact */
    assert(!sandbox->alive);
    *sandbox = (struct oracle_sandbox){.since_ms = event->boot_ms,
                                       .team = event->team,
                                       .project = event->project,
                                       .vcpus = event->vcpus,
                                       .mem_mib = event->mem_mib,
                                       .disk_mib = event->disk_mib,
                                       .run = ORACLE_NONE,
                                       .alive = true,
                                       .running = event->type == EVENT_CREATED || event->running};
    bool created = event->type == EVENT_CREATED;
    uint64_t wall_ms = wall_of(source, event->boot_ms);
    if (created) sandbox->based = (1U << COUNTERS) - 1;
    if (created)
        count(oracle, group_of(oracle, source->region, event->team, event->project), wall_ms,
              FIELD_CREATES + (int)event->origin, 1);
    oracle->sandboxes_seen++;
    if (oracle->run_count == ORACLE_RUNS_MAX) return;
    sandbox->run = oracle->run_count++;
    oracle->runs[sandbox->run] = (struct oracle_run){.sandbox = event->sandbox,
                                                     .created_ms = wall_ms,
                                                     .source = index,
                                                     .team = event->team,
                                                     .project = event->project,
                                                     .region = source->region,
                                                     .vcpus = event->vcpus,
                                                     .mem_mib = event->mem_mib,
                                                     .create_ms = event->create_ms,
                                                     .reason = REASONS,
                                                     .last_exit = EXIT_CODES,
                                                     .adopted = !created};
}

static void death(struct oracle *oracle, const struct oracle_source *source, struct oracle_sandbox *sandbox,
                  uint64_t boot_ms, uint32_t reason)
{
    stop(oracle, source, sandbox, boot_ms);
    uint64_t wall_ms = wall_of(source, boot_ms);
    count(oracle, group_of(oracle, source->region, sandbox->team, sandbox->project), wall_ms,
          FIELD_DESTROYS + (int)reason, 1);
    sandbox->alive = false;
    if (sandbox->run == ORACLE_NONE) return;
    struct oracle_run *run = &oracle->runs[sandbox->run];
    run->destroyed_ms = wall_ms;
    run->running_ms = sandbox->running_ms;
    run->cpu_us = sandbox->cpu_us;
    run->reason = reason;
}

void oracle_boot(struct oracle *oracle, uint32_t source_index, uint64_t boot_ms, uint64_t wall_ms)
{
    struct oracle_source *source = &oracle->sources[source_index];
    for (uint32_t i = 0; source->booted && i < source->sandbox_count; i++)
        if (source->sandboxes[i].alive) death(oracle, source, &source->sandboxes[i], source->newest_ms, REASON_HOST);
    source->booted = true;
    source->anchor_boot_ms = boot_ms;
    source->anchor_wall_ms = wall_ms;
    source->newest_ms = boot_ms;
}

static void apply_exec(struct oracle *oracle, const struct oracle_source *source, const struct oracle_sandbox *sandbox,
                       const struct event *event)
{
    uint64_t group = group_of(oracle, source->region, sandbox->team, sandbox->project);
    uint64_t wall_ms = wall_of(source, event->boot_ms);
    count(oracle, group, wall_ms, FIELD_EXECS, 1);
    count(oracle, group, wall_ms, FIELD_EXITS + (int)event->exit_code, 1);
    if (sandbox->run != ORACLE_NONE) oracle->runs[sandbox->run].last_exit = event->exit_code;
}

void oracle_apply(struct oracle *oracle, uint32_t source_index, const struct event *event)
{
    struct oracle_source *source = &oracle->sources[source_index];
    struct oracle_sandbox *sandbox = &source->sandboxes[event->slot];
    assert(source->booted && event->boot_ms >= source->newest_ms && event->slot < source->sandbox_count);
    source->newest_ms = event->boot_ms;
    switch (event->type) {
    case EVENT_CREATED:
    case EVENT_ADOPTED: birth(oracle, source_index, sandbox, event); break;
    case EVENT_USAGE: rise(oracle, source, sandbox, event); break;
    case EVENT_HIBERNATED: stop(oracle, source, sandbox, event->boot_ms); break;
    case EVENT_RESUMED:
        assert(sandbox->alive && !sandbox->running);
        sandbox->running = true;
        sandbox->since_ms = event->boot_ms;
        break;
    case EVENT_DESTROYED:
        rise(oracle, source, sandbox, event);
        death(oracle, source, sandbox, event->boot_ms, event->reason);
        if (sandbox->run == ORACLE_NONE) break;
        oracle->runs[sandbox->run].has_mem_peak = event->has_mem_peak;
        oracle->runs[sandbox->run].mem_peak_bytes = event->mem_peak_bytes;
        break;
    case EVENT_EXEC: apply_exec(oracle, source, sandbox, event); break;
    case EVENT_API:
        count(oracle, group_of(oracle, source->region, event->team, event->project), wall_of(source, event->boot_ms),
              FIELD_API + (int)(event->operation * STATUS_CLASSES + event->status / 100 - 1), 1);
        break;
    case EVENT_CAPACITY: memcpy(oracle->capacity[source->runner], event->capacity, sizeof event->capacity); break;
    case EVENT_TICK:
    case EVENT_TYPES: break;
    }
}

void oracle_lost(struct oracle *oracle, uint32_t source_index)
{
    struct oracle_source *source = &oracle->sources[source_index];
    for (uint32_t i = 0; i < source->sandbox_count; i++) {
        struct oracle_sandbox *sandbox = &source->sandboxes[i];
        if (!sandbox->alive) continue;
        stop(oracle, source, sandbox, source->newest_ms);
        sandbox->alive = false;
    }
}

/* A run that lives on: what it has until now. */
static void tell_living(struct oracle *oracle, const struct oracle_sandbox *sandbox, bool hibernated)
{
    if (sandbox->run == ORACLE_NONE) return;
    struct oracle_run *run = &oracle->runs[sandbox->run];
    run->running_ms = sandbox->running_ms;
    run->cpu_us = sandbox->cpu_us;
    run->hibernated = hibernated;
}

void oracle_finish(struct oracle *oracle)
{
    for (uint32_t s = 0; s < oracle->source_count; s++) {
        struct oracle_source *source = &oracle->sources[s];
        for (uint32_t i = 0; source->booted && i < source->sandbox_count; i++) {
            struct oracle_sandbox *sandbox = &source->sandboxes[i];
            if (!sandbox->alive) continue;
            bool running = sandbox->running;
            stop(oracle, source, sandbox, source->newest_ms);
            sandbox->running = running;
            tell_living(oracle, sandbox, !running);
        }
    }
}

bool oracle_sum(const struct oracle_grid *grid, uint64_t group, uint64_t at, uint64_t windows, struct oracle_cell *sum)
{
    bool any = false;
    for (uint64_t i = at; i < at + windows && i < grid->windows; i++) {
        const struct oracle_cell *cell = grid->cells[group * grid->windows + i];
        if (cell == NULL) continue;
        any = true;
        for (int field = 0; field < FIELDS; field++) sum->fields[field] += cell->fields[field];
    }
    return any;
}
