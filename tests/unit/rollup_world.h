/* The world of the roll-up's simulation: a log, a Redis that cuts scripts short and rolls back, an archive, and the
 * runners' producers. test_rollup_sim.c runs real aggregators in it. One thread. */
#ifndef TEST_ROLLUP_WORLD_H
#define TEST_ROLLUP_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/rollup/rollup.h"

enum {
    TEAMS = 4,
    SANDBOXES = 8,
    HOURS = 3,
    RUNNERS = 4,
    PARTS = 3,
    SHARDS = 3,
    LOG = 2048,
    HISTORY = 12,
    STEPS = 400,
    ROWS = 4
};
enum { FLIGHTS = 64, AGGREGATORS = 3 };
#define START INT64_C(1763884800000)

enum bug {
    NO_BUG,
    NO_CAS,
    VECTOR_FIRST,
    READ_UNCHECKED,
    NO_CELL_OFFSET,
    NO_DUPLICATES,
    CLEAN_AHEAD,
    TRUST_LOADED,
    ARCHIVE_NO_MARKS,
    MARKS_UNCHECKED,
    BUGS
};

/* A row: cpu_us of a sandbox at a minute. */
struct row {
    uint32_t sandbox;
    int64_t at;
    uint64_t cpu;
};
struct message {
    uint32_t runner;
    uint64_t epoch, seq;
    size_t count;
    bool start; /* a start of its first row's sandbox */
    struct row row[ROWS];
};
struct value {
    char *key, *field, *text;
};
struct state {
    struct value *value;
    size_t count, capacity;
};
struct runner {
    uint32_t partition;
    uint64_t epoch;
    struct message spool[LOG];
    bool landed[LOG];
    size_t count, cursor, sent, instance;
    struct flight {
        struct message m;
        size_t instance;
    } flight[FLIGHTS];
    size_t flights;
};
struct aggregator {
    bool alive;
    struct rollup r;
    struct rollup_read reads[SHARDS];
    struct rollup_flush flush;
};
struct world {
    uint64_t random;
    enum bug bug;
    bool quiet, failed;
    uint32_t parts, shards, runners;
    struct message log[PARTS][LOG];
    uint64_t end[PARTS], start[PARTS];
    struct state shard[SHARDS], history[SHARDS][HISTORY];
    size_t histories[SHARDS];
    struct state archive[SHARDS];
    struct runner *runner;
    struct aggregator *aggregator; /* AGGREGATORS, and one for the end */
    uint64_t truth[SANDBOXES][HOURS][60];
};

/* What became of a script. */
enum answer { ANSWER_OK, ANSWER_MISMATCH, ANSWER_ERROR };

/* The next number of the world's own generator. */
uint64_t world_random(struct world *w);
/* One below n. */
uint64_t world_below(struct world *w, uint64_t n);
/* True so often of a thousand times; never once the world is quiet. */
bool world_chance(struct world *w, unsigned per_mille);
/* Index of the team that a sandbox belongs to. */
uint32_t world_team_of(uint32_t sandbox);

/* Empties a state. Safe on a zeroed one. */
void state_clear(struct state *s);
/* The value of a field, NULL when there is none; it lives until the state changes. */
struct value *state_get(const struct state *s, const char *key, const char *field);
/* Makes `to` equal to `from`. */
void state_copy(struct state *to, const struct state *from);

/* A copy of one word of a list; the caller frees it. */
char *world_word(const struct wordlist *l, size_t i);
/* Where the commands of a script begin, or 0: the vector is not what the caller says. */
size_t world_checked(struct world *w, uint32_t s, const struct wordlist *l, bool unchecked);
/* Runs a flush on shard s, or a part of it, or all of it without saying so. */
enum answer world_run_script(struct world *w, uint32_t s, const struct wordlist *l);
/* True when s begins with prefix. */
bool world_starts_with(const char *s, const char *prefix);
/* A key's name behind the shard's prefix. */
const char *world_name_of(const char *key);
/* Shard s becomes what the archive knows of it. */
void world_restore(struct world *w, uint32_t s);
/* Some shard goes back to an older state, or to the archive. */
void world_rollback(struct world *w);
/* Cells where newer, marks where newer; then, with trim, the log forgets what no state that can come back still needs.
 */
void world_archive(struct world *w, bool trim);

/* A runner seals one more message of random rows. */
void world_produce(struct world *w, struct runner *q, uint32_t number);
/* The newest message not sent yet goes on the wire. */
void world_send_one(struct runner *q);
/* The oldest message of some instance lands; its ack reaches the living one only. */
void world_land(struct world *w, struct runner *q);
/* A new instance sends again from the cursor. */
void world_producer_restarts(struct runner *q);
/* A new epoch begins; what had not landed and is not on the wire never was. */
void world_disk_is_lost(struct world *w, struct runner *q);

#endif
