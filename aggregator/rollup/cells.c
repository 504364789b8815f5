#include "aggregator/rollup/cells.h"

#include <assert.h>
#include <xxhash.h>

#include "aggregator/rollup/memory.h"
#include "proto/keys.h"

enum { SLOTS_FIRST = 1024 };

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

uint64_t cells_hash(const char *id)
{
    return XXH3_64bits(id, strlen(id));
}

void cells_init(struct cells *c, uint32_t shards)
{
    *c = (struct cells){.slot_count = SLOTS_FIRST, .group_slot_count = SLOTS_FIRST, .shards = shards};
    c->slot = memory_checked(calloc(c->slot_count, sizeof(struct cell *)));
    c->group = memory_checked(calloc(c->group_slot_count, sizeof(struct group *)));
    c->dirty = memory_checked(calloc(shards, sizeof *c->dirty));
}

static void cell_free(struct cell *cell)
{
    sums_destroy(&cell->sums);
    free(cell->run);
    free(cell->sandbox);
    free(cell);
}

void cells_destroy(struct cells *c)
{
    for (size_t i = 0; i < c->slot_count; i++)
        if (c->slot[i]) cell_free(c->slot[i]);
    for (size_t i = 0; i < c->group_slot_count; i++) free(c->group[i]);
    for (uint32_t s = 0; s < c->shards; s++) free(c->dirty[s].cell);
    free(c->slot);
    free(c->group);
    free(c->dirty);
    *c = (struct cells){0};
}

/* ---- groups ---- */

static void group_insert(struct cells *c, struct group *g)
{
    size_t i = g->hash & (c->group_slot_count - 1);
    while (c->group[i]) i = (i + 1) & (c->group_slot_count - 1);
    c->group[i] = g;
}

static void groups_grow(struct cells *c)
{
    struct group **old = c->group;
    size_t count = c->group_slot_count;
    c->group_slot_count *= 2;
    c->group = memory_checked(calloc(c->group_slot_count, sizeof(struct group *)));
    for (size_t i = 0; i < count; i++)
        if (old[i]) group_insert(c, old[i]);
    free(old);
}

static void id_copy(struct id *out, const char *s)
{
    size_t length = strlen(s);
    assert(length <= ID_BYTES_MAX);
    memcpy(out->s, s, length + 1);
}

struct group *cells_group(struct cells *c, uint32_t partition, const char *team, const char *project,
                          const char *region, const uint64_t hashes[3])
{
    uint64_t hash = mix(hashes[0] + mix(hashes[1] + mix(hashes[2] + partition)));
    size_t i = hash & (c->group_slot_count - 1);
    for (; c->group[i]; i = (i + 1) & (c->group_slot_count - 1)) {
        struct group *g = c->group[i];
        if (g->hash == hash && g->partition == partition && strcmp(g->team.s, team) == 0 &&
            strcmp(g->project.s, project) == 0 && strcmp(g->region.s, region) == 0)
            return g;
    }
    struct group *g = memory_checked(calloc(1, sizeof *g));
    g->hash = hash;
    g->partition = partition;
    g->shard = shard_of_team(team, c->shards);
    id_copy(&g->team, team);
    id_copy(&g->project, project);
    id_copy(&g->region, region);
    if (2 * ++c->group_count > c->group_slot_count) groups_grow(c);
    group_insert(c, g);
    return g;
}

/* Takes slot i out of a table of linear probing; HASH(slot) is the hash of what stands there. */
#define TABLE_REMOVE(slots, slot_count, i, HASH)                                                                       \
    do {                                                                                                               \
        size_t hole_ = (i), next_ = (i);                                                                               \
        for (;;) {                                                                                                     \
            next_ = (next_ + 1) & ((slot_count)-1);                                                                    \
            if (!(slots)[next_]) break;                                                                                \
            size_t home_ = HASH((slots)[next_]) & ((slot_count)-1);                                                    \
            if (((next_ - home_) & ((slot_count)-1)) < ((next_ - hole_) & ((slot_count)-1))) continue;                 \
            (slots)[hole_] = (slots)[next_];                                                                           \
            hole_ = next_;                                                                                             \
        }                                                                                                              \
        (slots)[hole_] = NULL;                                                                                         \
    } while (0)
