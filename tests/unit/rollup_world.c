#include "rollup_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"

uint64_t world_random(struct world *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}
uint64_t world_below(struct world *w, uint64_t n)
{
    return world_random(w) % n;
}
bool world_chance(struct world *w, unsigned per_mille)
{
    return !w->quiet && world_below(w, 1000) < per_mille;
}
uint32_t world_team_of(uint32_t sandbox)
{
    return sandbox % TEAMS;
}

/* ---- the fake Redis ---- */

void state_clear(struct state *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->value[i].key);
        free(s->value[i].field);
        free(s->value[i].text);
    }
    free(s->value);
    *s = (struct state){0};
}
struct value *state_get(const struct state *s, const char *key, const char *field)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->value[i].field, field) == 0 && strcmp(s->value[i].key, key) == 0) return &s->value[i];
    return NULL;
}
static void state_set(struct state *s, const char *key, const char *field, const char *text)
{
    struct value *v = state_get(s, key, field);
    if (v) {
        free(v->text);
        v->text = strdup(text);
        return;
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->value = realloc(s->value, s->capacity * sizeof *s->value);
    }
    s->value[s->count++] = (struct value){strdup(key), strdup(field), strdup(text)};
}
/* field NULL: the whole key */
static void state_delete(struct state *s, const char *key, const char *field)
{
    for (size_t i = 0; i < s->count;) {
        struct value *v = &s->value[i];
        if (strcmp(v->key, key) != 0 || (field && strcmp(v->field, field) != 0)) {
            i++;
            continue;
        }
        free(v->key);
        free(v->field);
        free(v->text);
        *v = s->value[--s->count];
    }
}
void state_copy(struct state *to, const struct state *from)
{
    state_clear(to);
    to->value = from->count ? malloc(from->count * sizeof *to->value) : NULL;
    to->count = to->capacity = from->count;
    for (size_t i = 0; i < from->count; i++)
        to->value[i] =
            (struct value){strdup(from->value[i].key), strdup(from->value[i].field), strdup(from->value[i].text)};
}
static void history_push(struct world *w, uint32_t s)
{
    if (w->histories[s] == HISTORY) {
        state_clear(&w->history[s][0]);
        memmove(&w->history[s][0], &w->history[s][1], (HISTORY - 1) * sizeof w->history[s][0]);
        w->history[s][HISTORY - 1] = (struct state){0};
        w->histories[s]--;
    }
    state_copy(&w->history[s][w->histories[s]++], &w->shard[s]);
}

char *world_word(const struct wordlist *l, size_t i)
{
    size_t length;
    const char *p = wordlist_at(l, i, &length);
    return strndup(p, length);
}
static uint64_t word_number(const struct wordlist *l, size_t i)
{
    char *text = world_word(l, i);
    uint64_t v = strtoull(text, NULL, 10);
    free(text);
    return v;
}

/* Where the commands begin, or 0: the vector is not what the caller says. */
size_t world_checked(struct world *w, uint32_t s, const struct wordlist *l, bool unchecked)
{
    uint64_t n = word_number(l, 0);
    char key[KEY_BYTES_MAX];
    key_plain(key, s, "v");
    for (uint64_t i = 0; i < n && !unchecked; i++) {
        char *p = world_word(l, 1 + 2 * i), *expected = world_word(l, 2 + 2 * i);
        const struct value *v = state_get(&w->shard[s], key, p);
        bool same = strcmp(v ? v->text : "", expected) == 0;
        free(p);
        free(expected);
        if (!same) return 0;
    }
    return 1 + 2 * (size_t)n;
}

static void run_command(struct state *s, const struct wordlist *l, size_t at, size_t count)
{
    char *name = world_word(l, at), *key = count > 1 ? world_word(l, at + 1) : NULL;
    if (strcmp(name, "HSET") == 0) {
        for (size_t i = 2; i + 1 < count; i += 2) {
            char *field = world_word(l, at + i), *text = world_word(l, at + i + 1);
            state_set(s, key, field, text);
            free(field);
            free(text);
        }
    } else if (strcmp(name, "HDEL") == 0) {
        for (size_t i = 2; i < count; i++) {
            char *field = world_word(l, at + i);
            state_delete(s, key, field);
            free(field);
        }
    } else if (strcmp(name, "ZADD") == 0) {
        char *member = world_word(l, at + 3);
        state_set(s, key, member, "");
        free(member);
    }
    free(name);
    free(key);
}

