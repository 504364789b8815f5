/* Whether the machine's wall clock may be believed. Pure.
 *
 * The age of a revision decides whether a copy of it may still be sent (plan.h, YOUNG), and the age is a difference of
 * two readings of wall clocks, maybe of two machines. A clock that was set back by hours makes an old revision young,
 * and Stripe, which has forgotten it, counts its copy again.
 *
 * WITNESS  Stripe's own time, from the Date of an answer, and the boot time at which that answer was asked for. The
 * boot-time clock cannot be set: their sum says what Stripe's clock shows ever after. It was asked for before its Date
 * was made, so the sum is late rather than early, however long the answer took, and ages are overrated.
 * RULE     the wall clock is believed while it is within CLOCK_TRUST_SKEW_MS_MAX of the witness. A process that has not
 * heard of Stripe yet believes nothing. Whoever does not believe its clock makes no intent, begins no attempt and holds
 * nothing. A clock that is set right is believed again at once; a wrong Date is mended by the next right one. */
#ifndef BILLING_CLOCK_TRUST_H
#define BILLING_CLOCK_TRUST_H

#include <stdbool.h>

#include "sandglass/time.h"

enum { CLOCK_TRUST_SKEW_MS_MAX = 300 * SECOND_MS };

/* What an answer says of the time. */
struct clock_trust_date {
    bool told;
    struct wall_ms date;  /* to the second */
    struct boot_ms asked; /* by our clock: before it was made */
};

/* Zeroed: nothing was heard of Stripe. */
struct clock_trust {
    struct clock_trust_date heard; /* last */
};

enum clock_trust_verdict { CLOCK_TRUST_BELIEVED, CLOCK_TRUST_UNKNOWN, CLOCK_TRUST_DIFFERS };

/* Takes Stripe's time from an answer, if it tells. */
void clock_trust_hear(struct clock_trust *t, const struct clock_trust_date *date);
/* *skew_ms: the wall clock less Stripe's, 0 while that is UNKNOWN. */
enum clock_trust_verdict clock_trust_judge(const struct clock_trust *t, struct wall_ms wall, struct boot_ms boot,
                                           int64_t *skew_ms);

#endif
