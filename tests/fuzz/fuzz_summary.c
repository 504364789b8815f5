/* Stripe's summary of an hour. A sum is concluded only from a page that another reading finds to say just that: it goes
 * on nowhere, has the hour at most once, and a number there that is whole, also as a double. */
#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "aggregator/billing/summary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct wall_ms hour = {INT64_C(1763884800000)};

/* A double says less than the text: what is whole to it need not be so, what is not is not. */
static void compare(const json_t *value, const struct summary *s)
{
    double v = json_number_value(value);
    bool small = json_is_integer(value) ? json_integer_value(value) <= (json_int_t)SUMMARY_SUM_MAX : v < 0x1p53;
    bool whole = small && v >= 0 && !signbit(v) && floor(v) == v;
    assert(whole || !s->whole);
    assert(s->whole || !json_is_integer(value) || !whole || v == 0); /* -0 */
    assert(s->sum.v == (s->whole ? (uint64_t)v : 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct summary s;
    struct sg_fault f = {0};
    const json_t *found = NULL, *bucket;
    size_t i;
    if (summary_take((const char *)data, size, hour, &s, &f) != SG_OK) {
        assert(f.text[0] && !strstr(f.text, "canary"));
        return 0;
    }
    json_t *page = json_loadb((const char *)data, size, 0, NULL);
    assert(page && !json_is_true(json_object_get(page, "has_more")));
    json_array_foreach(json_object_get(page, "data"), i, bucket)
    {
        if (json_integer_value(json_object_get(bucket, "start_time")) != hour.v / SECOND_MS) continue;
        assert(!found);
        found = json_object_get(bucket, "aggregated_value");
    }
    if (found)
        compare(found, &s);
    else
        assert(s.whole && s.sum.v == 0);
    json_decref(page);
    return 0;
}
