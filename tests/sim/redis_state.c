#include "tests/sim/redis_state.h"

#include <string.h>
#include <xxhash.h>

enum { FIELDS_FIRST = 4, KEYS_FIRST = 64 };

static char *copy_of(struct redis_state *s, struct redis_text t)
{
    char *copy = arena_take(&s->memory, t.length + 1);
    if (t.length) memcpy(copy, t.p, t.length);
    copy[t.length] = '\0';
    return copy;
}

/* ---- places ---- */

/* Where the key's field is, or SIZE_MAX. */
static size_t field_index(const struct redis_key *k, struct redis_text name, uint64_t hash)
{
    size_t slots = 2 * k->capacity;
    for (size_t i = hash & (slots - 1); k->slot[i]; i = (i + 1) & (slots - 1)) {
        const struct redis_field *f = &k->field[k->slot[i] - 1];
        if (f->hash == hash && f->name_length == name.length && memcmp(f->name, name.p, name.length) == 0)
            return k->slot[i] - 1;
    }
    return SIZE_MAX;
}

static void slot_take(uint32_t *slot, size_t slots, uint64_t hash, size_t index)
{
    size_t i = hash & (slots - 1);
    while (slot[i]) i = (i + 1) & (slots - 1);
    slot[i] = (uint32_t)index + 1;
}

static size_t field_add(struct redis_state *s, struct redis_key *k, struct redis_text name, uint64_t hash)
{
    if (k->count == k->capacity) {
        struct redis_field *grown = arena_take(&s->memory, 2 * k->capacity * sizeof *grown);
        memcpy(grown, k->field, k->count * sizeof *grown);
        k->field = grown;
        k->capacity *= 2;
        k->slot = arena_zeroed(&s->memory, 2 * k->capacity * sizeof *k->slot);
        for (size_t i = 0; i < k->count; i++) slot_take(k->slot, 2 * k->capacity, k->field[i].hash, i);
    }
    k->field[k->count] = (struct redis_field){.name = copy_of(s, name), .name_length = name.length, .hash = hash};
    slot_take(k->slot, 2 * k->capacity, hash, k->count);
    return k->count++;
}

static struct redis_key *key_find(const struct redis_state *s, struct redis_text key, uint64_t hash)
{
    size_t slots = 2 * s->capacity;
    for (size_t i = hash & (slots - 1); slots && s->slot[i]; i = (i + 1) & (slots - 1)) {
        struct redis_key *k = s->key[s->slot[i] - 1];
        if (k->hash == hash && k->name_length == key.length && memcmp(k->name, key.p, key.length) == 0) return k;
    }
    return NULL;
}

struct redis_key *redis_state_find(const struct redis_state *s, struct redis_text key)
{
    return key_find(s, key, XXH3_64bits(key.p, key.length));
}

static void keys_grow(struct redis_state *s)
{
    size_t capacity = s->capacity ? 2 * s->capacity : KEYS_FIRST;
    struct redis_key **grown = arena_take(&s->memory, capacity * sizeof(struct redis_key *));
    if (s->count) memcpy(grown, s->key, s->count * sizeof(struct redis_key *));
    s->key = grown;
    s->slot = arena_zeroed(&s->memory, 2 * capacity * sizeof *s->slot);
    s->capacity = capacity;
    for (size_t i = 0; i < s->count; i++) slot_take(s->slot, 2 * capacity, s->key[i]->hash, i);
}

static struct redis_key *key_make(struct redis_state *s, struct redis_text key, bool zset)
{
    uint64_t hash = XXH3_64bits(key.p, key.length);
    struct redis_key *k = key_find(s, key, hash);
    if (k) {
        if (k->live == 0) k->zset = zset;
        return k;
    }
    if (s->count == s->capacity) keys_grow(s);
    k = arena_take(&s->memory, sizeof *k);
    *k = (struct redis_key){.name = copy_of(s, key),
                            .name_length = key.length,
                            .hash = hash,
                            .zset = zset,
                            .field = arena_take(&s->memory, FIELDS_FIRST * sizeof *k->field),
                            .capacity = FIELDS_FIRST,
                            .slot = arena_zeroed(&s->memory, 2 * (size_t)FIELDS_FIRST * sizeof *k->slot)};
    slot_take(s->slot, 2 * s->capacity, k->hash, s->count);
    return s->key[s->count++] = k;
}

/* ---- the journal ---- */

static struct redis_change *change_add(struct redis_state *s)
{
    if (!s->journal) s->journal = arena_take(&s->memory, REDIS_JOURNAL_MAX * sizeof *s->journal);
    if (s->changes == REDIS_JOURNAL_MAX) {
        size_t half = REDIS_JOURNAL_MAX / 2;
        s->oldest = s->journal[half - 1].command;
        while (half < s->changes && s->journal[half].command == s->oldest) half++;
        s->changes -= half;
        memmove(s->journal, s->journal + half, s->changes * sizeof *s->journal);
    }
    s->journal[s->changes] = (struct redis_change){.command = s->command};
    return &s->journal[s->changes++];
}

/* text is taken over; NULL: none. */
static void field_put(struct redis_state *s, struct redis_key *k, size_t field, char *text, size_t length)
{
    struct redis_change *c = change_add(s);
    struct redis_field *f = &k->field[field];
    c->key = k;
    c->field = field;
    c->text = f->text;
    c->text_length = f->text_length;
    k->live += (text != NULL) - (f->text != NULL);
    f->text = text;
    f->text_length = length;
}

