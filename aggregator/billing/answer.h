/* What an answer of Stripe means (or no answer). Pure: status, headers and body in, a class out (jansson).
 *
 * A revision is closed only by evidence that Stripe received it: 200 with our identifier, or the refusal of a duplicate
 * that names our identifier. All else leaves it open; the classes differ in when, and under which Idempotency-Key, the
 * same bytes are sent again. Never guess success: what is not understood is AMBIGUOUS or REFUSED. */
#ifndef BILLING_ANSWER_H
#define BILLING_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/billing/summary.h"
#include "proto/ledger.h"

enum answer {
    ANSWER_ACCEPTED,
    ANSWER_DUPLICATE,
    ANSWER_NOT_SENT,       /* no byte of the request left */
    ANSWER_AMBIGUOUS,      /* same identifier, same Idempotency-Key */
    ANSWER_AMBIGUOUS_NEXT, /* same identifier, next Idempotency-Key: Stripe keeps its 500 under the old one */
    ANSWER_THROTTLED,      /* not executed; same key */
    ANSWER_REFUSED,        /* said in the ledger, and sent again slowly, under the next key: Stripe keeps its refusal */
    ANSWER_DENIED,         /* our key is not accepted: everything waits */
    ANSWERS,
};
/* Static text. */
const char *answer_text(enum answer a);

/* Material of a verdict. */
struct answer_input {
    bool complete;  /* an HTTP answer was received to its end */
    bool untouched; /* !complete: certainly no byte of the request was written */
    uint32_t status;
    bool replayed; /* Idempotent-Replayed: true */
    const char *body;
    size_t body_length;
    const char *identifier; /* ours */
};
/* The class; *reason is set for REFUSED. */
enum answer answer_classify(const struct answer_input *in, enum ledger_reason *reason);

/* What became of the read of a summary. Only TOLD says anything about a revision. */
enum answer_read {
    ANSWER_READ_TOLD,
    ANSWER_READ_MISSING, /* no answer, or an error of Stripe's own */
    ANSWER_READ_THROTTLED,
    ANSWER_READ_DENIED,
    ANSWER_READ_REFUSED,
    ANSWER_READ_MALFORMED, /* not understood */
    ANSWER_READS,
};
/* Static text. */
const char *answer_read_text(enum answer_read a);
/* The class; *out is set for TOLD. in->identifier is not looked at. */
enum answer_read answer_classify_read(const struct answer_input *in, struct wall_ms hour, struct summary *out);

#endif
