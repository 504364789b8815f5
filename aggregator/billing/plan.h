/* The plan: what billing does next. Pure: (totals of a snapshot, the book, time) -> a record to commit, an attempt to
 * begin, or nothing. The protocol of design.md, section 6; every rule has a counterexample in the model.
 *
 * ONLY UPWARDS   usage only grows and each cell is a true sum, so a stale or torn snapshot says too little, never too
 *                much: more than what is accounted for is always right to bill, less is never acted on.
 * ONE OPEN       a (team, meter, hour) has at most one revision whose fate is not known.
 * SAME BYTES     a revision's identifier and body are made once, with its intent, and read from the ledger ever after.
 *                The identifier holds no value: a total computed anew can never become a second identity.
 *
 * YOUNG          a copy is begun within PLAN_COPY_MS of the intent's time, when Stripe still knows every copy that it
 *                may have received by its identifier (it remembers for 24 hours or more). That never starts anew.
 *
 * OLD            then only right after a summary that shows exactly what was accounted for before: what Stripe received
 *                more than a day ago it would show, what it received since it refuses as a duplicate. One that shows
 *                the new total closes the revision.
 *
 * ODD            a summary that shows neither says nothing: older revisions may not be in it yet. Still so a day after
 *                the intent, and so after every older outcome of the hour: held for people. It is read on, and closed
 *                when the new total is seen.
 * CLOCK          all of it holds for a wall clock that is believed (clock_trust.h): callers ask for nothing here while
 *                theirs is not.
 * DEADLINE       a request is written within PLAN_ATTEMPT_MS, by the boot-time clock, of what it rests upon, or not at
 *                all: of the decision while young, of the start of the read when old.
 *
 * Reads are rationed by Stripe: a revision's are ever rarer (PLAN_READ_MS_MIN to PLAN_READ_MS_MAX). */
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
    PLAN_READ_MS_MIN = 5 * SECOND_MS,
    PLAN_READ_MS_MAX = HOUR_MS,
    PLAN_ODD_MS = DAY_MS, /* by then a summary shows what was received before */
    PLAN_METER_ID_BYTES = 65,
};

/* A meter as Stripe describes it. */
struct plan_meter {
    enum field field; /* its name is the event_name */
    enum bill_mode mode;
    char customer_key[PLAN_KEY_BYTES], value_key[PLAN_KEY_BYTES], id[PLAN_METER_ID_BYTES]; /* [A-Za-z0-9_-] */
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

enum plan_attempt { PLAN_SEND, PLAN_READ, PLAN_LATER };
/* May a copy of o be begun now, or must its summary be read first? READ also when its age cannot be told: its intent is
 * from the future. The caller looks after one request in flight per (customer, meter). */
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
/* What the read of a summary said. It is of some moment since it was asked for, however late it is looked at. */
struct plan_sight {
    bool told;            /* else nothing was learnt */
    struct boot_ms asked; /* before it was made */
    struct summary summary;
    uint32_t random;     /* any 32 bits */
    struct wall_ms wall; /* now: these two */
    struct boot_ms boot;
};

enum plan_reading {
    PLAN_READING_WAIT,   /* read again later */
    PLAN_READING_COPY,   /* a copy may be begun, its deadline counted from the start of the read */
    PLAN_READING_COMMIT, /* *out: an outcome, or a note */
};
/* What follows for o, an open revision of b whose summary was read. It stays in flight for COPY, and with an outcome
 * until that is folded. */
enum plan_reading plan_reconcile(const struct book *b, struct book_open *o, const struct plan_sight *sight,
                                 struct ledger_record *out);
/* Milliseconds to wait after the attempt-th failure (1 is the first): full jitter over a doubling range. random: any
 * 32 bits. retry_after_ms: what the answer asked for, 0 for nothing; capped, and a lower bound. */
uint64_t plan_backoff_ms(uint32_t attempt, uint32_t random, uint64_t retry_after_ms);
/* Milliseconds to wait after a revision's read-th read (1 is the first). */
uint64_t plan_read_backoff_ms(uint32_t read, uint32_t random);

/* "sg1-" and the SHA-256 of what names a revision (proto/ledger.md). */
void plan_identifier(const struct plan_question *q, const char *customer, uint64_t revision,
                     char out[static LEDGER_IDENTIFIER_BYTES]);

#endif
