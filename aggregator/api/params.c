#include "aggregator/api/params.h"

#include <assert.h>
#include <string.h>

#include "common/rfc3339.h"
#include "proto/text.h"

#define TEXT(name, text) text,
static const char *const names[] = {API_PARAMS(TEXT)};
#undef TEXT

_Static_assert(PARAMS < 32, "a set of parameters is an unsigned");

void params_init(struct params *p)
{
    *p = (struct params){.to = {WALL_MS_MAX}, .limit = LIMIT_DEFAULT, .step = WINDOW_HOUR};
}

static bool take_word(const char *value, const char *const *words, size_t count, unsigned *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i], value) == 0) {
            *out = (unsigned)i;
            return true;
        }
    }
    return false;
}

static bool take_id(const char *value, struct id *out, bool none_allowed)
{
    size_t length = strlen(value);
    if (!(none_allowed ? id_valid_or_none(value, length) : id_valid(value, length))) return false;
    memcpy(out->s, value, length + 1);
    return true;
}

void cursor_format(struct page page, char out[static CURSOR_BYTES_MAX])
{
    char *end = text_put_u64(out, (uint64_t)page.from_top.v);
    end = text_put_u64(text_put_str(end, "-"), page.skip);
    assert(end - out < CURSOR_BYTES_MAX);
    *end = '\0';
}

static bool take_from(struct params *p, const char *value)
{
    return rfc3339_parse(value, strlen(value), &p->from);
}

static bool take_to(struct params *p, const char *value)
{
    return rfc3339_parse(value, strlen(value), &p->to);
}

static bool take_project(struct params *p, const char *value)
{
    return take_id(value, &p->project, true);
}

static bool take_region(struct params *p, const char *value)
{
    return take_id(value, &p->region, false);
}

static bool take_limit(struct params *p, const char *value)
{
    struct text t = text_over(value, strlen(value));
    uint64_t v = text_u64(&t);
    if (!text_done(&t) || v < 1 || v > LIMIT_MAX) return false;
    p->limit = (uint32_t)v;
    return true;
}

static bool take_cursor(struct params *p, const char *value)
{
    struct text t = text_over(value, strlen(value));
    uint64_t at = text_u64(&t);
    text_expect(&t, '-');
    uint64_t skip = text_u64(&t);
    if (!text_done(&t) || at > (uint64_t)WALL_MS_MAX || skip > UINT32_MAX) return false;
    p->cursor = (struct page){{(int64_t)at}, (uint32_t)skip, true};
    return true;
}

static bool take_meter(struct params *p, const char *value)
{
    return field_parse(value, strlen(value), &p->meter);
}

static bool take_step(struct params *p, const char *value)
{
    static const char *const words[] = {"minute", "hour", "day"};
    unsigned i;
    if (!take_word(value, words, 3, &i)) return false;
    p->step = (enum window_kind)i;
    return true;
}

static bool take_group_by(struct params *p, const char *value)
{
    static const char *const words[] = {"none", "project", "region"};
    unsigned i;
    if (!take_word(value, words, 3, &i)) return false;
    p->group_by = (enum group_by)i;
    return true;
}

static bool take_format(struct params *p, const char *value)
{
    static const char *const words[] = {"json", "csv"};
    unsigned i;
    if (!take_word(value, words, 2, &i)) return false;
    p->format = (enum format)i;
    return true;
}

static bool (*const take_value[PARAMS])(struct params *, const char *) = {
    [PARAM_FROM] = take_from,     [PARAM_TO] = take_to,       [PARAM_PROJECT] = take_project,
    [PARAM_REGION] = take_region, [PARAM_LIMIT] = take_limit, [PARAM_CURSOR] = take_cursor,
    [PARAM_METER] = take_meter,   [PARAM_STEP] = take_step,   [PARAM_GROUP_BY] = take_group_by,
    [PARAM_FORMAT] = take_format,
};

enum sg_error params_take(struct params *p, unsigned allowed, const char *name, const char *value, struct sg_fault *f)
{
    unsigned which;
    if (!take_word(name, names, PARAMS, &which) || !(allowed & PARAM_BIT(which)))
        return sg_fail(f, SG_ERR_USAGE, "a parameter is not known here");
    if (p->given & PARAM_BIT(which)) return sg_fail(f, SG_ERR_USAGE, "parameter %s is given twice", names[which]);
    if (!value || !take_value[which](p, value))
        return sg_fail(f, SG_ERR_USAGE, "parameter %s is not valid", names[which]);
    p->given |= PARAM_BIT(which);
    return SG_OK;
}

enum sg_error params_finish(const struct params *p, unsigned required, struct sg_fault *f)
{
    for (unsigned i = 0; i < PARAMS; i++)
        if (required & ~p->given & PARAM_BIT(i)) return sg_fail(f, SG_ERR_USAGE, "parameter %s is missing", names[i]);
    if (p->from.v > p->to.v) return sg_fail(f, SG_ERR_USAGE, "parameter from is later than parameter to");
    return SG_OK;
}
