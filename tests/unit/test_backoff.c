#include <criterion/criterion.h>

#include "common/backoff.h"

Test(backoff, doubles_its_ceiling_up_to_the_cap)
{
    struct backoff b;
    uint32_t ceiling[] = {100, 200, 400, 800, 1000, 1000, 1000}, seen[7] = {0};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        backoff_init(&b, 100, 1000, seed);
        for (int i = 0; i < 7; i++) {
            uint32_t wait = backoff_next(&b);
            cr_assert(wait >= 1 && wait <= ceiling[i]);
            if (wait > seen[i]) seen[i] = wait;
        }
    }
    for (int i = 0; i < 7; i++) cr_assert_gt(seen[i], ceiling[i] * 9 / 10, "attempt %d uses its range", i);
}

Test(backoff, starts_at_base_again_once_it_worked)
{
    struct backoff b;
    backoff_init(&b, 10, UINT32_MAX, 7);
    for (int i = 0; i < 100; i++) backoff_next(&b);
    backoff_reset(&b);
    cr_assert_leq(backoff_next(&b), 10);
}

Test(backoff, gives_the_same_waits_for_the_same_seed)
{
    struct backoff a, b;
    backoff_init(&a, 5, 5000, 3);
    backoff_init(&b, 5, 5000, 3);
    for (int i = 0; i < 50; i++) cr_assert_eq(backoff_next(&a), backoff_next(&b));
}

Test(backoff, never_counts_beyond_its_last_attempt)
{
    struct backoff b;
    backoff_init(&b, 10, 1000, 7);
    b.attempt = UINT32_MAX;
    cr_assert_leq(backoff_next(&b), 1000);
    cr_assert_eq(b.attempt, UINT32_MAX);
}
