#include "aggregator/ctl/view_digest.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/buffer.h"
#include "proto/keys.h"

_Static_assert(DIGEST_BYTES == SHA256_DIGEST_LENGTH, "the digest is a SHA-256");

struct reading {
    struct view_digest *digest;
    enum window_kind kind;
    struct id *team; /* of the shard that is read */
    size_t team_count, team_capacity;
    const char *of; /* the team whose cells come */
    size_t at;      /* where its next cell's window is, or behind */
    struct buffer line;
};

void view_digest_destroy(struct view_digest *d)
{
    free(d->window);
    *d = (struct view_digest){0};
}

/* The window, added when it is new; NULL without memory. A team's cells come by ascending start: so r->at only moves
 * on. */
static struct window_digest *window_of(struct reading *r, struct wall_ms start)
{
    struct view_digest *d = r->digest;
    while (r->at < d->count && d->window[r->at].start.v < start.v) r->at++;
    if (r->at < d->count && d->window[r->at].start.v == start.v) return &d->window[r->at];
    if (!array_reserve(&d->window, &d->capacity, d->count, sizeof *d->window)) return NULL;
    memmove(d->window + r->at + 1, d->window + r->at, (d->count - r->at) * sizeof *d->window);
    d->window[r->at] = (struct window_digest){.start = start};
    d->count++;
    return &d->window[r->at];
}

/* The window's digest is chained: SHA-256 of the digest so far and the cell's line, which is that of proto/archive.md.
 */
static enum sg_error add_cell(void *arg, const struct view_cell *cell)
{
    struct reading *r = arg;
    struct window_digest *w = window_of(r, cell->start);
    if (!w) return SG_ERR_NOMEM;
    buffer_reset(&r->line);
    buffer_append(&r->line, w->sha256, sizeof w->sha256);
    buffer_printf(&r->line, "u:%c:%lld:%s:%s:%s\t%u\t", window_letter(r->kind), (long long)(cell->start.v / SECOND_MS),
                  r->of, cell->project, cell->region, cell->partition);
    buffer_append(&r->line, cell->text, cell->length);
    buffer_text(&r->line, "\n");
    if (r->line.error) return r->line.error;
    SHA256((const uint8_t *)r->line.data, r->line.length, w->sha256);
    w->cells++;
    return SG_OK;
}

static enum sg_error add_team(void *arg, const char *team)
{
    struct reading *r = arg;
    if (!array_reserve(&r->team, &r->team_capacity, r->team_count, sizeof *r->team)) return SG_ERR_NOMEM;
    memcpy(r->team[r->team_count++].s, team, strlen(team) + 1);
    return SG_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct id *)a)->s, ((const struct id *)b)->s);
}

/* Teams come in no order, and one may come twice. */
static enum sg_error read_teams(struct view *v, uint32_t shard, struct reading *r, struct sg_fault *f)
{
    r->team_count = 0;
    enum sg_error e = view_teams(v, shard, add_team, r, f);
    if (e || r->team_count == 0) return e;
    qsort(r->team, r->team_count, sizeof *r->team, by_name);
    size_t kept = 1;
    for (size_t i = 1; i < r->team_count; i++)
        if (by_name(&r->team[kept - 1], &r->team[i]) != 0) r->team[kept++] = r->team[i];
    r->team_count = kept;
    return SG_OK;
}

enum sg_error view_digest_read(struct view *v, enum window_kind w, struct wall_ms from, struct wall_ms to,
                               struct view_digest *d, struct sg_fault *f)
{
    enum { LINE_BYTES_MAX = DIGEST_BYTES + KEY_BYTES_MAX + 16 + CELL_BYTES_MAX };
    struct reading r = {.digest = d, .kind = w};
    enum sg_error e = SG_OK;
    d->count = 0;
    buffer_init(&r.line, LINE_BYTES_MAX);
    for (uint32_t s = 0; !e && s < v->shards; s++) {
        e = view_refresh(v, s, f);
        if (!e) e = read_teams(v, s, &r, f);
        for (size_t i = 0; !e && i < r.team_count; i++) {
            r.of = r.team[i].s;
            r.at = 0;
            e = view_cells(v, r.of, w, from, to, add_cell, &r, f);
        }
    }
    buffer_destroy(&r.line);
    free(r.team);
    return e;
}

enum sg_error view_complete_through(struct view *v, struct watermark *out, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    *out = (struct watermark){.kind = WATERMARK_UNBOUNDED};
    for (uint32_t s = 0; !e && s < v->shards; s++) {
        struct watermark mark;
        struct wall_ms heard;
        e = view_refresh(v, s, f);
        if (!e) e = view_watermark(v, s, &mark, &heard, f);
        if (!e) *out = watermark_min(*out, mark);
    }
    return e;
}

void window_digest_hex(const struct window_digest *w, char out[static DIGEST_HEX_BYTES])
{
    for (size_t i = 0; i < DIGEST_BYTES; i++) snprintf(out + 2 * i, 3, "%02x", w->sha256[i]);
}