static void expiry_put(struct redis_state *s, struct redis_key *k, int64_t expires_s)
{
    struct redis_change *c = change_add(s);
    c->key = k;
    c->field = SIZE_MAX;
    c->expires_s = k->expires_s;
    k->expires_s = expires_s;
}

void redis_state_begin(struct redis_state *s)
{
    s->command++;
}

void redis_state_back(struct redis_state *s, uint64_t command)
{
    while (s->changes && s->journal[s->changes - 1].command > command) {
        struct redis_change *c = &s->journal[--s->changes];
        if (c->field == SIZE_MAX) {
            c->key->expires_s = c->expires_s;
            continue;
        }
        struct redis_field *f = &c->key->field[c->field];
        c->key->live += (c->text != NULL) - (f->text != NULL);
        f->text = c->text;
        f->text_length = c->text_length;
    }
    s->command = command;
}

/* What the change says, and what is, change places. */
static void change_swap(struct redis_change *c)
{
    struct redis_key *k = c->key;
    if (c->field == SIZE_MAX) {
        int64_t expires_s = k->expires_s;
        k->expires_s = c->expires_s;
        c->expires_s = expires_s;
        return;
    }
    struct redis_field *f = &k->field[c->field];
    struct redis_change was = *c;
    k->live += (was.text != NULL) - (f->text != NULL);
    c->text = f->text;
    c->text_length = f->text_length;
    f->text = was.text;
    f->text_length = was.text_length;
}

void redis_state_see(struct redis_state *s, uint64_t command)
{
    for (; s->unseen < s->changes && s->journal[s->changes - s->unseen - 1].command > command; s->unseen++)
        change_swap(&s->journal[s->changes - s->unseen - 1]);
}

void redis_state_seen(struct redis_state *s)
{
    for (; s->unseen; s->unseen--) change_swap(&s->journal[s->changes - s->unseen]);
}

void redis_state_forget(struct redis_state *s)
{
    s->changes = 0;
    s->oldest = s->command;
}

/* ---- whole ---- */

void redis_state_destroy(struct redis_state *s)
{
    arena_empty(&s->memory);
    *s = (struct redis_state){0};
}

void redis_state_copy(struct redis_state *to, const struct redis_state *from)
{
    redis_state_destroy(to);
    for (size_t i = 0; i < from->count; i++) {
        const struct redis_key *k = from->key[i];
        struct redis_text name = {k->name, k->name_length};
        for (size_t j = 0; j < k->count; j++) {
            const struct redis_field *f = &k->field[j];
            if (f->text)
                (void)redis_state_set(to, name, k->zset, (struct redis_text){f->name, f->name_length},
                                      (struct redis_text){f->text, f->text_length});
        }
        if (k->live && k->expires_s) redis_state_set_expiry(to, name, k->expires_s);
        redis_state_forget(to);
    }
}

void redis_state_expire(struct redis_state *s, int64_t now_s)
{
    for (size_t i = 0; i < s->count; i++) {
        struct redis_key *k = s->key[i];
        if (k->live && k->expires_s && k->expires_s <= now_s)
            (void)redis_state_delete_key(s, (struct redis_text){k->name, k->name_length});
    }
}

/* ---- commands ---- */

const struct redis_field *redis_state_get(const struct redis_state *s, struct redis_text key, struct redis_text field)
{
    const struct redis_key *k = redis_state_find(s, key);
    size_t i = k && k->live ? field_index(k, field, XXH3_64bits(field.p, field.length)) : SIZE_MAX;
    return i == SIZE_MAX || !k->field[i].text ? NULL : &k->field[i];
}

bool redis_state_set(struct redis_state *s, struct redis_text key, bool zset, struct redis_text field,
                     struct redis_text text)
{
    struct redis_key *k = key_make(s, key, zset);
    uint64_t hash = XXH3_64bits(field.p, field.length);
    size_t i = field_index(k, field, hash);
    if (i == SIZE_MAX) i = field_add(s, k, field, hash);
    bool fresh = !k->field[i].text;
    field_put(s, k, i, copy_of(s, text), text.length);
    return fresh;
}

static void key_gone(struct redis_state *s, struct redis_key *k)
{
    if (k->live == 0 && k->expires_s) expiry_put(s, k, 0);
}

bool redis_state_delete(struct redis_state *s, struct redis_text key, struct redis_text field)
{
    struct redis_key *k = redis_state_find(s, key);
    size_t i = k ? field_index(k, field, XXH3_64bits(field.p, field.length)) : SIZE_MAX;
    if (i == SIZE_MAX || !k->field[i].text) return false;
    field_put(s, k, i, NULL, 0);
    key_gone(s, k);
    return true;
}

bool redis_state_delete_key(struct redis_state *s, struct redis_text key)
{
    struct redis_key *k = redis_state_find(s, key);
    if (!k || k->live == 0) return false;
    for (size_t i = 0; i < k->count; i++)
        if (k->field[i].text) field_put(s, k, i, NULL, 0);
    key_gone(s, k);
    return true;
}

void redis_state_set_expiry(struct redis_state *s, struct redis_text key, int64_t expires_s)
{
    struct redis_key *k = redis_state_find(s, key);
    if (k && k->live) expiry_put(s, k, expires_s);
}
