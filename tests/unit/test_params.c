#include <criterion/criterion.h>
#include <string.h>

#include "aggregator/api/params.h"

static const unsigned all = (1u << PARAMS) - 1;

static enum sg_error take(const char *name, const char *value, struct params *p)
{
    struct sg_fault f = {0};
    params_init(p);
    enum sg_error e = params_take(p, all, name, value, &f);
    if (e) cr_assert(!value || !value[0] || !strstr(f.text, value), "quoted");
    return e;
}

Test(params, known_parameters_are_taken)
{
    struct params p;
    cr_assert_eq(take("from", "2025-11-23T08:00:00Z", &p), SG_OK);
    cr_assert_eq(p.from.v, INT64_C(1763884800000));
    cr_assert_eq(take("limit", "1000", &p), SG_OK);
    cr_assert_eq(p.limit, 1000);
    cr_assert_eq(take("meter", "exit.137", &p), SG_OK);
    cr_assert_eq((int)p.meter, FIELD_EXIT + 137);
    cr_assert_eq(take("step", "day", &p), SG_OK);
    cr_assert_eq(p.step, WINDOW_DAY);
    cr_assert_eq(take("group_by", "region", &p), SG_OK);
    cr_assert_eq(take("format", "csv", &p), SG_OK);
    cr_assert_eq(take("project", "-", &p), SG_OK);
}

Test(params, bad_values_are_refused_and_never_quoted)
{
    static const char *const bad[][2] = {{"from", "CANARY"},
                                         {"to", "CANARY"},
                                         {"project", "CANARY.x"},
                                         {"region", "-"},
                                         {"limit", "0"},
                                         {"limit", "1001"},
                                         {"limit", "1x"},
                                         {"limit", "-1"},
                                         {"cursor", "CANARY"},
                                         {"cursor", "1-"},
                                         {"cursor", "9999999999999999-1"},
                                         {"cursor", "1-4294967296"},
                                         {"meter", "CANARY"},
                                         {"step", "CANARY"},
                                         {"group_by", "CANARY"},
                                         {"format", "CANARY"},
                                         {"CANARY", "1"},
                                         {"from", ""}};
    struct params p;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(take(bad[i][0], bad[i][1], &p), SG_ERR_USAGE, "%zu", i);
    cr_assert_eq(take("from", NULL, &p), SG_ERR_USAGE);
}

Test(params, what_the_route_does_not_list_or_has_already_is_refused)
{
    struct params p;
    struct sg_fault f = {0};
    params_init(&p);
    cr_assert_eq(params_take(&p, PARAM_BIT(PARAM_FROM), "to", "1", &f), SG_ERR_USAGE);
    cr_assert_eq(params_take(&p, PARAM_BIT(PARAM_FROM), "from", "1", &f), SG_OK);
    cr_assert_eq(params_take(&p, PARAM_BIT(PARAM_FROM), "from", "1", &f), SG_ERR_USAGE);
    cr_assert_eq(params_finish(&p, PARAM_BIT(PARAM_METER), &f), SG_ERR_USAGE);
    cr_assert_str_eq(f.text, "parameter meter is missing");
    p.to = p.from;
    cr_assert_eq(params_finish(&p, PARAM_BIT(PARAM_FROM), &f), SG_OK);
    p.to.v = 0;
    cr_assert_eq(params_finish(&p, 0, &f), SG_ERR_USAGE);
}

Test(params, a_cursor_is_read_back)
{
    char text[CURSOR_BYTES_MAX];
    struct params p;
    cursor_format((struct page){{INT64_C(1763884800123)}, 7, true}, text);
    cr_assert_eq(take("cursor", text, &p), SG_OK);
    cr_assert_eq(p.cursor.from_top.v, INT64_C(1763884800123));
    cr_assert_eq(p.cursor.skip, 7);
}
