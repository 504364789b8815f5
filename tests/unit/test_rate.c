#include <criterion/criterion.h>

#include "aggregator/api/rate.h"

static struct rate rate;

static unsigned taken(uint64_t hash, uint64_t now_ms, unsigned wanted)
{
    unsigned count = 0;
    uint32_t retry_after_s = 0;
    while (count < wanted && rate_take(&rate, hash, (struct boot_ms){now_ms}, &retry_after_s)) count++;
    if (count < wanted) cr_assert_eq(retry_after_s, 1);
    return count;
}

Test(rate, a_key_has_a_burst_and_then_its_rate)
{
    rate.per_s = 10;
    cr_assert_eq(taken(1, 5000, 100), 10 * RATE_BURST_FACTOR);
    cr_assert_eq(taken(1, 5000, 100), 0);
    cr_assert_eq(taken(1, 5099, 100), 0);
    cr_assert_eq(taken(1, 5500, 100), 5);
    cr_assert_eq(taken(1, 4000, 100), 0, "time that goes back gives nothing");
    cr_assert_eq(taken(1, 100000, 100), 10 * RATE_BURST_FACTOR);
}

Test(rate, what_was_saved_is_never_more_than_the_burst)
{
    rate.per_s = 10;
    cr_assert_eq(taken(1, 5000, 1), 1);
    cr_assert_eq(taken(1, 6000, 100), 10 * RATE_BURST_FACTOR);
}

Test(rate, keys_do_not_share_and_zero_is_no_limit)
{
    rate.per_s = 1;
    cr_assert_eq(taken(1, 5000, 100), RATE_BURST_FACTOR);
    cr_assert_eq(taken(2, 5000, 100), RATE_BURST_FACTOR);
    rate.per_s = 0;
    cr_assert_eq(taken(1, 5000, 100000), 100000);
}
