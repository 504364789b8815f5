/* What one shard of a simulated Redis holds: hashes and sorted sets, with a journal of its last commands, so that a
 * state can go back to what it was before any of them. A field that is deleted stays as a place without a text; a key
 * without texts does not exist. One thread. */
#ifndef SIM_REDIS_STATE_H
#define SIM_REDIS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/arena.h"

enum { REDIS_JOURNAL_MAX = 4096 }; /* changes that can be taken back */

struct redis_text {
    const char *p;
    size_t length;
};

/* A field of a hash or a member of a sorted set, whose text is its score. */
struct redis_field {
    char *name, *text; /* text NULL: there is none */
    size_t name_length, text_length;
    uint64_t hash;
};

struct redis_key {
    char *name;
    size_t name_length;
    uint64_t hash;
    bool zset;
    int64_t expires_s; /* 0: never */
    struct redis_field *field;
    size_t count, capacity, live;
    uint32_t *slot; /* of index + 1; twice the capacity */
};

/* The text or the expiry of a field or key before a command. */
struct redis_change {
    struct redis_key *key;
    size_t field; /* SIZE_MAX: the expiry */
    char *text;
    size_t text_length;
    int64_t expires_s;
    uint64_t command;
};

/* Zeroed is empty. */
struct redis_state {
    struct arena memory; /* of all that follows: nothing of it is given back before the end */
    struct redis_key **key;
    size_t count, capacity;
    uint32_t *slot;
    struct redis_change *journal;
    size_t changes;
    size_t unseen;            /* changes that a reader who is behind does not see */
    uint64_t command, oldest; /* number of the newest command; of the oldest that can be gone back to */
};

/* Frees. */
void redis_state_destroy(struct redis_state *s);
/* Equal to `from`; its journal is empty. */
void redis_state_copy(struct redis_state *to, const struct redis_state *from);
/* As it was after that command (oldest..command). */
void redis_state_back(struct redis_state *s, uint64_t command);
/* What a reader would see who is as far behind, or then further; until redis_state_seen nothing may be written. */
void redis_state_see(struct redis_state *s, uint64_t command);
void redis_state_seen(struct redis_state *s);
/* Nothing can be taken back any more. */
void redis_state_forget(struct redis_state *s);
/* Keys that expire at or before now are gone. */
void redis_state_expire(struct redis_state *s, int64_t now_s);

/* A command begins: its changes are taken back together. */
void redis_state_begin(struct redis_state *s);
/* NULL: no such key. */
struct redis_key *redis_state_find(const struct redis_state *s, struct redis_text key);
/* NULL: no such field. */
const struct redis_field *redis_state_get(const struct redis_state *s, struct redis_text key, struct redis_text field);
/* True when the field is new. */
bool redis_state_set(struct redis_state *s, struct redis_text key, bool zset, struct redis_text field,
                     struct redis_text text);
/* True when there was one. */
bool redis_state_delete(struct redis_state *s, struct redis_text key, struct redis_text field);
/* True when there was one. */
bool redis_state_delete_key(struct redis_state *s, struct redis_text key);
void redis_state_set_expiry(struct redis_state *s, struct redis_text key, int64_t expires_s);

/* A NUL-terminated text as such. */
static inline struct redis_text redis_text(const char *s)
{
    return (struct redis_text){s, __builtin_strlen(s)};
}

#endif
