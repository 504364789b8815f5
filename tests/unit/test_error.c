#include <criterion/criterion.h>
#include <string.h>

#include "sandglass/error.h"

Test(error, has_a_text_and_a_name_for_every_code)
{
    for (int e = SG_OK; e < SG_ERROR_COUNT; e++) {
        cr_assert_gt(strlen(sg_error_text((enum sg_error)e)), 0);
        cr_assert_gt(strlen(sg_error_name((enum sg_error)e)), 0);
    }
    cr_assert_str_eq(sg_error_name(SG_ERR_NOT_FOUND), "NOT_FOUND");
}

Test(error, wraps_from_the_inside_out)
{
    struct sg_fault f = {0};
    cr_assert_eq(sg_fail(&f, SG_ERR_CORRUPT, "checksum at %d", 7), SG_ERR_CORRUPT);
    cr_assert_eq(sg_wrap(&f, "record %d", 3), SG_ERR_CORRUPT);
    cr_assert_eq(sg_wrap(&f, "segment"), SG_ERR_CORRUPT);
    cr_assert_str_eq(f.text, "segment: record 3: checksum at 7");
}

Test(error, cuts_the_innermost_when_there_is_no_room)
{
    struct sg_fault f = {0};
    char longest[SG_FAULT_BYTES * 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    cr_assert_eq(sg_fail(&f, SG_ERR_IO, "%s", longest), SG_ERR_IO);
    cr_assert_eq(strlen(f.text), SG_FAULT_BYTES - 1);
    sg_wrap(&f, "outer");
    cr_assert_eq(strncmp(f.text, "outer: xx", 9), 0);
    cr_assert_eq(strlen(f.text), SG_FAULT_BYTES - 1);
    sg_wrap(&f, "%s", longest);
    cr_assert_eq(strlen(f.text), SG_FAULT_BYTES - 1);
}

Test(error, works_without_a_fault)
{
    cr_assert_eq(sg_fail(NULL, SG_ERR_LIMIT, "x"), SG_ERR_LIMIT);
    sg_wrap(NULL, "x");
}
