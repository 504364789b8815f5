/* The world of billing: totals as Redis may show them, a ledger that fences and loses commits, exporters with their
 * zombies around the real plan and book, a network that delays, and a Stripe that refuses, throttles, fails before and
 * after it commits, forgets identifiers after a day and switches meters off. After the model of design.md, section 6;
 * time is in milliseconds.
 *
 * billing.c holds the schedule and what must be true, billing_exporter.c the shell around the real cores,
 * billing_ledger.c and billing_stripe.c the two services. */
#ifndef SIM_BILLING_WORLD_H
#define SIM_BILLING_WORLD_H

#include "aggregator/billing/answer.h"
#include "aggregator/billing/plan.h"
#include "tests/sim/sim.h"

enum { TEAMS = 2, HOURS = 2, METERS = 3, KEYS = TEAMS * HOURS * METERS, HISTORY = 64, CUSTOMERS = 2 * TEAMS };
enum { RECORDS = 4096, REQUESTS = 4096, EXPORTERS = 6, RECORD_BYTES = 4096 };
enum { SLACK_MS = 2 * MINUTE_MS, STRIPE_REMEMBERS_MS = DAY_MS };
enum { CLOCK_STEP_MS = 5 * DAY_MS };
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

/* An identifier that Stripe took. */
struct billing_receipt {
    char identifier[LEDGER_IDENTIFIER_BYTES];
    int64_t at;
};

enum billing_phase { BILLING_IDLE, BILLING_CONNECTED, BILLING_WAITING };

/* One process: the book of one shard, the snapshot it looks at, one attempt. */
struct billing_exporter {
    bool alive, started, folded;
    int64_t wake, skew; /* of its wall clock */
    unsigned epoch;
    struct book book;
    struct clock_trust trust;
    struct clock_trust_date asking; /* what Stripe will have told of its time at answer_at; 0: not asked */
    int64_t answer_at;
    uint64_t snapshot[KEYS];
    int customer[TEAMS]; /* as control says; -1: none yet */
    enum billing_phase phase;
    bool orphan; /* its attempt is of a book that was given up */
    struct billing_key key;
    uint64_t revision;
    struct boot_ms deadline;
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
    uint64_t unit; /* what usage is counted in: large ones pass 15 digits */
    int64_t quiet_from;
    uint64_t truth[KEYS], history[KEYS][HISTORY];
    unsigned history_count;
    int customer[TEAMS];
    /* the ledger */
    struct ledger_record *record[RECORDS]; /* as decoding what was encoded gave it */
    size_t records;
    unsigned epoch;
    char undecided[RECORD_BYTES];
    size_t undecided_length; /* 0: none */
    bool noted[KEYS][LEDGER_REASONS][64];
    /* Stripe */
    struct billing_request request[REQUESTS];
    size_t requests, untaken; /* all below were taken */
    struct billing_receipt receipt[REQUESTS];
    size_t receipts;
    uint64_t billed[KEYS];
    int billed_to[KEYS];
    int64_t meter_off_until;
    /* exporters */
    struct billing_exporter x[EXPORTERS];
    size_t owner;
    struct billing_name name[RECORDS];
    size_t names;
};

/* Names of the teams, and of the customers: team i has i or TEAMS + i. */
extern const char *const billing_teams[TEAMS], *const billing_customers[CUSTOMERS];
/* One meter that keeps the last event of the hour, two that add up. */
extern const struct plan_meter billing_meters[METERS];

/* A key as an index below KEYS. */
int billing_index(struct billing_key k);
/* The key of an index. */
struct billing_key billing_key_at(int i);
/* The key's hour. */
struct wall_ms billing_hour(const struct billing_world *w, struct billing_key k);
/* One of the world's faults happens now; never in quiet. */
bool billing_fault(struct billing_world *w, enum sim_fault kind);

/* ---- the ledger ---- */

/* x becomes the owner; a commit whose fate was open is decided. */
void billing_fence(struct billing_world *w, struct billing_exporter *x);
/* OK: *offset is the record's. FENCED; TIMEOUT: its fate is not known. */
enum sg_error billing_append(struct billing_world *w, const struct billing_exporter *x, const struct ledger_record *r,
                             uint64_t *offset);
/* Folds the ledger into b; now and then a part of it is read twice. */
void billing_fold(struct billing_world *w, struct book *b);

/* ---- Stripe ---- */

/* Everything that has reached Stripe by now is taken, in order. */
void billing_deliver(struct billing_world *w);

/* ---- exporters ---- */

void billing_step(struct billing_world *w, struct billing_exporter *x);
void billing_stop(struct billing_exporter *x);

#endif
