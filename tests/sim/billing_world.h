/* The world of billing: a view whose cells, vector and `due` may be torn and rolled back, a ledger that fences and
 * loses commits, exporters with their zombies, a network that delays, and a Stripe that refuses, throttles, fails
 * before and after it commits, forgets identifiers after a day, drops events that it accepted, switches meters off and
 * revokes keys, takes events of others, and whose summaries lag, are behind, or show nonsense. After the model of
 * design.md, section 6; time is in milliseconds.
 *
 * The exporters are the program's own: exporter.c, pusher.c, shard.c and everything under them. What is ours are the
 * things they talk to: txlog.h (ledgers.h), stripe_client.h, view.h (in this world only: the joined one has the code
 * that ships), clock, loop and log (ports.h).
 *
 * NESTING  the one thread runs one exporter's turn at a time; but wherever one calls or reads a clock, the others may
 *          go on for a while: so an exporter is frozen in the middle of anything, for up to two days, and goes on as a
 *          zombie. Of two that are frozen the later one goes on first. One that is killed has every later call fail
 *          until its turn has unwound.
 *
 * billing.c holds the schedule, billing_people.c what happens and what must be true, billing_view.c the view and the
 * log that it is a view of, billing_exporter.c the exporters' lives, billing_ports.c what they talk to,
 * billing_ledger.c what must be true of what they commit, billing_stripe.c Stripe, billing_health.c what must be told,
 * billing_last.c what is broken at the very end.
 */
#ifndef SIM_BILLING_WORLD_H
#define SIM_BILLING_WORLD_H

#include "aggregator/billing/exporter.h"
#include "tests/sim/ledgers.h"

enum { BILLING_DUE_MAX = 64, BILLING_NESTED_MAX = 3 };
enum {
    BILLING_TEAMS = 2,
    BILLING_HOURS = 3,
    BILLING_METERS = 3,
    BILLING_KEYS = BILLING_TEAMS * BILLING_HOURS * BILLING_METERS,
    BILLING_CUSTOMERS = 2 * BILLING_TEAMS
};
enum { BILLING_NAMES = 1024, BILLING_RECORDS = 4096, BILLING_REQUESTS = 2048, BILLING_EXPORTERS = 6 };
enum { BILLING_FOREIGN = 64 };
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
    struct billing_key key;
    char identifier[LEDGER_IDENTIFIER_BYTES], body[LEDGER_BODY_BYTES];
    uint32_t status; /* 0: no answer */
    char answer[256];
};

/* An event that Stripe took. */
struct billing_receipt {
    char identifier[LEDGER_IDENTIFIER_BYTES]; /* "": it is not ours */
    int key, customer;
    uint64_t value;
    int64_t at, shown_at;  /* the latter: by summaries */
    bool dropped, made_up; /* made_up: another one is in its place */
};

/* What a summary said. */
struct billing_shown {
    uint32_t status; /* 0: no answer */
    char text[256];
    int64_t at, told_at; /* Stripe's time; when it is here */
};

/* Who gives no answer, and no error either. */
enum billing_silent { BILLING_SILENT_NOBODY, BILLING_SILENT_STRIPE, BILLING_SILENT_KAFKA, BILLING_SILENT_REDIS };

/* What exporters look at, and the truth of it. */
struct billing_view {
    void *arg;
    int64_t close_delay_ms;
    /* What was really used until now, by whatever the world counts by itself. */
    uint64_t (*truth)(void *arg, int key);
    /* As view.h has them. All NULL: the code that ships, over the Redis of the joined world. */
    void (*head)(void *arg, struct view_head *out);
    size_t (*due)(void *arg, struct cycle_due *out); /* all of it, at most BILLING_DUE_MAX */
    void (*snapshot)(void *arg, struct cycle_hour *hours, size_t count, struct view_head *head);
    void (*done)(void *arg, const struct cycle_due *due, size_t count);
    bool (*rows)(void *arg, const struct view_rows *rows, uint64_t from, uint64_t at);
    uint64_t (*row_at)(void *arg, int key); /* the billing cell's offset; 0: there is none */
    /* Usage of a key comes after all, and is flushed; NULL: it cannot. */
    void (*late)(void *arg, int key);
    /* In quiet: its billing cells are those of the book. */
    void (*check_rows)(void *arg, uint32_t shard, const struct book *b);
};

/* One process. */
struct billing_exporter {
    struct sim_actor actor;
    struct billing_world *world;
    bool alive, busy;
    size_t opened[LEDGERS_MOST]; /* a shard, behind so many records */
    /* since then Stripe says that its key may not send, or ask for meters; may not ask for summaries; 0: it does not */
    int64_t denied_at, read_denied_at;
    bool untold; /* in this turn Stripe did not answer when it was asked for its meters */
    struct exporter_config config;
    struct exporter exporter;
};

/* The first identifier that was made for a revision, by whomever. */
struct billing_name {
    int key, customer;
    uint64_t revision;
    bool committed;
    const struct billing_exporter *by; /* whose commit that was, */
    size_t record;                     /* before so many */
    unsigned begun;                    /* requests, by whomever */
    struct ledger_record intent;
};

/* Where a record stands, and of what it is. */
struct billing_place {
    int key;
    uint64_t offset;
};

