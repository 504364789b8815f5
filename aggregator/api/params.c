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

static bool take_limit(const char *value, uint32_t *out)
{
    struct text t = text_over(value, strlen(value));
    uint64_t v = text_u64(&t);
    if (!text_done(&t) || v < 1 || v > LIMIT_MAX) return false;
    *out = (uint32_t)v;
    return true;
}

static bool take_cursor(const char *value, struct page *out)
{
    struct text t = text_over(value, strlen(value));
    uint64_t at = text_u64(&t);
    text_expect(&t, '-');
    uint64_t skip = text_u64(&t);
    if (!text_done(&t) || at > (uint64_t)WALL_MS_MAX || skip > UINT32_MAX) return false;
    *out = (struct page){{(int64_t)at}, (uint32_t)skip, true};
    return true;
}

void cursor_format(struct page page, char out[static CURSOR_BYTES_MAX])
{
    char *end = text_put_u64(out, (uint64_t)page.from_top.v);
    end = text_put_u64(text_put_str(end, "-"), page.skip);
    assert(end - out < CURSOR_BYTES_MAX);
    *end = '\0';
}

static bool take_value(struct params *p, enum param which, const char *value)
{
    static const char *const steps[] = {"minute", "hour", "day"}, *const groups[] = {"none", "project", "region"},
                             *const formats[] = {"json", "csv"};
    unsigned i;
    switch (which) {
    case PARAM_FROM: return rfc3339_parse(value, strlen(value), &p->from);
    case PARAM_TO: return rfc3339_parse(value, strlen(value), &p->to);
    case PARAM_PROJECT: return take_id(value, &p->project, true);
    case PARAM_REGION: return take_id(value, &p->region, false);
    case PARAM_LIMIT: return take_limit(value, &p->limit);
    case PARAM_CURSOR: return take_cursor(value, &p->cursor);
    case PARAM_METER: return field_parse(value, strlen(value), &p->meter);
    case PARAM_STEP:
        if (!take_word(value, steps, 3, &i)) return false;
        p->step = (enum window_kind)i;
        return true;
    case PARAM_GROUP_BY:
        if (!take_word(value, groups, 3, &i)) return false;
        p->group_by = (enum group_by)i;
        return true;
    case PARAM_FORMAT:
        if (!take_word(value, formats, 2, &i)) return false;
        p->format = (enum format)i;
        return true;
    case PARAMS: break;
    }
    return false;
}

enum sg_error params_take(struct params *p, unsigned allowed, const char *name, const char *value, struct sg_fault *f)
{
    unsigned which;
    if (!take_word(name, names, PARAMS, &which) || !(allowed & PARAM_BIT(which)))
        return sg_fail(f, SG_ERR_USAGE, "a parameter is not known here");
    if (p->given & PARAM_BIT(which)) return sg_fail(f, SG_ERR_USAGE, "parameter %s is given twice", names[which]);
    if (!value || !take_value(p, (enum param)which, value))
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
