#include "proto/vector.h"

#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

void vector_entry_destroy(struct vector_entry *e)
{
    free(e->pair);
    *e = (struct vector_entry){0};
}

/* a makes b redundant: a is heard at least as late and holds back at least as much. */
static bool dominates(struct vector_pair a, struct vector_pair b)
{
    return a.last.v >= b.last.v && a.ct.v <= b.ct.v;
}

enum sg_error vector_entry_add(struct vector_entry *e, struct vector_pair p)
{
    size_t kept = 0, at = 0;
    if (p.ct.v == 0) return SG_OK;
    for (size_t i = 0; i < e->pair_count; i++)
        if (dominates(e->pair[i], p)) return SG_OK;
    if (e->pair_count == e->pair_capacity) {
        size_t capacity = e->pair_capacity ? e->pair_capacity * 2 : 4;
        struct vector_pair *grown = realloc(e->pair, capacity * sizeof *grown);
        if (!grown) return SG_ERR_NOMEM;
        e->pair = grown;
        e->pair_capacity = capacity;
    }
    for (size_t i = 0; i < e->pair_count; i++)
        if (!dominates(p, e->pair[i])) e->pair[kept++] = e->pair[i];
    while (at < kept && e->pair[at].ct.v < p.ct.v) at++;
    memmove(e->pair + at + 1, e->pair + at, (kept - at) * sizeof *e->pair);
    e->pair[at] = p;
    e->pair_count = kept + 1;
    return SG_OK;
}

size_t vector_entry_bytes_max(const struct vector_entry *e)
{
    return 2 * (TEXT_U64_BYTES_MAX + 1) * (1 + e->pair_count);
}

size_t vector_entry_encode(const struct vector_entry *e, char *out)
{
    char *end = text_put_str(text_put_u64(out, e->offset), " ");
    end = text_put_u64(end, (uint64_t)e->heard.v);
    for (size_t i = 0; i < e->pair_count; i++) {
        end = text_put_u64(text_put_str(end, " "), (uint64_t)e->pair[i].ct.v);
        end = text_put_u64(text_put_str(end, "@"), (uint64_t)e->pair[i].last.v);
    }
    return (size_t)(end - out);
}

static struct wall_ms take_wall(struct text *t)
{
    uint64_t v = text_u64(t);
    if (v > (uint64_t)WALL_MS_MAX) t->bad = true;
    return (struct wall_ms){t->bad ? 0 : (int64_t)v};
}

enum sg_error vector_entry_decode(const char *text, size_t length, struct vector_entry *e)
{
    struct text t = text_over(text, length);
    e->pair_count = 0;
    e->offset = text_u64(&t);
    text_expect(&t, ' ');
    e->heard = take_wall(&t);
    while (!t.bad && t.p < t.end) {
        struct vector_pair p;
        text_expect(&t, ' ');
        p.ct = take_wall(&t);
        text_expect(&t, '@');
        p.last = take_wall(&t);
        size_t before = e->pair_count;
        if (t.bad || p.ct.v == 0) return SG_ERR_MALFORMED;
        if (before && (p.ct.v <= e->pair[before - 1].ct.v || p.last.v <= e->pair[before - 1].last.v))
            return SG_ERR_MALFORMED;
        enum sg_error err = vector_entry_add(e, p);
        if (err) return err;
    }
    return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
}

struct watermark vector_entry_watermark(const struct vector_entry *e, int64_t grace_ms)
{
    if (!e) return (struct watermark){.kind = WATERMARK_UNKNOWN};
    for (size_t i = 0; i < e->pair_count; i++)
        if (e->pair[i].last.v >= e->heard.v - grace_ms) return (struct watermark){WATERMARK_AT, e->pair[i].ct};
    return (struct watermark){.kind = WATERMARK_UNBOUNDED};
}

struct watermark watermark_min(struct watermark a, struct watermark b)
{
    if (a.kind == WATERMARK_UNKNOWN || b.kind == WATERMARK_UNKNOWN)
        return (struct watermark){.kind = WATERMARK_UNKNOWN};
    if (a.kind == WATERMARK_UNBOUNDED) return b;
    if (b.kind == WATERMARK_UNBOUNDED) return a;
    return a.at.v <= b.at.v ? a : b;
}

bool watermark_passed(struct watermark w, struct wall_ms t)
{
    return w.kind == WATERMARK_UNBOUNDED || (w.kind == WATERMARK_AT && w.at.v >= t.v);
}