#define HASH_OF(p) ((p)->hash)

static void group_release(struct cells *c, struct group *g)
{
    assert(g->references > 0);
    if (--g->references) return;
    size_t i = g->hash & (c->group_slot_count - 1);
    while (c->group[i] != g) i = (i + 1) & (c->group_slot_count - 1);
    TABLE_REMOVE(c->group, c->group_slot_count, i, HASH_OF);
    c->group_count--;
    free(g);
}

/* ---- cells ---- */

static void cell_insert(struct cells *c, struct cell *cell)
{
    size_t i = cell->hash & (c->slot_count - 1);
    while (c->slot[i]) i = (i + 1) & (c->slot_count - 1);
    c->slot[i] = cell;
}

static struct cell *cell_new(struct cells *c, uint64_t hash, enum cell_kind kind)
{
    struct cell *cell = memory_checked(calloc(1, sizeof *cell));
    cell->hash = hash;
    cell->kind = (uint8_t)kind;
    if (2 * ++c->count > c->slot_count) {
        struct cell **old = c->slot;
        size_t count = c->slot_count;
        c->slot_count *= 2;
        c->slot = memory_checked(calloc(c->slot_count, sizeof(struct cell *)));
        for (size_t i = 0; i < count; i++)
            if (old[i]) cell_insert(c, old[i]);
        free(old);
    }
    cell_insert(c, cell);
    return cell;
}

struct cell *cells_rollup(struct cells *c, struct group *g, enum window_kind w, struct wall_ms start)
{
    struct cell *recent = g->recent[w];
    if (recent && recent->start.v == start.v) return recent;
    uint64_t hash = mix(g->hash + mix((uint64_t)start.v * WINDOW_KINDS + w));
    size_t i = hash & (c->slot_count - 1);
    for (; c->slot[i]; i = (i + 1) & (c->slot_count - 1)) {
        struct cell *cell = c->slot[i];
        if (cell->hash != hash || cell->group != g) continue;
        assert(cell->window == w && cell->start.v == start.v); /* mix is one to one, so a group's windows differ */
        return g->recent[w] = cell;
    }
    struct cell *cell = cell_new(c, hash, CELL_ROLLUP);
    cell->group = g;
    cell->window = (uint8_t)w;
    cell->start = start;
    cell->partition = g->partition;
    cell->shard = g->shard;
    g->references++;
    return g->recent[w] = cell;
}

static struct cell *sandbox_cell(struct cells *c, uint64_t hash, enum cell_kind kind, uint32_t partition,
                                 uint32_t shard, const char *sandbox, struct wall_ms start)
{
    size_t i = hash & (c->slot_count - 1);
    for (; c->slot[i]; i = (i + 1) & (c->slot_count - 1)) {
        struct cell *cell = c->slot[i];
        if (cell->hash == hash && cell->kind == kind && cell->partition == partition && cell->shard == shard &&
            cell->start.v == start.v && strcmp(cell->sandbox, sandbox) == 0)
            return cell;
    }
    struct cell *cell = cell_new(c, hash, kind);
    cell->partition = partition;
    cell->shard = shard;
    cell->start = start;
    cell->sandbox = memory_text(sandbox, strlen(sandbox));
    return cell;
}

struct cell *cells_run(struct cells *c, uint32_t partition, uint32_t shard, const char *sandbox, uint64_t hash)
{
    uint64_t h = mix(hash + ((uint64_t)partition << 16) + shard);
    return sandbox_cell(c, h, CELL_RUN, partition, shard, sandbox, (struct wall_ms){0});
}

struct cell *cells_run_hour(struct cells *c, const struct cell *run, struct wall_ms hour)
{
    return sandbox_cell(c, mix(run->hash + (uint64_t)hour.v + 1), CELL_RUN_HOUR, run->partition, run->shard,
                        run->sandbox, hour);
}

