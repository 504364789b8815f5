/* The meter's table of sandboxes: open addressing with linear probing, grown at half full, deletion by shifting back,
 * so there are no tombstones and memory follows the number of sandboxes. One allocation per sandbox holds its numbers
 * and its names. Beside it, the marks: which sandboxes the next delta of the state must tell.
 *
 * INVARIANTS  slots is 0 or a power of two, count * 2 <= slots. A sandbox is in meter.dirty exactly while its change is
 * not UNCHANGED. An id is in meter.removed exactly when the stored state has it and its life there is over. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collector/meter_internal.h"

enum { SLOTS_MIN = 64 };

/* FNV-1a. Ids come from the host's own supervisor: nobody to defend against. */
static uint64_t hash_id(const char *id)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *id; id++) h = (h ^ (unsigned char)*id) * UINT64_C(1099511628211);
    return h ^ h >> 32;
}

static size_t slot_of(const struct sandbox_table *t, uint64_t hash, const char *id)
{
    size_t at = hash & (t->slots - 1);
    while (t->slot[at] && (t->slot[at]->hash != hash || strcmp(sandbox_id(t->slot[at]), id) != 0))
        at = (at + 1) & (t->slots - 1);
    return at;
}

struct sandbox *table_find(const struct sandbox_table *t, const char *id)
{
    return t->slots ? t->slot[slot_of(t, hash_id(id), id)] : NULL;
}

static bool table_grow(struct sandbox_table *t)
{
    struct sandbox_table grown = {
        .slots = t->slots ? t->slots * 2 : SLOTS_MIN, .count = t->count, .state_bytes = t->state_bytes};
    grown.slot = calloc(grown.slots, sizeof *grown.slot);
    if (!grown.slot) return false;
    for (size_t i = 0; i < t->slots; i++)
        if (t->slot[i]) grown.slot[slot_of(&grown, t->slot[i]->hash, sandbox_id(t->slot[i]))] = t->slot[i];
    free(t->slot);
    *t = grown;
    return true;
}

static uint16_t put_text(struct sandbox *s, size_t *used, const char *text)
{
    size_t at = *used, bytes = strlen(text) + 1;
    memcpy(s->text + at, text, bytes);
    *used += bytes;
    return (uint16_t)at;
}

struct sandbox *table_add(struct sandbox_table *t, const struct sandbox_names *n)
{
    size_t used = 0,
           bytes = strlen(n->id) + strlen(n->team) + strlen(n->project) + strlen(n->cgroup) + strlen(n->tap) + 5;
    if ((t->count + 1) * 2 > t->slots && !table_grow(t)) return NULL;
    struct sandbox *s = calloc(1, sizeof *s + bytes);
    if (!s) return NULL;
    put_text(s, &used, n->id);
    s->team_at = put_text(s, &used, n->team);
    s->project_at = put_text(s, &used, n->project);
    s->cgroup_at = put_text(s, &used, n->cgroup);
    s->tap_at = put_text(s, &used, n->tap);
    s->hash = hash_id(n->id);
    size_t at = slot_of(t, s->hash, n->id);
    assert(!t->slot[at] && used == bytes);
    s->state_bytes = (uint16_t)(bytes + STATE_NUMBERS_BYTES_MAX);
    t->state_bytes += s->state_bytes;
    t->slot[at] = s;
    t->count++;
    return s;
}

void table_remove(struct sandbox_table *t, struct sandbox *s)
{
    size_t mask = t->slots - 1, hole = slot_of(t, s->hash, sandbox_id(s));
    assert(t->slot[hole] == s);
    t->slot[hole] = NULL;
    for (size_t at = (hole + 1) & mask; t->slot[at]; at = (at + 1) & mask) {
        size_t home = t->slot[at]->hash & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        t->slot[hole] = t->slot[at];
        t->slot[at] = NULL;
        hole = at;
    }
    t->count--;
    t->state_bytes -= s->state_bytes;
    free(s);
}

void table_destroy(struct sandbox_table *t)
{
    for (size_t i = 0; i < t->slots; i++) free(t->slot[i]);
    free(t->slot);
    *t = (struct sandbox_table){0};
}

void meter_mark(struct meter *m, struct sandbox *s, enum sandbox_change change)
{
    if (s->change != UNCHANGED) return;
    if (m->dirty_count == m->dirty_capacity) {
        size_t capacity = m->dirty_capacity ? m->dirty_capacity * 2 : SLOTS_MIN;
        struct sandbox **grown = realloc(m->dirty, capacity * sizeof *grown);
        if (!grown) {
            m->no_memory = true;
            return;
        }
        m->dirty = grown;
        m->dirty_capacity = capacity;
    }
    s->change = (uint8_t)change;
    m->dirty_bytes += s->state_bytes;
    s->dirty_index = m->dirty_count;
    m->dirty[m->dirty_count++] = s;
}

static void unmark(struct meter *m, struct sandbox *s)
{
    struct sandbox *last = m->dirty[--m->dirty_count];
    assert(m->dirty[s->dirty_index] == s || last == s);
    m->dirty[s->dirty_index] = last;
    last->dirty_index = s->dirty_index;
    m->dirty_bytes -= s->state_bytes;
    s->change = UNCHANGED;
}

void meter_forget(struct meter *m, struct sandbox *s)
{
    if (s->change != CREATED) {
        unsigned char length = (unsigned char)strlen(sandbox_id(s));
        buffer_append(&m->removed, &length, 1);
        buffer_append(&m->removed, sandbox_id(s), length);
        m->no_memory |= m->removed.error != SG_OK;
        m->removed_count++;
        m->dirty_bytes += length + 1U;
    }
    if (s->change != UNCHANGED) unmark(m, s);
    if (s->state == SANDBOX_RUNNING) meter_release(m, s);
    m->changed = true;
    table_remove(&m->table, s);
}

void meter_allocate(struct meter *m, const struct sandbox *s)
{
    m->source[s->source].running++;
    m->running++;
    m->vcpus += s->vcpus;
    m->mem_mib += s->mem_mib;
    m->disk_mib += s->disk_mib;
}

void meter_release(struct meter *m, const struct sandbox *s)
{
    assert(m->running > 0 && m->source[s->source].running > 0);
    m->source[s->source].running--;
    m->running--;
    m->vcpus -= s->vcpus;
    m->mem_mib -= s->mem_mib;
    m->disk_mib -= s->disk_mib;
}

void meter_unmark_all(struct meter *m)
{
    for (size_t i = 0; i < m->dirty_count; i++) m->dirty[i]->change = UNCHANGED;
    m->dirty_count = m->dirty_bytes = 0;
    buffer_reset(&m->removed);
    m->removed_count = 0;
}
