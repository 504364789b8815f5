#include "proto/archive.h"

#include <inttypes.h>
#include <string.h>

#include "proto/keys.h"
#include "proto/text.h"
#include "sandglass/limits.h"

static const char cells_head[] = "{\"v\":1,\"kind\":\"archive_cells\",\"at\":";
static const char marks_head[] = "{\"v\":1,\"kind\":\"archive_marks\",\"at\":";
static const char any_head[] = "{\"v\":";
static const char any_kind[] = ",\"kind\":\"archive_";
static const char end_line[] = "end\n";

/* ---- writing ---- */

void archive_begin_cells(struct buffer *b, struct wall_ms at)
{
    buffer_reset(b);
    buffer_printf(b, "%s%" PRId64 "}\n", cells_head, at.v);
}

void archive_begin_marks(struct buffer *b, struct wall_ms at, uint32_t partition, uint32_t part)
{
    buffer_reset(b);
    buffer_printf(b, "%s%" PRId64 ",\"partition\":%u,\"part\":%u}\n", marks_head, at.v, partition, part);
}

static bool fits(const struct buffer *b, size_t more)
{
    return b->length + more + sizeof end_line <= ARCHIVE_BYTES_MAX;
}

bool archive_add_cell(struct buffer *b, const struct archive_cell *c)
{
    if (!fits(b, KEY_BYTES_MAX + 16 + c->length)) return false;
    buffer_printf(b, "u:%c:%" PRId64 ":%s:%s:%s\t%u\t", window_letter(c->window), c->start.v / SECOND_MS, c->team.s,
                  c->project.s, c->region.s, c->partition);
    buffer_append(b, c->text, c->length);
    buffer_text(b, "\n");
    return true;
}

bool archive_add_mark(struct buffer *b, const struct archive_mark *m)
{
    if (!fits(b, m->field_length + m->length + 2)) return false;
    buffer_append(b, m->field, m->field_length);
    buffer_text(b, "\t");
    buffer_append(b, m->text, m->length);
    buffer_text(b, "\n");
    return true;
}

void archive_end_marks(struct buffer *b)
{
    buffer_text(b, end_line);
}

/* ---- reading ---- */

/* Takes this very text, or goes bad. */
static void expect(struct text *t, const char *s)
{
    for (; *s; s++) text_expect(t, *s);
}

static bool starts(const char *text, size_t length, const char *head)
{
    return length >= strlen(head) && memcmp(text, head, strlen(head)) == 0;
}

/* The version of something that calls itself an archive record; 0: it does not. */
static uint64_t version_of(const char *text, size_t length)
{
    struct text t = text_over(text, length);
    expect(&t, any_head);
    uint64_t version = text_u64(&t);
    return !t.bad && starts(t.p, (size_t)(t.end - t.p), any_kind) ? version : 0;
}

bool archive_is(const char *text, size_t length)
{
    return version_of(text, length) != 0;
}

static void take_head(struct text *t, struct archive_head *h)
{
    *h = (struct archive_head){.kind =
                                   starts(t->p, (size_t)(t->end - t->p), marks_head) ? ARCHIVE_MARKS : ARCHIVE_CELLS};
    expect(t, h->kind == ARCHIVE_MARKS ? marks_head : cells_head);
    uint64_t at = text_u64(t), partition = 0, part = 0;
    if (h->kind == ARCHIVE_MARKS) {
        expect(t, ",\"partition\":");
        partition = text_u64(t);
        expect(t, ",\"part\":");
        part = text_u64(t);
    }
    expect(t, "}\n");
    if (at > (uint64_t)WALL_MS_MAX || partition >= PARTITIONS_MAX || part > UINT32_MAX) t->bad = true;
    h->at.v = (int64_t)at;
    h->partition = (uint32_t)partition;
    h->part = (uint32_t)part;
}

static void take_id(struct text *t, char stop, bool none, struct id *out)
{
    size_t length;
    const char *s = text_until(t, stop, &length);
    if (t->bad || !(none ? id_valid_or_none(s, length) : id_valid(s, length))) {
        t->bad = true;
        return;
    }
    memcpy(out->s, s, length);
    out->s[length] = '\0';
    text_expect(t, stop);
}

/* The rest of a line; may be empty, holds no tab. */
static const char *take_rest(struct text *t, size_t *length)
{
    const char *start = t->p, *end = t->bad ? NULL : memchr(start, '\n', (size_t)(t->end - start));
    *length = 0;
    if (!end || memchr(start, '\t', (size_t)(end - start))) {
        t->bad = true;
        return start;
    }
    *length = (size_t)(end - start);
    t->p = end + 1;
    return start;
}

static void take_cell(struct text *t, struct archive_cell *c)
{
    memset(c, 0, sizeof *c);
    expect(t, "u:");
    c->window = text_take(t, 'd') ? WINDOW_DAY : WINDOW_HOUR;
    if (c->window == WINDOW_HOUR) text_expect(t, 'h');
    text_expect(t, ':');
    uint64_t start = text_u64(t), partition;
    text_expect(t, ':');
    take_id(t, ':', false, &c->team);
    take_id(t, ':', true, &c->project);
    take_id(t, '\t', false, &c->region);
    partition = text_u64(t);
    text_expect(t, '\t');
    c->text = take_rest(t, &c->length);
    if (start > (uint64_t)(WALL_MS_MAX / SECOND_MS) || partition >= PARTITIONS_MAX ||
        start % (uint64_t)(window_length_ms(c->window) / SECOND_MS) || c->length == 0)
        t->bad = true;
    c->start.v = (int64_t)(start * SECOND_MS);
    c->partition = (uint32_t)partition;
}

static void take_mark(struct text *t, struct archive_mark *m)
{
    m->field = text_until(t, '\t', &m->field_length);
    if (!t->bad && memchr(m->field, '\n', m->field_length)) t->bad = true;
    text_expect(t, '\t');
    m->text = take_rest(t, &m->length);
}

/* One pass over the lines; each NULL: only the form. */
static enum sg_error walk(struct text *t, struct archive_head *h, const struct archive_each *each)
{
    enum sg_error e = SG_OK;
    while (!t->bad && t->p < t->end && e == SG_OK) {
        struct archive_cell cell;
        struct archive_mark mark;
        if (h->kind == ARCHIVE_CELLS) {
            take_cell(t, &cell);
            if (!t->bad && each && each->cell) e = each->cell(each->arg, &cell);
        } else if ((size_t)(t->end - t->p) == sizeof end_line - 1 && starts(t->p, sizeof end_line - 1, end_line)) {
            h->last = true;
            t->p = t->end;
        } else {
            take_mark(t, &mark);
            if (!t->bad && each && each->mark) e = each->mark(each->arg, h, &mark);
        }
    }
    return e;
}

enum sg_error archive_decode(const char *text, size_t length, struct archive_head *head,
                             const struct archive_each *each, struct sg_fault *f)
{
    struct text t = text_over(text, length), again;
    uint64_t version = version_of(text, length);
    if (length > ARCHIVE_BYTES_MAX) return sg_fail(f, SG_ERR_LIMIT, "archive record: too long");
    if (version != 0 && version != ARCHIVE_VERSION)
        return sg_fail(f, SG_ERR_VERSION, "archive record: version %" PRIu64 " is unknown", version);
    take_head(&t, head);
    again = t;
    (void)walk(&t, head, NULL);
    if (t.bad) return sg_fail(f, SG_ERR_MALFORMED, "archive record: malformed");
    return each ? walk(&again, head, each) : SG_OK;
}
