/* The meters as Stripe describes them: which of them add up and which keep the last event of the hour. Pure (jansson).
 *
 * A configured meter is found by its event_name, which is the name of a field of a rollup. It must be active, its
 * formula sum, its window the hour (mode set) or none (mode delta); all else is refused, because events would then mean
 * something else than we send. */
#ifndef BILLING_METERS_H
#define BILLING_METERS_H

#include "aggregator/billing/plan.h"

enum { METERS_MAX = 16, METERS_CURSOR_BYTES = 65 };

/* A configured meter; found once a page of the list held it. */
struct meter_slot {
    struct plan_meter meter;
    bool found;
};

/* Takes one page of GET /v1/billing/meters. cursor: "" when it was the last one, else what starting_after takes next.
 * MALFORMED: not such a page. CONFIG: a configured meter cannot be used (f names it and says why). */
SG_MUST_USE enum sg_error meters_take_page(struct meter_slot *slots, size_t count, const char *body, size_t length,
                                           char cursor[static METERS_CURSOR_BYTES], struct sg_fault *f);

#endif
