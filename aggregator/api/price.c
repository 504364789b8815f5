#include "aggregator/api/price.h"

#include <jansson.h>
#include <string.h>

#include "common/rfc3339.h"
#include "sandglass/id.h"

enum { NANO_DIGITS = 9, MIB_PER_GIB = 1024 };
/* 1 nano-USD is a tenth of a micro-cent: 10^-9 USD = 10^-7 cent. */
#define COST_DENOMINATOR  ((unsigned __int128)HOUR_MS * MIB_PER_GIB * 10)
#define RATE_NANO_USD_MAX (UINT64_C(1000) * 1000 * 1000 * 1000)

static const char *version_keys[] = {"version", "from", "vcpu_hour", "gib_hour"};

static enum sg_error rate_parse(const char *text, uint64_t *out)
{
    uint64_t v = 0;
    size_t places = 0, digits = 0;
    bool point = false;
    for (; *text; text++) {
        if (*text == '.' && !point && digits) {
            point = true;
            continue;
        }
        if (*text < '0' || *text > '9' || places == NANO_DIGITS || digits == 18) return SG_ERR_MALFORMED;
        v = v * 10 + (uint64_t)(*text - '0');
        digits++;
        places += point;
    }
    if (!digits || (point && !places)) return SG_ERR_MALFORMED;
    for (; places < NANO_DIGITS; places++)
        if (__builtin_mul_overflow(v, 10, &v)) return SG_ERR_MALFORMED;
    if (v > RATE_NANO_USD_MAX) return SG_ERR_MALFORMED;
    *out = v;
    return SG_OK;
}

static const char *version_parse(const json_t *j, const struct price_version *previous, struct price_version *out)
{
    const char *text[4];
    if (json_object_size(j) != 4) return "is not an object of version, from, vcpu_hour, gib_hour";
    for (size_t i = 0; i < 4; i++)
        if (!(text[i] = json_string_value(json_object_get(j, version_keys[i])))) return "lacks a string";
    if (!id_valid(text[0], strlen(text[0])) || strlen(text[0]) >= sizeof out->name) return "has a bad name";
    memcpy(out->name, text[0], strlen(text[0]) + 1);
    if (!rfc3339_parse(text[1], strlen(text[1]), &out->from) || out->from.v % HOUR_MS)
        return "does not start on a full hour";
    if (previous ? out->from.v <= previous->from.v : out->from.v != 0)
        return "does not follow the one before (the first starts in 1970)";
    if (rate_parse(text[2], &out->vcpu_hour_nano_usd)) return "has a bad vcpu_hour";
    if (rate_parse(text[3], &out->gib_hour_nano_usd)) return "has a bad gib_hour";
    return NULL;
}

static enum sg_error book_parse(const json_t *root, struct price_book *out, struct sg_fault *f)
{
    const char *currency = json_string_value(json_object_get(root, "currency"));
    const json_t *versions = json_object_get(root, "versions");
    if (json_object_size(root) != 2 || !currency || strcmp(currency, "USD") != 0 || !json_is_array(versions))
        return sg_fail(f, SG_ERR_MALFORMED, "price book: expected an object of currency \"USD\" and versions");
    if (json_array_size(versions) == 0 || json_array_size(versions) > PRICE_VERSIONS_MAX)
        return sg_fail(f, SG_ERR_LIMIT, "price book: expected 1 to %d versions", PRICE_VERSIONS_MAX);
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const char *wrong =
            version_parse(json_array_get(versions, i), i ? &out->version[i - 1] : NULL, &out->version[i]);
        if (wrong) return sg_fail(f, SG_ERR_MALFORMED, "price book: version %zu %s", i + 1, wrong);
        out->count = i + 1;
    }
    return SG_OK;
}

enum sg_error price_book_parse(const char *text, size_t length, struct price_book *out, struct sg_fault *f)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    *out = (struct price_book){0};
    if (!root) return sg_fail(f, SG_ERR_MALFORMED, "price book: not JSON, line %d", error.line);
    enum sg_error e = book_parse(root, out, f);
    json_decref(root);
    return e;
}

size_t price_version_at(const struct price_book *b, struct wall_ms t)
{
    size_t i = b->count - 1;
    while (i > 0 && b->version[i].from.v > t.v) i--;
    return i;
}

void price_add(const struct price_book *b, struct price_sums *s, struct wall_ms hour, struct amount vcpu_ms,
               struct amount mem_mib_ms)
{
    size_t i = price_version_at(b, hour);
    /* 2^128 is never reached: 2^64 additions of 2^64 */
    s->vcpu_ms[i] += vcpu_ms.v;
    s->mem_mib_ms[i] += mem_mib_ms.v;
    if (i > s->newest) s->newest = i;
}

/* *sum += usage * rate; usage is bounded first so that neither step wraps. */
static bool cost_add(unsigned __int128 *sum, unsigned __int128 usage, uint64_t rate, unsigned factor)
{
    unsigned __int128 product;
    return !__builtin_mul_overflow(usage, (unsigned __int128)rate * factor, &product) &&
           !__builtin_add_overflow(*sum, product, sum);
}

enum sg_error price_cost(const struct price_book *b, const struct price_sums *s, struct micro_cents *out)
{
    unsigned __int128 sum = 0;
    for (size_t i = 0; i < b->count; i++)
        if (!cost_add(&sum, s->vcpu_ms[i], b->version[i].vcpu_hour_nano_usd, MIB_PER_GIB) ||
            !cost_add(&sum, s->mem_mib_ms[i], b->version[i].gib_hour_nano_usd, 1))
            return SG_ERR_OVERFLOW;
    unsigned __int128 whole = sum / COST_DENOMINATOR, rest = sum % COST_DENOMINATOR;
    if (rest * 2 > COST_DENOMINATOR || (rest * 2 == COST_DENOMINATOR && whole % 2)) whole++;
    if (whole > INT64_MAX) return SG_ERR_OVERFLOW;
    out->v = (int64_t)whole;
    return SG_OK;
}

const char *price_version_name(const struct price_book *b, const struct price_sums *s, struct wall_ms now)
{
    bool any = false;
    for (size_t i = 0; i < b->count; i++) any |= s->vcpu_ms[i] || s->mem_mib_ms[i];
    return b->version[any ? s->newest : price_version_at(b, now)].name;
}
