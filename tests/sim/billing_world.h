/* The world of billing: a view whose cells, vector and `due` may be torn and rolled back, a ledger that fences and
 * loses commits, exporters with their zombies around the real rules of a cycle, plan and book, a network that delays,
 * and a Stripe that refuses, throttles, fails before and after it commits, forgets identifiers after a day, drops
 * events that it accepted, switches meters off, and whose summaries lag, are behind, or show nonsense. After the model
 * of design.md, section 6; time is in milliseconds.
 *
 * billing.c holds the schedule, billing_people.c what happens and what must be true, billing_view.c the view and the
 * log that it is a view of, billing_cycle.c and billing_exporter.c the shell around the real cores, billing_ledger.c
 * and billing_stripe.c the two services. What exporters look at is reached through struct billing_view: another world
 * may have its own. */
#ifndef SIM_BILLING_WORLD_H
#define SIM_BILLING_WORLD_H

#include "aggregator/billing/cycle.h"
#include "tests/sim/sim.h"

enum { BILLING_DUE_MAX = 64, BILLING_RESULTS_MAX = 8, BILLING_CONTROL_MAX = 512 };
enum {
    BILLING_TEAMS = 2,
    BILLING_HOURS = 3,
    BILLING_METERS = 3,
    BILLING_KEYS = BILLING_TEAMS * BILLING_HOURS * BILLING_METERS,
    BILLING_CUSTOMERS = 2 * BILLING_TEAMS
};
enum { BILLING_RECORDS = 1024, BILLING_REQUESTS = 1024, BILLING_EXPORTERS = 6, BILLING_RECORD_BYTES = 2048 };
enum { BILLING_SLACK_MS = 2 * MINUTE_MS };
enum { BILLING_CLOCK_STEP_MS = 5 * DAY_MS };
/* The slowest summary that the rules bear: DAY, less a replica that is behind, an attempt, a connection that idled, a
 * late commit, and a minute; as in the model. */
enum { BILLING_STALE_MS = 55 * MINUTE_MS, BILLING_LAG_MS = DAY_MS - BILLING_STALE_MS - 16 * MINUTE_MS };
#define BILLING_START INT64_C(1763884800000)

struct billing_key {
    int team, hour, meter;
};

/* A request that left. */
struct billing_request {
    bool taken, answered;
    int64_t at; /* when it reaches Stripe */
    struct boot_ms written;
    struct billing_key key;
    char identifier[LEDGER_IDENTIFIER_BYTES], body[LEDGER_BODY_BYTES];
    uint32_t status; /* 0: no answer */
    char answer[256];
};

/* An event that Stripe took. */
struct billing_receipt {
    char identifier[LEDGER_IDENTIFIER_BYTES];
    int key;
    uint64_t value;
    int64_t at, shown_at; /* the latter: by summaries */
    bool dropped;
};

/* What a summary said. */
struct billing_shown {
    uint32_t status; /* 0: no answer */
    char text[256];
    int64_t at, told_at; /* Stripe's time; when it is here */
};

/* What exporters look at. Implemented by billing_view.c for this world. */
struct billing_view {
    void *arg;
    int64_t close_delay_ms;
    struct watermark (*mark)(void *arg);
    /* All fields of `due`, at most BILLING_DUE_MAX; returns how many. */
    size_t (*due)(void *arg, struct cycle_due *out);
    /* One moment: fills the hours' totals and reaches, and what its vector vouches for; returns the watermark. */
    struct watermark (*snapshot)(void *arg, struct cycle_hour *hours, size_t count, uint64_t vouched[PARTITIONS_MAX]);
    void (*done)(void *arg, const struct cycle_due *due, size_t count);
    /* What was really used until now, by whatever the world counts by itself. */
    uint64_t (*truth)(void *arg, int key);
};

