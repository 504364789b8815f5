#include "aggregator/ctl/view_compare.h"

#include <stdlib.h>
#include <string.h>

#include "common/array.h"

void comparison_destroy(struct comparison *c)
{
    for (int k = 0; k < WINDOW_KINDS; k++) free(c->kind[k].window);
    *c = (struct comparison){0};
}

/* Both are ascending: the next place is at or behind *at. False without memory. */
static bool place(struct compared_windows *c, struct wall_ms start, size_t *at)
{
    while (*at < c->count && c->window[*at].side[COMPARE_OLD].start.v < start.v) ++*at;
    if (*at < c->count && c->window[*at].side[COMPARE_OLD].start.v == start.v) return true;
    if (!array_reserve(&c->window, &c->capacity, c->count, sizeof *c->window)) return false;
    memmove(c->window + *at + 1, c->window + *at, (c->count - *at) * sizeof *c->window);
    c->window[*at] = (struct compared_window){.side = {{.start = start}, {.start = start}}};
    c->count++;
    return true;
}

static enum sg_error take(struct compared_windows *c, enum compare_side side, const struct view_digest *d,
                          int64_t length_ms, struct watermark closed)
{
    size_t at = 0;
    for (size_t i = 0; i < d->count; i++) {
        const struct window_digest *w = &d->window[i];
        if (!watermark_passed(closed, (struct wall_ms){w->start.v + length_ms})) continue;
        if (!place(c, w->start, &at)) return SG_ERR_NOMEM;
        if (!c->window[at].equal) c->window[at].side[side] = *w;
    }
    return SG_OK;
}

/* What is on neither side any more, since it has expired, is equal as well. */
static void forget(struct compared_windows *c)
{
    for (size_t i = 0; i < c->count; i++) {
        struct compared_window *w = &c->window[i];
        struct wall_ms start = w->side[COMPARE_OLD].start;
        if (!w->equal) *w = (struct compared_window){.side = {{.start = start}, {.start = start}}};
    }
}

static void judge(struct compared_windows *c)
{
    c->equal = 0;
    for (size_t i = 0; i < c->count; i++) {
        struct compared_window *w = &c->window[i];
        const struct window_digest *a = &w->side[COMPARE_OLD], *b = &w->side[COMPARE_NEW];
        w->equal = a->cells == b->cells && memcmp(a->sha256, b->sha256, DIGEST_BYTES) == 0;
        c->equal += w->equal;
    }
}

enum sg_error comparison_look(struct comparison *c, struct view *old, struct view *new, struct watermark closed,
                              struct sg_fault *f)
{
    struct view *const views[COMPARE_SIDES] = {old, new};
    const struct wall_ms from = {0}, to = {WALL_MS_MAX};
    struct view_digest d = {0};
    enum sg_error e = SG_OK;
    for (int k = 0; !e && k < WINDOW_KINDS; k++) {
        forget(&c->kind[k]);
        for (int side = 0; !e && side < COMPARE_SIDES; side++) {
            e = view_digest_read(views[side], (enum window_kind)k, from, to, &d, f);
            if (!e) e = take(&c->kind[k], (enum compare_side)side, &d, window_length_ms((enum window_kind)k), closed);
        }
        judge(&c->kind[k]);
    }
    view_digest_destroy(&d);
    return e;
}

bool comparison_equal(const struct comparison *c)
{
    for (int k = 0; k < WINDOW_KINDS; k++)
        if (c->kind[k].equal != c->kind[k].count) return false;
    return true;
}
