#include "aggregator/billing/summary.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Of a number of an object, which goes on behind it; 0: there is none at p. */
static size_t number_length(const char *p)
{
    size_t n = 0;
    if (*p != '-' && (*p < '0' || *p > '9')) return 0;
    while (memchr("0123456789+-.eE", p[n], 15)) n++;
    return n;
}

/* A valid JSON object, its numbers made strings; out has room for three times the length. Returns how long it is. */
static size_t quote_numbers(const char *p, size_t length, char *out)
{
    const char *end = p + length;
    char *start = out;
    for (bool in_string = false; p < end;) {
        size_t number = in_string ? 0 : number_length(p), taken = number ? number : 1;
        if (*p == '"') in_string = !in_string;
        if (*p == '\\') taken = 2; /* what is escaped ends no string */
        if (number) *out++ = '"';
        memcpy(out, p, taken);
        out += taken;
        p += taken;
        if (number) *out++ = '"';
    }
    return (size_t)(out - start);
}

/* The same tree as body's, where numbers are their texts; NULL: no memory. */
static json_t *with_texts(const char *body, size_t length)
{
    char *quoted = malloc(3 * length);
    json_error_t ignored;
    json_t *tree = quoted ? json_loadb(quoted, quote_numbers(body, length, quoted), 0, &ignored) : NULL;
    free(quoted);
    return tree;
}

static struct summary shown(const char *text)
{
    static const struct summary other = {.whole = false};
    struct summary s = {.whole = true};
    size_t digits = strspn(text, "0123456789"), zeros = text[digits] == '.' ? strspn(text + digits + 1, "0") + 1 : 0;
    for (size_t i = 0; i < digits; i++) {
        s.sum.v = 10 * s.sum.v + (uint64_t)(text[i] - '0');
        if (s.sum.v > SUMMARY_SUM_MAX) return other;
    }
    return digits && text[digits + zeros] == '\0' ? s : other;
}

/* The bucket of the hour among them, SIZE_MAX: there is none. */
static enum sg_error find(const json_t *buckets, struct wall_ms hour, size_t *found, struct sg_fault *f)
{
    *found = SIZE_MAX;
    for (size_t i = 0; i < json_array_size(buckets); i++) {
        const json_t *bucket = json_array_get(buckets, i), *start = json_object_get(bucket, "start_time");
        if (!json_is_integer(start) || !json_is_number(json_object_get(bucket, "aggregated_value")))
            return sg_fail(f, SG_ERR_MALFORMED, "the summary has a bucket that is malformed");
        if (json_integer_value(start) != hour.v / SECOND_MS) continue;
        if (*found != SIZE_MAX) return sg_fail(f, SG_ERR_MALFORMED, "the summary has an hour twice");
        *found = i;
    }
    return SG_OK;
}

static enum sg_error take_value(const char *body, size_t length, size_t bucket, struct summary *out, struct sg_fault *f)
{
    json_t *texts = with_texts(body, length);
    const json_t *value = json_object_get(json_array_get(json_object_get(texts, "data"), bucket), "aggregated_value");
    enum sg_error e = value ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for a summary");
    if (value) *out = shown(json_string_value(value));
    json_decref(texts);
    return e;
}

enum sg_error summary_take(const char *body, size_t length, struct wall_ms hour, struct summary *out,
                           struct sg_fault *f)
{
    json_error_t ignored;
    json_t *page = json_loadb(body, length, JSON_REJECT_DUPLICATES, &ignored);
    const json_t *data = json_object_get(page, "data"), *more = json_object_get(page, "has_more");
    size_t bucket = SIZE_MAX;
    enum sg_error e = SG_OK;
    *out = (struct summary){.whole = true};
    if (!json_is_array(data))
        e = sg_fail(f, SG_ERR_MALFORMED, "the summary is malformed");
    else if (more && json_typeof(more) != JSON_FALSE)
        e = sg_fail(f, SG_ERR_MALFORMED, "the summary goes on");
    else
        e = find(data, hour, &bucket, f);
    if (e == SG_OK && bucket != SIZE_MAX) e = take_value(body, length, bucket, out, f);
    json_decref(page);
    return e;
}