enum billing_phase { BILLING_IDLE, BILLING_READING, BILLING_CONNECTED, BILLING_WAITING };
enum billing_cycle_phase { CYCLE_NONE, CYCLE_GROUPED, CYCLE_PLANNED, CYCLE_COMMITTED };

/* A cycle under way. */
struct billing_cycle {
    enum billing_cycle_phase phase;
    struct cycle_due due[BILLING_DUE_MAX];
    struct cycle_group group[BILLING_DUE_MAX];
    size_t groups;
    bool done[BILLING_TEAMS * BILLING_HOURS];
    struct wall_ms now;
    char (*positions)[LEDGER_POSITIONS_BYTES]; /* of each group; borrowed by records */
    struct ledger_record record[BILLING_KEYS];
    size_t records;
};

/* One process: the book of one shard, a cycle, one attempt. */
struct billing_exporter {
    bool alive, started, folded;
    int64_t wake, skew; /* of its wall clock */
    unsigned epoch;
    struct book book;
    struct control_view facts;
    struct billing_cycle cycle;
    struct ledger_record result[BILLING_RESULTS_MAX]; /* outcomes and notes to be committed */
    size_t results;
    struct clock_trust trust;
    struct clock_trust_date asking; /* what Stripe will have told of its time at answer_at; 0: not asked */
    int64_t answer_at;
    enum billing_phase phase;
    bool orphan; /* its attempt is of a book that was given up */
    struct billing_key key;
    uint64_t revision;
    struct boot_ms begun, deadline;
    struct billing_shown shown;
    size_t request;
};

/* The first identifier that was made for a revision, by whomever. */
struct billing_name {
    int key, customer;
    uint64_t revision;
    char identifier[LEDGER_IDENTIFIER_BYTES];
};

struct billing_world {
    struct sim *sim;
    int64_t start; /* of the first hour */
    bool punctual; /* nothing comes late: an hour is billed once, and all of it */
    int64_t quiet_from;
    const struct billing_view *view;
    struct control_chain chain;
    struct {
        char text[256];
        size_t length;
    } control[BILLING_CONTROL_MAX]; /* facts of accounts */
    size_t controls;
    /* the ledger */
    struct ledger_record *record[BILLING_RECORDS]; /* as decoding what was encoded gave it */
    size_t records;
    unsigned epoch;
    char undecided[BILLING_KEYS][BILLING_RECORD_BYTES];
    size_t undecided_length[BILLING_KEYS], undecided_count; /* 0: none */
    bool noted[BILLING_KEYS][LEDGER_REASONS][64];
    /* Stripe */
    struct billing_request request[BILLING_REQUESTS];
    size_t requests, untaken; /* all below were taken */
    struct billing_receipt receipt[BILLING_REQUESTS];
    size_t receipts;
    uint64_t billed[BILLING_KEYS];
    uint64_t dropped[BILLING_KEYS]; /* of what was accepted */
    int billed_to[BILLING_KEYS];
    bool odd[BILLING_KEYS];                /* its summary may be: an event was dropped, or nonsense shown */
    int64_t meter_off_until, remembers_ms; /* identifiers, at least a day */
    int64_t lags_until, lag_ms;            /* of summaries */
    /* exporters */
    struct billing_exporter x[BILLING_EXPORTERS];
    size_t owner;
    struct billing_name name[BILLING_RECORDS];
    size_t names;
};

/* One of team i's customers becomes its account. */
void billing_set_customer(struct billing_world *w, int team, const char *customer);

/* Names of the teams, and of the customers: team i has i or BILLING_TEAMS + i. */
extern const char *const billing_teams[BILLING_TEAMS], *const billing_customers[BILLING_CUSTOMERS];
/* One meter that keeps the last event of the hour, two that add up. */
extern const struct meter_slot billing_meters[BILLING_METERS];