static bool marks_are(struct world *w, uint32_t s, const struct wordlist *l, size_t at)
{
    char *key = world_word(l, at), *field = world_word(l, at + 1), *expected = world_word(l, at + 2);
    const struct value *v = state_get(&w->shard[s], key, field);
    bool same = strcmp(v ? v->text : "", expected) == 0;
    free(key);
    free(field);
    free(expected);
    return same || w->bug == MARKS_UNCHECKED || w->bug == NO_CAS;
}

enum answer world_run_script(struct world *w, uint32_t s, const struct wordlist *l)
{
    size_t at = world_checked(w, s, l, w->bug == NO_CAS), begin[4096], count = 0;
    if (at == 0) return ANSWER_MISMATCH;
    uint64_t marks = word_number(l, at);
    for (uint64_t i = 0; i < marks; i++)
        if (!marks_are(w, s, l, at + 1 + 3 * i)) return ANSWER_MISMATCH;
    at += 1 + 3 * marks;
    for (; at < l->count; at += 1 + word_number(l, at)) begin[count++] = at;
    size_t cut = world_chance(w, 40) ? world_below(w, count + 1) : count;
    for (size_t i = 0; i < cut; i++) {
        size_t which = w->bug == VECTOR_FIRST ? count - 1 - i : i;
        run_command(&w->shard[s], l, begin[which] + 1, word_number(l, begin[which]));
    }
    history_push(w, s);
    return cut < count || world_chance(w, 40) ? ANSWER_ERROR : ANSWER_OK;
}

bool world_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}
/* Behind the shard's prefix. */
const char *world_name_of(const char *key)
{
    return strchr(key, '}') + 2;
}
static uint64_t offset_of(const char *cell)
{
    return strtoull(cell + 1, NULL, 10);
}

void world_restore(struct world *w, uint32_t s)
{
    state_copy(&w->shard[s], &w->archive[s]);
    for (uint32_t p = 0; w->bug == ARCHIVE_NO_MARKS && p < w->parts; p++) {
        char key[KEY_BYTES_MAX];
        key_partition(key, s, "marks", p);
        state_delete(&w->shard[s], key, NULL);
    }
}

void world_rollback(struct world *w)
{
    uint32_t s = (uint32_t)world_below(w, w->shards);
    if (w->histories[s] == 0) return;
    if (world_below(w, 100) < 15)
        world_restore(w, s);
    else
        state_copy(&w->shard[s], &w->history[s][world_below(w, w->histories[s])]);
    for (size_t i = 0; i < w->histories[s]; i++) state_clear(&w->history[s][i]);
    w->histories[s] = 0;
    history_push(w, s);
}

static uint64_t vouched_of(const struct state *st, uint32_t s, uint32_t p)
{
    char key[KEY_BYTES_MAX], field[16];
    key_plain(key, s, "v");
    (void)snprintf(field, sizeof field, "%u", p);
    const struct value *v = state_get(st, key, field);
    return v ? strtoull(v->text, NULL, 10) : 0;
}
static uint64_t marks_of(const struct state *st, uint32_t s, uint32_t p)
{
    char key[KEY_BYTES_MAX];
    key_partition(key, s, "marks", p);
    const struct value *v = state_get(st, key, "at");
    return v ? strtoull(v->text, NULL, 10) : 0;
}

