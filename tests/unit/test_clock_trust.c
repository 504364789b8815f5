#include <criterion/criterion.h>

#include "aggregator/billing/clock_trust.h"

#define DATE INT64_C(1763884800000)
#define BOOT 5000

static struct clock_trust heard_at(uint64_t boot)
{
    struct clock_trust t = {0};
    clock_trust_hear(&t, &(struct clock_trust_date){true, {DATE}, {boot}});
    return t;
}

static enum clock_trust_verdict judge(const struct clock_trust *t, int64_t wall, uint64_t boot)
{
    int64_t skew_ms;
    return clock_trust_judge(t, (struct wall_ms){wall}, (struct boot_ms){boot}, &skew_ms);
}

Test(clock_trust, nothing_is_believed_before_stripe_has_told_its_time)
{
    struct clock_trust t = {0};
    cr_assert_eq(judge(&t, DATE, BOOT), CLOCK_TRUST_UNKNOWN);
    clock_trust_hear(&t, &(struct clock_trust_date){.told = false});
    cr_assert_eq(judge(&t, DATE, BOOT), CLOCK_TRUST_UNKNOWN);
}

Test(clock_trust, a_clock_is_believed_up_to_300_s_from_stripes)
{
    struct clock_trust t = heard_at(BOOT);
    int64_t skew_ms;
    cr_assert_eq(judge(&t, DATE, BOOT), CLOCK_TRUST_BELIEVED);
    cr_assert_eq(judge(&t, DATE + CLOCK_TRUST_SKEW_MS_MAX, BOOT), CLOCK_TRUST_BELIEVED);
    cr_assert_eq(judge(&t, DATE + CLOCK_TRUST_SKEW_MS_MAX + 1, BOOT), CLOCK_TRUST_DIFFERS);
    cr_assert_eq(judge(&t, DATE - CLOCK_TRUST_SKEW_MS_MAX, BOOT), CLOCK_TRUST_BELIEVED);
    cr_assert_eq(judge(&t, DATE - CLOCK_TRUST_SKEW_MS_MAX - 1, BOOT), CLOCK_TRUST_DIFFERS);
    (void)clock_trust_judge(&t, (struct wall_ms){DATE - HOUR_MS}, (struct boot_ms){BOOT}, &skew_ms);
    cr_assert_eq(skew_ms, -HOUR_MS);
}

Test(clock_trust, a_clock_that_is_set_back_while_we_run_is_noticed_without_another_answer)
{
    struct clock_trust t = heard_at(BOOT);
    cr_assert_eq(judge(&t, DATE + 25 * HOUR_MS, BOOT + 25 * HOUR_MS), CLOCK_TRUST_BELIEVED);
    cr_assert_eq(judge(&t, DATE + 19 * HOUR_MS, BOOT + 25 * HOUR_MS), CLOCK_TRUST_DIFFERS);
    cr_assert_eq(judge(&t, DATE + 26 * HOUR_MS, BOOT + 26 * HOUR_MS), CLOCK_TRUST_BELIEVED, "it was set right");
}

Test(clock_trust, the_newest_answer_counts)
{
    struct clock_trust t = heard_at(BOOT);
    clock_trust_hear(&t, &(struct clock_trust_date){true, {DATE + DAY_MS}, {BOOT + 1}});
    cr_assert_eq(judge(&t, DATE, BOOT + 1), CLOCK_TRUST_DIFFERS);
    clock_trust_hear(&t, &(struct clock_trust_date){true, {DATE}, {BOOT + 2}});
    cr_assert_eq(judge(&t, DATE, BOOT + 2), CLOCK_TRUST_BELIEVED);
}