static void dirty_push(struct cells *c, struct cell *cell)
{
    struct cell_list *l = &c->dirty[cell->shard];
    if (cell->dirty) return;
    l->cell = memory_grow(l->cell, &l->capacity, l->count + 1, sizeof *l->cell);
    l->cell[l->count++] = cell;
    cell->dirty = true;
}

enum sg_error cells_load(struct cells *c, struct cell *cell, const char *text, size_t length, uint64_t vouched)
{
    enum sg_error e = SG_OK;
    assert(!cell->read);
    if (cell->kind == CELL_RUN && !cell->run) cell->run = memory_checked(calloc(1, sizeof *cell->run));
    if (text)
        e = cell->kind == CELL_RUN ? run_cell_decode(text, length, &cell->offset, cell->run)
                                   : cell_decode(text, length, &cell->offset, &cell->sums);
    if (e) return e;
    cell->read = true;
    cell->indexed = text && cell->offset <= vouched;
    if (cell->offset > vouched) dirty_push(c, cell);
    return SG_OK;
}

void cells_touch(struct cells *c, struct cell *cell, uint64_t offset, struct wall_ms message_time)
{
    assert(cell->read && cell->offset < offset);
    cell->offset = offset;
    if (message_time.v > cell->last.v) cell->last = message_time;
    dirty_push(c, cell);
}

int64_t cells_expiry_s(const struct cell *cell)
{
    bool minute = cell->kind == CELL_ROLLUP && cell->window == WINDOW_MINUTE;
    if (cell->last.v == 0 || (cell->kind == CELL_ROLLUP && !minute)) return 0;
    int64_t at = (cell->last.v + (minute ? CELLS_MINUTE_KEPT_MS : CELLS_RUN_KEPT_MS)) / SECOND_MS;
    return (at / CELLS_EXPIRY_STEP_S + 1) * CELLS_EXPIRY_STEP_S;
}

void cells_vouched(struct cells *c, uint32_t shard, const uint64_t *vouched)
{
    struct cell_list *l = &c->dirty[shard];
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct cell *cell = l->cell[i];
        cell->expiry_s = cells_expiry_s(cell);
        cell->reborn = false;
        cell->dirty = cell->offset > vouched[cell->partition];
        if (cell->dirty)
            l->cell[kept++] = cell;
        else
            cell->indexed = true;
    }
    l->count = kept;
}

/* ---- forgetting ---- */

static void cell_remove(struct cells *c, size_t i)
{
    struct cell *cell = c->slot[i];
    TABLE_REMOVE(c->slot, c->slot_count, i, HASH_OF);
    c->count--;
    struct group *g = cell->group;
    if (g && g->recent[cell->window] == cell) g->recent[cell->window] = NULL;
    if (g) group_release(c, g);
    cell_free(cell);
}

void cells_forget(struct cells *c, uint32_t shard, uint32_t partition)
{
    for (uint32_t s = 0; s < c->shards; s++) {
        struct cell_list *l = &c->dirty[s];
        size_t kept = 0;
        for (size_t i = 0; i < l->count; i++)
            if (!((shard == UINT32_MAX || s == shard) &&
                  (partition == UINT32_MAX || l->cell[i]->partition == partition)))
                l->cell[kept++] = l->cell[i];
        l->count = kept;
    }
    for (size_t i = 0; i < c->slot_count;) {
        struct cell *cell = c->slot[i];
        if (cell && (shard == UINT32_MAX || cell->shard == shard) &&
            (partition == UINT32_MAX || cell->partition == partition))
            cell_remove(c, i); /* what moved into this slot is looked at next */
        else
            i++;
    }
}

void cells_sweep(struct cells *c, uint32_t before, size_t slots)
{
    while (slots > 0 && c->count > 0) {
        size_t i = c->sweep & (c->slot_count - 1);
        struct cell *cell = c->slot[i];
        if (cell && !cell->dirty && cell->touched < before) {
            cell_remove(c, i); /* what moved into this slot is looked at next */
        } else {
            c->sweep = i + 1;
            slots--;
        }
    }
}