/* Cells where newer, marks where newer; then the log forgets what no state that can come back still needs. */
void world_archive(struct world *w, bool trim)
{
    for (uint32_t s = 0; s < w->shards; s++) {
        for (size_t i = 0; i < w->shard[s].count; i++) {
            const struct value *v = &w->shard[s].value[i];
            const char *name = world_name_of(v->key);
            const struct value *old = state_get(&w->archive[s], v->key, v->field);
            if ((world_starts_with(name, "u:") || world_starts_with(name, "r:")) &&
                (!old || offset_of(old->text) < offset_of(v->text)))
                state_set(&w->archive[s], v->key, v->field, v->text);
            if (world_starts_with(name, "ux:")) state_set(&w->archive[s], v->key, v->field, v->text);
        }
        for (uint32_t p = 0; p < w->parts; p++) {
            char key[KEY_BYTES_MAX];
            if (shard_home(p, w->shards) != s) continue;
            if (marks_of(&w->shard[s], s, p) < marks_of(&w->archive[s], s, p)) continue;
            key_partition(key, s, "marks", p);
            state_delete(&w->archive[s], key, NULL);
            for (size_t i = 0; i < w->shard[s].count; i++)
                if (strcmp(w->shard[s].value[i].key, key) == 0)
                    state_set(&w->archive[s], key, w->shard[s].value[i].field, w->shard[s].value[i].text);
        }
    }
    for (uint32_t p = 0; trim && p < w->parts; p++) {
        uint32_t home = shard_home(p, w->shards);
        uint64_t safe = marks_of(&w->archive[home], home, p);
        for (uint32_t s = 0; s < w->shards; s++) {
            uint64_t v = vouched_of(&w->shard[s], s, p);
            if (v < safe) safe = v;
            for (size_t i = 0; i < w->histories[s]; i++) {
                v = vouched_of(&w->history[s][i], s, p);
                if (v < safe) safe = v;
                v = s == home ? marks_of(&w->history[s][i], s, p) : safe;
                if (v < safe) safe = v;
            }
        }
        if (safe > w->start[p]) w->start[p] += world_below(w, safe - w->start[p] + 1);
    }
}

/* ---- producers ---- */

void world_produce(struct world *w, struct runner *q, uint32_t number)
{
    if (q->count == LOG) return;
    struct message *m = &q->spool[q->count++];
    *m = (struct message){.runner = number, .epoch = q->epoch, .seq = q->count, .count = world_below(w, ROWS)};
    m->start = m->count && world_below(w, 4) == 0;
    for (size_t i = 0; i < m->count; i++) {
        /* a sandbox lives on one runner */
        uint32_t mine = SANDBOXES / w->runners;
        struct row *r = &m->row[i];
        r->sandbox = number * mine + (uint32_t)world_below(w, mine);
        int64_t hour = (int64_t)world_below(w, HOURS), minute = (int64_t)world_below(w, 3);
        r->at = START + hour * HOUR_MS + minute * MINUTE_MS;
        r->cpu = 1 + world_below(w, 9);
        w->truth[r->sandbox][hour][minute] += r->cpu;
    }
}
void world_send_one(struct runner *q)
{
    if (q->sent == q->count || q->sent - q->cursor >= 5 || q->flights == FLIGHTS) return;
    q->flight[q->flights++] = (struct flight){q->spool[q->sent++], q->instance};
}
/* The oldest message of some instance lands; its ack reaches the living one only. */
void world_land(struct world *w, struct runner *q)
{
    if (q->flights == 0 || w->end[q->partition] == LOG) return;
    size_t instance = q->flight[world_below(w, q->flights)].instance, i = 0;
    while (q->flight[i].instance != instance) i++;
    struct message m = q->flight[i].m;
    memmove(&q->flight[i], &q->flight[i + 1], (--q->flights - i) * sizeof *q->flight);
    w->log[q->partition][w->end[q->partition]++] = m;
    if (m.epoch == q->epoch) q->landed[m.seq - 1] = true;
    if (instance == q->instance && m.epoch == q->epoch && (w->quiet || world_chance(w, 900)) && m.seq > q->cursor)
        q->cursor = m.seq;
}
void world_producer_restarts(struct runner *q)
{
    q->instance++;
    q->sent = q->cursor;
}
/* What had not landed and is not on the wire never was. */
void world_disk_is_lost(struct world *w, struct runner *q)
{
    for (size_t i = 0; i < q->count; i++) {
        bool there = q->landed[i];
        for (size_t k = 0; k < q->flights; k++)
            there |= q->flight[k].m.epoch == q->epoch && q->flight[k].m.seq == i + 1;
        for (size_t k = 0; !there && k < q->spool[i].count; k++) {
            const struct row *r = &q->spool[i].row[k];
            w->truth[r->sandbox][(r->at - START) / HOUR_MS][(r->at - START) % HOUR_MS / MINUTE_MS] -= r->cpu;
        }
    }
    q->epoch++;
    q->count = q->cursor = q->sent = 0;
    q->instance++;
    memset(q->landed, 0, sizeof q->landed);
}