/* A key as an index below BILLING_KEYS. */
int billing_index(struct billing_key k);
/* The key of an index. */
struct billing_key billing_key_at(int i);
/* The index of what a record is about; -1: of nothing here. */
int billing_index_of(const struct billing_world *w, const char *team, enum field meter, struct wall_ms hour);
/* The key's hour. */
struct wall_ms billing_hour(const struct billing_world *w, struct billing_key k);
/* One of the world's faults happens now; never in quiet. */
bool billing_fault(struct billing_world *w, enum sim_fault kind);

/* ---- the ledger ---- */

/* x becomes the owner; a commit whose fate was open is decided. */
void billing_fence(struct billing_world *w, struct billing_exporter *x);
/* A transaction of count <= BILLING_KEYS records. OK: *first is the offset of the first. FENCED; TIMEOUT: its fate is
 * not known. */
enum sg_error billing_append(struct billing_world *w, const struct billing_exporter *x, const struct ledger_record *r,
                             size_t count, uint64_t *first);
/* Folds the ledger into b; now and then a part of it is read twice. */
void billing_fold(struct billing_world *w, struct book *b);

/* ---- Stripe ---- */

/* Everything that has reached Stripe by now is taken, in order. */
void billing_deliver(struct billing_world *w);
/* What the summary of a key says at this moment. Nonsense is close to what is hoped for. */
void billing_summary(struct billing_world *w, struct billing_key key, uint64_t hoped, struct billing_shown *out);

/* ---- exporters ---- */

void billing_step(struct billing_world *w, struct billing_exporter *x);
void billing_stop(struct billing_exporter *x);

/* The wall clock of x. False: it is not believed, and nothing that needs it may be done now. */
bool billing_now(const struct billing_world *w, const struct billing_exporter *x, struct wall_ms *now);
/* Commits and folds. False: the shard was given up. */
bool billing_commit(struct billing_world *w, struct billing_exporter *x, const struct ledger_record *r, size_t count);
/* Offsets of partitions 0 and 1, packed; for the wrong turns that ask for positions. */
uint32_t billing_positions(const char *text);
/* A step of a cycle; begins one when none is under way. */
void billing_cycle_step(struct billing_world *w, struct billing_exporter *x);

/* ---- people ---- */

/* w is zeroed. Nothing comes late when punctual. */
void billing_start(struct billing_world *w, struct sim *s, int64_t start, const struct billing_view *view,
                   bool punctual);
/* Frees what w holds. */
void billing_end(struct billing_world *w);
/* A step: what happened to people, clocks and Stripe, and one of the exporters goes on. */
void billing_act(struct billing_world *w);
/* Faults are over: all teams have customers, all clocks are right, nobody is stopped. */
void billing_quiet(struct billing_world *w);
/* How long a step of quiet lasts. The first ones are short; then it goes on for days, in which summaries come to show
 * what was received, and what stays odd is held. */
int64_t billing_quiet_ms(struct sim *s, bool first);
/* A step in quiet; zombies: of all exporters, not of the owner alone. */
void billing_quiet_step(struct billing_world *w, bool zombies);
/* Stripe has answered for hours: what is not old is closed. */
void billing_check_young(struct billing_world *w);
/* Nothing is open but what people must look at. There may be totals that were not planned yet. */
bool billing_at_rest(const struct billing_world *w);
/* What must be true after it. */
void billing_check(struct billing_world *w);

/* ---- this world's own view ---- */

struct billing_store;
/* complete_through is kept by every runner, however silent, when punctual. */
struct billing_store *billing_store_new(struct sim *s, int64_t start, uint64_t unit, bool punctual);
void billing_store_free(struct billing_store *t);
const struct billing_view *billing_store_view(struct billing_store *t);
/* A runner's next batch reaches the log. */
void billing_store_usage(struct billing_store *t);
/* A flush of the roll-up; cut, or the view is rolled back or emptied, by the world's faults. */
void billing_store_flush(struct billing_store *t);
/* All runners have nothing left, and all of it is flushed. */
void billing_store_settle(struct billing_store *t);

#endif
