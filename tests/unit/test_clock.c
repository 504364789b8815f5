#include <criterion/criterion.h>

#include "common/clock.h"

Test(clock, boot_time_never_goes_back)
{
    struct boot_ms before = clock_boot();
    for (int i = 0; i < 10000; i++) {
        struct boot_ms now = clock_real.boot(clock_real.arg);
        cr_assert_geq(now.v, before.v);
        before = now;
    }
}

Test(clock, wall_time_is_of_this_century)
{
    struct wall_ms now = clock_real.wall(clock_real.arg);
    cr_assert_gt(now.v, INT64_C(1735689600000));
    cr_assert_lt(now.v, WALL_MS_MAX);
}

Test(clock, since_is_never_negative)
{
    cr_assert_eq(clock_since((struct boot_ms){7}, (struct boot_ms){3}), 4);
    cr_assert_eq(clock_since((struct boot_ms){3}, (struct boot_ms){7}), 0);
}
