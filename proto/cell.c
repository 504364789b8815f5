#include "proto/cell.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

void sums_destroy(struct sums *s)
{
    free(s->extra);
    *s = (struct sums){0};
}

/* Index of the first extra whose field is >= f. */
static uint16_t extra_position(const struct sums *s, enum field f)
{
    uint16_t low = 0, high = s->extra_count;
    while (low < high) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (s->extra[middle].field < f)
            low = (uint16_t)(middle + 1);
        else
            high = middle;
    }
    return low;
}

static enum sg_error extra_insert(struct sums *s, uint16_t at, enum field f, uint64_t value)
{
    if (s->extra_count == s->extra_capacity) {
        uint16_t capacity = s->extra_capacity ? (uint16_t)(s->extra_capacity * 2) : 4;
        struct sums_extra *grown = realloc(s->extra, capacity * sizeof *grown);
        if (!grown) return SG_ERR_NOMEM;
        s->extra = grown;
        s->extra_capacity = capacity;
    }
    memmove(s->extra + at + 1, s->extra + at, (size_t)(s->extra_count - at) * sizeof *s->extra);
    s->extra[at] = (struct sums_extra){.value = value, .field = (uint16_t)f};
    s->extra_count++;
    return SG_OK;
}

enum sg_error sums_add(struct sums *s, enum field f, struct amount a)
{
    assert((unsigned)f < FIELDS);
    if (a.v == 0) return SG_OK;
    if ((unsigned)f < PLAIN_FIELDS) return amount_add(&s->plain[f], a) ? SG_OK : SG_ERR_OVERFLOW;
    uint16_t at = extra_position(s, f);
    if (at == s->extra_count || s->extra[at].field != f) return extra_insert(s, at, f, a.v);
    struct amount sum = {s->extra[at].value};
    if (!amount_add(&sum, a)) return SG_ERR_OVERFLOW;
    s->extra[at].value = sum.v;
    return SG_OK;
}

enum sg_error sums_add_all(struct sums *s, const struct sums *other)
{
    enum sg_error e = SG_OK;
    for (unsigned f = 0; e == SG_OK && f < PLAIN_FIELDS; f++) e = sums_add(s, (enum field)f, other->plain[f]);
    for (uint16_t i = 0; e == SG_OK && i < other->extra_count; i++)
        e = sums_add(s, (enum field)other->extra[i].field, (struct amount){other->extra[i].value});
    return e;
}

struct amount sums_get(const struct sums *s, enum field f)
{
    assert((unsigned)f < FIELDS);
    if ((unsigned)f < PLAIN_FIELDS) return s->plain[f];
    uint16_t at = extra_position(s, f);
    return (struct amount){at < s->extra_count && s->extra[at].field == f ? s->extra[at].value : 0};
}

bool sums_empty(const struct sums *s)
{
    for (unsigned f = 0; f < PLAIN_FIELDS; f++)
        if (s->plain[f].v) return false;
    return s->extra_count == 0;
}

void sums_each(const struct sums *s, void (*each)(void *arg, enum field f, struct amount value), void *arg)
{
    for (unsigned f = 0; f < PLAIN_FIELDS; f++)
        if (s->plain[f].v) each(arg, (enum field)f, s->plain[f]);
    for (uint16_t i = 0; i < s->extra_count; i++)
        each(arg, (enum field)s->extra[i].field, (struct amount){s->extra[i].value});
}

size_t cell_encoded_bytes_max(const struct sums *s)
{
    return 1 + TEXT_U64_BYTES_MAX +
           ((size_t)PLAIN_FIELDS + s->extra_count) * (FIELD_NAME_BYTES_MAX + 2 + TEXT_U64_BYTES_MAX);
}

static void put_field(void *arg, enum field f, struct amount value)
{
    char **out = arg;
    char name[FIELD_NAME_BYTES_MAX];
    size_t length = field_name(f, name);
    *out = text_put(*out, " ", 1);
    *out = text_put(*out, name, length);
    *out = text_put(*out, "=", 1);
    *out = text_put_u64(*out, value.v);
}

size_t cell_encode(uint64_t offset, const struct sums *s, char *out)
{
    char *end = text_put_u64(text_put(out, "@", 1), offset);
    sums_each(s, put_field, &end);
    return (size_t)(end - out);
}

enum sg_error cell_decode(const char *text, size_t length, uint64_t *offset, struct sums *s)
{
    struct text t = text_over(text, length);
    int last = -1;
    sums_destroy(s);
    text_expect(&t, '@');
    *offset = text_u64(&t);
    while (!t.bad && t.p < t.end) {
        size_t name_length;
        enum field f;
        text_expect(&t, ' ');
        const char *name = text_until(&t, '=', &name_length);
        text_expect(&t, '=');
        uint64_t value = text_u64(&t);
        if (t.bad || value == 0 || !field_parse(name, name_length, &f) || (int)f <= last) return SG_ERR_MALFORMED;
        last = (int)f;
        enum sg_error e = sums_add(s, f, (struct amount){value});
        if (e) return e;
    }
    return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
}
