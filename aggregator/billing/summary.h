/* What Stripe's summary of a (meter, customer, hour) shows. Pure (jansson).
 *
 * A page of GET /v1/billing/meters/{id}/event_summaries, asked for one hour in buckets of an hour. The order of buckets
 * and whether an empty one is there are not promised: the one that starts at the hour counts, none is 0, and others are
 * not ours (Stripe's texts differ on whether the end belongs to the range).
 *
 * A number counts as it is written, digit by digit: no library's double comes between. One that is not written as a
 * whole one, or that Stripe's own doubles could not tell from its neighbours, is no sum of what we sent, and is never
 * rounded to one. ".0" is how some write whole ones.
 *
 * Nothing is concluded from a page that is not understood, or that says there are more. */
#ifndef BILLING_SUMMARY_H
#define BILLING_SUMMARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/amount.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

/* A double tells every whole number up to here from its neighbours. */
#define SUMMARY_SUM_MAX ((UINT64_C(1) << 53) - 1)

/* A sum as it was shown. */
struct summary {
    bool whole; /* else it is none that we can have sent, and sum is 0 */
    struct amount sum;
};

/* Takes a page. MALFORMED (f says what is wrong, without content); NOMEM. */
SG_MUST_USE enum sg_error summary_take(const char *body, size_t length, struct wall_ms hour, struct summary *out,
                                       struct sg_fault *f);

#endif
