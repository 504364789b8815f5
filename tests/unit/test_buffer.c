#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "common/buffer.h"

Test(buffer, grows_as_it_is_appended_to)
{
    struct buffer b;
    buffer_init(&b, 100000);
    for (int i = 0; i < 10000; i++) buffer_append(&b, "abc", 3);
    buffer_text(&b, "de");
    buffer_printf(&b, "%d-%s", 42, "f");
    cr_assert_eq(b.error, SG_OK);
    cr_assert_eq(b.length, 30006);
    cr_assert_str_eq(b.data + 30000, "de42-f");
    buffer_destroy(&b);
}

Test(buffer, takes_exactly_its_limit_and_nothing_after_an_error)
{
    struct buffer b;
    buffer_init(&b, 5);
    buffer_text(&b, "12345");
    cr_assert_eq(b.error, SG_OK);
    buffer_append(&b, "", 0);
    cr_assert_eq(b.error, SG_OK);
    buffer_text(&b, "6");
    cr_assert_eq(b.error, SG_ERR_LIMIT);
    buffer_append(&b, "", 0);
    buffer_printf(&b, "x");
    cr_assert_null(buffer_reserve(&b, 1));
    cr_assert_str_eq(b.data, "12345");
    buffer_reset(&b);
    buffer_text(&b, "7");
    cr_assert_eq(b.error, SG_OK);
    cr_assert_str_eq(b.data, "7");
    buffer_destroy(&b);
}

Test(buffer, does_not_grow_past_its_limit_by_overflow)
{
    struct buffer b;
    buffer_init(&b, SIZE_MAX - 1);
    buffer_text(&b, "1234");
    cr_assert_null(buffer_reserve(&b, SIZE_MAX - 3));
    cr_assert_eq(b.error, SG_ERR_LIMIT);
    buffer_destroy(&b);
}

Test(buffer, reserves_commits_and_consumes)
{
    struct buffer b;
    buffer_init(&b, 64);
    buffer_consume(&b, 0);
    char *to = buffer_reserve(&b, 10);
    memcpy(to, "0123456789", 10);
    buffer_commit(&b, 6);
    cr_assert_str_eq(b.data, "012345");
    buffer_consume(&b, 4);
    cr_assert_str_eq(b.data, "45");
    buffer_consume(&b, 2);
    cr_assert_eq(b.length, 0);
    buffer_destroy(&b);
}

Test(buffer, destroys_what_is_zeroed)
{
    struct buffer b = {0};
    buffer_destroy(&b);
    buffer_text(&b, "x");
    cr_assert_eq(b.error, SG_ERR_LIMIT, "a zeroed buffer has limit 0");
}
