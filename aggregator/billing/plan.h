/* The plan: what billing does next. Pure: (totals of a snapshot, the book, time) -> a record to commit, an attempt to
 * begin, or nothing. The protocol of design.md, section 6; every rule has a counterexample in the model.
 *
 * ONLY UPWARDS   usage only grows and each cell is a true sum, so a stale or torn snapshot says too little, never too
 *                much: more than what is accounted for is always right to bill, less is never acted on.
 * ONE OPEN       a (team, meter, hour) has at most one revision whose fate is not known.
 * SAME BYTES     a revision's identifier and body are made once, with its intent, and read from the ledger ever after.
 *                The identifier holds no value: a total computed anew can never become a second identity.
 * YOUNG          a copy is begun within PLAN_COPY_MS of the intent's time, when every copy that Stripe may have
 * received is still known to it by its identifier (it remembers for at least 24 hours). Older: held, for good. The time
 * never starts anew. All of it holds for a wall clock that is believed (clock_trust.h): callers ask for nothing here
 * while theirs is not. DEADLINE       an attempt's request is written within PLAN_ATTEMPT_MS of the decision, by the
 * boot-time clock, or not at all. */
#ifndef BILLING_PLAN_H
#define BILLING_PLAN_H

#include "aggregator/billing/answer.h"
#include "aggregator/billing/book.h"
#include "aggregator/billing/clock_trust.h"

enum {
    PLAN_COPY_MS = 20 * HOUR_MS,
    PLAN_ATTEMPT_MS = 60 * SECOND_MS,
    PLAN_KEY_BYTES = 41, /* names of payload keys, with their NUL */
    PLAN_BACKOFF_MS_MIN = 500,
    PLAN_BACKOFF_MS_MAX = 60 * SECOND_MS,
    PLAN_RETRY_AFTER_MS_MAX = 120 * SECOND_MS,
};

/* A meter as Stripe describes it. */
struct plan_meter {
    enum field field; /* its name is the event_name */
    enum bill_mode mode;
    char customer_key[PLAN_KEY_BYTES], value_key[PLAN_KEY_BYTES]; /* [A-Za-z0-9_-] */
};

/* What is asked about one meter of one hour of one team. */
struct plan_question {
    const char *account; /* names the Stripe account in identifiers */
    const struct plan_meter *meter;
    const char *team;
    const char *customer; /* the team's now; the first intent's counts for its hour. NULL: none */
    struct wall_ms hour;
    struct amount total;
    const char *positions; /* may be NULL */
    struct wall_ms now;
};

enum plan_verdict {
    PLAN_SETTLED,    /* the total is accounted for, or there is none */
    PLAN_UNRESOLVED, /* a revision is open */
    PLAN_PENDING,    /* the team has no customer */
    PLAN_LOWER,      /* less than what is accounted for: nothing to do, and odd */
    PLAN_HELD,       /* needs people; what is to be said is in the ledger */
    PLAN_RECORD,     /* commit *out: an intent, or a note that says why there is none */
    PLAN_VERDICTS,
};
/* The answer for one meter. */
enum plan_verdict plan_revision(const struct book *b, const struct plan_question *q, struct ledger_record *out);

enum plan_attempt { PLAN_SEND, PLAN_LATER, PLAN_TOO_OLD };
/* May a copy of o be begun now? TOO_OLD also when its age cannot be told: its intent is from the future. The caller
 * looks after one request in flight per (customer, meter). */
enum plan_attempt plan_attempt(const struct book_open *o, struct wall_ms wall, struct boot_ms boot);
/* The request may be written on its open connection: the decision to send it is not too long ago. */
bool plan_may_write(struct boot_ms deadline, struct boot_ms boot);

/* An answer, or that there was none, and the time it came at. */
struct plan_reply {
    enum answer answer;
    enum ledger_reason reason; /* of REFUSED */
    uint32_t status;           /* 0: none */
    const char *request_id;    /* "" for none */
    uint64_t retry_after_ms;   /* 0: nothing was asked for */
    uint32_t random;           /* any 32 bits */
    struct wall_ms wall;
    struct boot_ms boot;
};
/* What follows for o, an open revision of b with an attempt in flight. True: commit *out, its outcome or a note. With
 * an outcome o stays in flight until that is folded; else the next attempt is put off. */
bool plan_settle(const struct book *b, struct book_open *o, const struct plan_reply *reply, struct ledger_record *out);
/* o is too old to be sent again. True: commit *out, which says so; it is said once. */
bool plan_hold(const struct book *b, struct book_open *o, struct wall_ms wall, struct ledger_record *out);
/* Milliseconds to wait after the attempt-th failure (1 is the first): full jitter over a doubling range. random: any
 * 32 bits. retry_after_ms: what the answer asked for, 0 for nothing; capped, and a lower bound. */
uint64_t plan_backoff_ms(uint32_t attempt, uint32_t random, uint64_t retry_after_ms);

/* "sg1-" and the SHA-256 of what names a revision (proto/ledger.md). */
void plan_identifier(const struct plan_question *q, const char *customer, uint64_t revision,
                     char out[static LEDGER_IDENTIFIER_BYTES]);

#endif
