#include "aggregator/billing/clock_trust.h"

void clock_trust_hear(struct clock_trust *t, const struct clock_trust_date *date)
{
    if (date->told) t->heard = *date;
}

enum clock_trust_verdict clock_trust_judge(const struct clock_trust *t, struct wall_ms wall, struct boot_ms boot,
                                           int64_t *skew_ms)
{
    *skew_ms = 0;
    if (!t->heard.told) return CLOCK_TRUST_UNKNOWN;
    *skew_ms = wall.v - (t->heard.date.v + (int64_t)(boot.v - t->heard.asked.v));
    bool far = *skew_ms > CLOCK_TRUST_SKEW_MS_MAX || *skew_ms < -(int64_t)CLOCK_TRUST_SKEW_MS_MAX;
    return far ? CLOCK_TRUST_DIFFERS : CLOCK_TRUST_BELIEVED;
}