struct billing_world {
    struct sim *sim;
    int64_t start; /* of the first hour */
    bool punctual; /* nothing comes late: an hour is billed once, and all of it */
    int64_t quiet_from;
    size_t open_most; /* revisions of a shard, beside those that may be held */
    const struct billing_view *view;
    uint32_t shards; /* of the ledger */
    struct control_chain chain;
    /* the ledger */
    struct ledgers_watcher watcher;
    struct billing_name *name[BILLING_NAMES];
    struct billing_place record[BILLING_RECORDS]; /* committed */
    size_t names, records;
    struct wall_ms intent_at[BILLING_KEYS]; /* the newest one's */
    uint64_t intended[BILLING_KEYS];        /* likewise: the total */
    bool noted[BILLING_KEYS][LEDGER_REASONS][64];
    /* Stripe */
    struct billing_request request[BILLING_REQUESTS];
    size_t requests, untaken; /* all below were taken */
    struct billing_receipt receipt[BILLING_REQUESTS + BILLING_FOREIGN];
    size_t receipts, foreign; /* the latter: of these */
    uint64_t billed[BILLING_KEYS];
    uint64_t dropped[BILLING_KEYS]; /* of what was accepted */
    int billed_to[BILLING_KEYS];
    bool odd[BILLING_KEYS]; /* its summary may be: an event was dropped, or not ours, or nonsense shown */
    int64_t meter_off_until, key_off_until;
    bool replaced;                 /* those that kept the last event add up now, and the other way round */
    int64_t remembers_ms;          /* identifiers, at least a day */
    int64_t lags_until, lag_ms;    /* of summaries */
    int64_t told_at[BILLING_KEYS]; /* Stripe's time of the newest summary that an exporter was told */
    enum billing_silent silent;
    struct txlog_waiter onlooker; /* at whoever waits in vain */
    /* exporters */
    struct billing_exporter *x; /* BILLING_EXPORTERS */
    size_t owner;               /* who opened a shard last */
    unsigned depth, incarnations;
    /* What goes on while an exporter waits, until so many steps were made. */
    void (*others)(void *arg);
    void *others_arg;
    uint64_t steps_end, frozen_ms_most;
};

/* The fact that one of team i's customers becomes its account, as the next one of the chain. Returns its length. */
size_t billing_account_fact(const struct billing_world *w, struct control_chain *chain, int team, const char *customer,
                            char text[static CONTROL_BYTES_MAX]);
/* It does. */
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

/* What is proposed and kept is looked at from now on. */
void billing_ledger_begin(struct billing_world *w);
void billing_ledger_end(struct billing_world *w);
/* Who named a revision so; NULL: nobody. */
struct billing_name *billing_named(const struct billing_world *w, const char *identifier);
/* Redis says that billing cells are written of all that is below this offset. Of one shard. */
void billing_check_rows(struct billing_world *w, uint64_t below);
/* Offsets of partitions 0 and 1, packed; for the wrong turns that ask for positions. */
uint32_t billing_positions(const char *text, size_t length);

/* ---- Stripe ---- */

/* Everything that has reached Stripe by now is taken, in order. */
void billing_deliver(struct billing_world *w);
/* Somebody else's event, which no sum of ours can be mistaken for. */
void billing_foreign_event(struct billing_world *w);
/* What the customer's summary of a key says at this moment. Nonsense is close to what is hoped for. */
void billing_summary(struct billing_world *w, struct billing_key key, int customer, uint64_t hoped,
                     struct billing_shown *out);

/* ---- exporters ---- */

/* Who is made from now on talks to this world; NULL: to none. */
void billing_ports_begin(struct billing_world *w);
/* A new process. */
void billing_exporter_begin(struct billing_world *w, struct billing_exporter *x);
/* Room for open revisions beside all that may be held by now. */
void billing_make_room(const struct billing_world *w, struct billing_exporter *x);
/* The machine's clock goes on being wrong. */
void billing_exporter_end(struct billing_exporter *x);
/* One turn; one that has died in it, or was asked to stop, is gone. */
void billing_exporter_turn(struct billing_world *w, struct billing_exporter *x);

/* ---- people ---- */

/* w is zeroed but for shards, others, steps_end and frozen_ms_most; the ledgers have begun. Nothing comes late when
 * punctual. */
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
/* A step in quiet. zombies: of all exporters, each until it has lost a shard; else of the owner alone. */
void billing_quiet_step(struct billing_world *w, bool zombies);
/* Stripe has answered for hours: what is not old is closed. */
void billing_check_young(struct billing_world *w);
/* Nothing is open but what people must look at. There may be totals that were not planned yet. */
bool billing_at_rest(const struct billing_world *w);
/* What must be true after it. */
void billing_check(struct billing_world *w);
/* After a turn: who was told that his key is not accepted says so, and so does who was not told the meters. */
void billing_check_denied(struct billing_world *w, struct billing_exporter *x);
/* Somebody waits for who is silent, and is looked at meanwhile. */
void billing_wait(struct billing_world *w, int64_t ms);
/* Who misses an answer when there is something to do says so in time (billing_health.c). work: makes that so. */
void billing_check_told(struct billing_world *w, void (*work)(void *arg), void *arg);
/* The same at rest, and all is well again. */
void billing_check_health(struct billing_world *w);

/* Behind all that: the ledger may lose its end, the control topic's chain be broken, meters replaced (billing_last.c).
 */
void billing_last_act(struct billing_world *w);

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
/* It is rolled back, whatever the faults. */
void billing_store_roll_back(struct billing_store *t);
/* All runners have nothing left, and all of it is flushed. */
void billing_store_settle(struct billing_store *t);

#endif
