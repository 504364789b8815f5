/* The price book, which people write: what is taken has a price for every hour, and the rates are what a slow and
 * separate reader of decimals makes of the text. */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "aggregator/api/price.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 10^-9 USD of a decimal with at most nine places. */
static uint64_t nano_of(const char *text)
{
    uint64_t v = 0;
    const char *point = strchr(text, '.');
    size_t places = point ? strlen(point + 1) : 0;
    for (const char *p = text; *p; p++)
        if (*p != '.') v = v * 10 + (uint64_t)(*p - '0');
    for (; places < 9; places++) v *= 10;
    return v;
}

static const char *said(const json_t *root, size_t i, const char *name)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(root, "versions"), i), name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct price_book book;
    struct price_sums sums = {.newest = 0};
    struct micro_cents cost;
    struct sg_fault f = {0};
    if (price_book_parse((const char *)data, size, &book, &f) != SG_OK) {
        assert(f.text[0] && !strstr(f.text, "canary"));
        return 0;
    }
    json_t *root = json_loadb((const char *)data, size, 0, NULL);
    assert(root && book.count > 0 && book.version[0].from.v == 0);
    for (size_t i = 0; i < book.count; i++) {
        const struct price_version *v = &book.version[i];
        assert(price_version_at(&book, v->from) == i);
        assert(v->vcpu_hour_nano_usd == nano_of(said(root, i, "vcpu_hour")));
        assert(v->gib_hour_nano_usd == nano_of(said(root, i, "gib_hour")));
        price_add(&book, &sums, v->from, (struct amount){HOUR_MS}, (struct amount){0});
    }
    json_decref(root);
    /* rates and versions are bounded, so an hour of one vCPU in each cannot overflow */
    enum sg_error e = price_cost(&book, &sums, &cost);
    assert(e == SG_OK && cost.v >= 0);
    return 0;
}
