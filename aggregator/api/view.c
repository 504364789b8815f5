/* Rollups and runs. Replies are taken apart with every type checked: what is not as expected is a damaged view. */
#include "aggregator/api/view.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/view_reply.h"
#include "aggregator/api/view_scripts.h"
#include "aggregator/store/redis_store.h"
#include "proto/keys.h"
#include "proto/text.h"
#include "sandglass/limits.h"

enum { CHUNK = 500, ARGS_MAX = 8, NUMBER_BYTES = 24 };

/* Numbers as arguments of a script. */
struct number {
    char text[NUMBER_BYTES];
};

static struct store_bytes number_arg(struct number *n, int64_t v)
{
    assert(v >= 0);
    *text_put_u64(n->text, (uint64_t)v) = '\0';
    return store_text(n->text);
}

/* ---- rollups ---- */

/* Sums the cells of one rollup's hash. */
static enum sg_error sum_cells(const struct redisReply *hash, struct sums *out)
{
    struct sums cell = {0};
    enum sg_error e = SG_OK;
    for (size_t i = 1; !e && i < hash->elements; i += 2) {
        uint64_t offset;
        const struct redisReply *text = hash->element[i];
        e = reply_is_text(text) ? cell_decode(text->str, text->len, &offset, &cell) : SG_ERR_CORRUPT;
        if (!e) e = sums_add_all(out, &cell);
    }
    sums_destroy(&cell);
    return e;
}

/* "<start>:<project>:<region>", cut into its parts in place. */
static bool split_member(const struct redisReply *member, enum window_kind w, struct view_rollup *out)
{
    struct text t = text_over(member->str, member->len);
    size_t project_length;
    uint64_t start = text_u64(&t);
    text_expect(&t, ':');
    const char *project = text_until(&t, ':', &project_length);
    text_expect(&t, ':');
    if (t.bad || start > (uint64_t)(WALL_MS_MAX / SECOND_MS) || start % (uint64_t)(window_length_ms(w) / SECOND_MS) ||
        !id_valid_or_none(project, project_length) || !id_valid(t.p, (size_t)(t.end - t.p)))
        return false;
    member->str[t.p - member->str - 1] = '\0';
    *out = (struct view_rollup){.start = {(int64_t)start * SECOND_MS}, .project = project, .region = t.p};
    return true;
}

/* Who takes rollups: summed, or cell by cell. */
struct rollup_reader {
    enum window_kind window;
    view_each_rollup *rollup;
    view_each_cell *cell;
    void *arg;
};

static enum sg_error give_sums(const struct rollup_reader *to, struct view_rollup *r, const struct redisReply *hash)
{
    struct sums sums = {0};
    enum sg_error e = sum_cells(hash, &sums);
    r->sums = &sums;
    if (!e) e = to->rollup(to->arg, r);
    sums_destroy(&sums);
    return e == SG_ERR_MALFORMED ? SG_ERR_CORRUPT : e;
}

static enum sg_error give_cells(const struct rollup_reader *to, const struct view_rollup *r,
                                const struct redisReply *hash)
{
    const struct redisReply *cell[PARTITIONS_MAX] = {NULL};
    enum sg_error e = SG_OK;
    for (size_t i = 0; i < hash->elements; i += 2) {
        int64_t p;
        if (!reply_i64(hash->element[i], &p) || p >= PARTITIONS_MAX || !reply_is_text(hash->element[i + 1]))
            return SG_ERR_CORRUPT;
        cell[p] = hash->element[i + 1];
    }
    for (uint32_t p = 0; !e && p < PARTITIONS_MAX; p++) {
        if (!cell[p]) continue;
        struct view_cell out = {r->start, r->project, r->region, p, cell[p]->str, cell[p]->len};
        e = to->cell(to->arg, &out);
    }
    return e;
}

static enum sg_error give_rollup(const struct redisReply *member, const struct redisReply *hash,
                                 const struct rollup_reader *to)
{
    struct view_rollup r;
    if (!reply_is_text(member) || !reply_is_pairs(hash) || !split_member(member, to->window, &r)) return SG_ERR_CORRUPT;
    if (hash->elements == 0) return SG_OK; /* it has expired */
    return to->cell ? give_cells(to, &r, hash) : give_sums(to, &r, hash);
}

static enum sg_error read_rollups(struct view *v, const char *team, struct wall_ms from, struct wall_ms to,
                                  const struct rollup_reader *reader, struct sg_fault *f)
{
    char index[KEY_BYTES_MAX], prefix[KEY_BYTES_MAX];
    struct number first, last, offset, count;
    uint32_t shard = shard_of_team(team, v->shards);
    enum sg_error e = SG_OK;
    if (from.v >= to.v) return SG_OK;
    key_rollup_index(index, shard, reader->window, team);
    size_t length = key_plain(prefix, shard, "u");
    snprintf(prefix + length, sizeof prefix - length, ":%c:", window_letter(reader->window));
    for (int64_t at = 0, taken = CHUNK; !e && taken == CHUNK; at += CHUNK) {
        struct redisReply *reply = NULL;
        const struct store_bytes args[] = {store_text(index),
                                           store_text(prefix),
                                           store_text(team),
                                           number_arg(&first, (from.v + SECOND_MS - 1) / SECOND_MS),
                                           number_arg(&last, (to.v - 1) / SECOND_MS),
                                           number_arg(&offset, at),
                                           number_arg(&count, CHUNK)};
        e = redis_store_eval(v->store, shard, view_script_rollups, args, 1, sizeof args / sizeof *args, &reply, f);
        if (e) break;
        taken = (int64_t)reply->elements / 2;
        if (!reply_is_pairs(reply)) e = SG_ERR_CORRUPT;
        for (size_t i = 0; !e && i < reply->elements; i += 2)
            e = give_rollup(reply->element[i], reply->element[i + 1], reader);
        if (e == SG_ERR_CORRUPT)
            (void)sg_fail(f, e, "the view holds a rollup that cannot be read");
        else if (e)
            (void)sg_fail(f, e, "the rollups cannot be added up: %s", sg_error_text(e));
        freeReplyObject(reply);
    }
    return e;
}

enum sg_error view_rollups(struct view *v, const char *team, enum window_kind w, struct wall_ms from, struct wall_ms to,
                           view_each_rollup *each, void *arg, struct sg_fault *f)
{
    const struct rollup_reader reader = {.window = w, .rollup = each, .arg = arg};
    return read_rollups(v, team, from, to, &reader, f);
}

enum sg_error view_cells(struct view *v, const char *team, enum window_kind w, struct wall_ms from, struct wall_ms to,
                         view_each_cell *each, void *arg, struct sg_fault *f)
{
    const struct rollup_reader reader = {.window = w, .cell = each, .arg = arg};
    return read_rollups(v, team, from, to, &reader, f);
}

/* ---- runs ---- */

void view_run_destroy(struct view_run *r)
{
    free(r->hour);
    *r = (struct view_run){0};
}

static enum sg_error usage_add(struct run *to, const struct run *from)
{
    bool ok = amount_add(&to->running_ms, from->running_ms) && amount_add(&to->cpu_us, from->cpu_us) &&
              amount_add(&to->net_rx_bytes, from->net_rx_bytes) && amount_add(&to->net_tx_bytes, from->net_tx_bytes) &&
              amount_add(&to->io_read_bytes, from->io_read_bytes) &&
              amount_add(&to->io_write_bytes, from->io_write_bytes) && amount_add(&to->execs, from->execs);
    return ok ? SG_OK : SG_ERR_OVERFLOW;
}

/* a - b, not below zero: an hour cell may be read from a moment later than the run's. */
static struct amount rest_of(struct amount a, struct amount b)
{
    struct amount out = {0};
    (void)!amount_sub(&out, a, b);
    return out;
}

static void usage_subtract(struct run *from, const struct run *what)
{
    from->running_ms = rest_of(from->running_ms, what->running_ms);
    from->cpu_us = rest_of(from->cpu_us, what->cpu_us);
    from->net_rx_bytes = rest_of(from->net_rx_bytes, what->net_rx_bytes);
    from->net_tx_bytes = rest_of(from->net_tx_bytes, what->net_tx_bytes);
    from->io_read_bytes = rest_of(from->io_read_bytes, what->io_read_bytes);
    from->io_write_bytes = rest_of(from->io_write_bytes, what->io_write_bytes);
    from->execs = rest_of(from->execs, what->execs);
}

static enum sg_error hour_add(struct view_run *r, struct wall_ms start, const struct run *usage)
{
    size_t at = 0;
    while (at < r->hour_count && r->hour[at].start.v < start.v) at++;
    if (at < r->hour_count && r->hour[at].start.v == start.v) return usage_add(&r->hour[at].usage, usage);
    struct view_run_hour *grown = realloc(r->hour, (r->hour_count + 1) * sizeof *grown);
    if (!grown) return SG_ERR_NOMEM;
    r->hour = grown;
    memmove(grown + at + 1, grown + at, (r->hour_count - at) * sizeof *grown);
    grown[at] = (struct view_run_hour){.start = start};
    r->hour_count++;
    return usage_add(&grown[at].usage, usage);
}

/* The life that the run's attributes tell of is the newest one. */
static enum sg_error run_merge(struct view_run *r, const struct run *part)
{
    struct run usage = r->run;
    if (r->run.team.s[0] == '\0' || part->started.v > r->run.started.v) {
        struct wall_ms created = r->run.created;
        r->run = *part;
        if (created.v && created.v < part->created.v) r->run.created = created;
        return usage_add(&r->run, &usage);
    }
    return usage_add(&r->run, part);
}

static enum sg_error hour_cell(const struct redisReply *text, struct run *out)
{
    struct sums s = {0};
    uint64_t offset;
    enum sg_error e = cell_decode(text->str, text->len, &offset, &s);
    *out = (struct run){.running_ms = s.plain[FIELD_RUNNING_MS],
                        .cpu_us = s.plain[FIELD_CPU_US],
                        .net_rx_bytes = s.plain[FIELD_NET_RX_BYTES],
                        .net_tx_bytes = s.plain[FIELD_NET_TX_BYTES],
                        .io_read_bytes = s.plain[FIELD_IO_READ_BYTES],
                        .io_write_bytes = s.plain[FIELD_IO_WRITE_BYTES],
                        .execs = s.plain[FIELD_EXECS]};
    sums_destroy(&s);
    return e;
}

/* One partition's part: its run cell, less its hour cells, belongs to the hour of `created`. */
static enum sg_error take_part(struct view_run *r, const struct redisReply *hash, size_t at)
{
    const struct redisReply *field = hash->element[at], *text = hash->element[at + 1];
    struct run part, rest, hour;
    uint64_t offset;
    enum sg_error e = run_cell_decode(text->str, text->len, &offset, &part);
    if (e) return e;
    rest = part;
    for (size_t i = 0; !e && i < hash->elements; i += 2) {
        const struct redisReply *name = hash->element[i];
        if (name->len <= field->len || memcmp(name->str, field->str, field->len) != 0 || name->str[field->len] != ':')
            continue;
        struct text t = text_over(name->str + field->len, name->len - field->len);
        text_expect(&t, ':');
        uint64_t start = text_u64(&t);
        bool whole = start % (HOUR_MS / SECOND_MS) == 0;
        if (!text_done(&t) || !whole || start > (uint64_t)(WALL_MS_MAX / SECOND_MS)) return SG_ERR_CORRUPT;
        e = hour_cell(hash->element[i + 1], &hour);
        if (!e) e = hour_add(r, (struct wall_ms){(int64_t)start * SECOND_MS}, &hour);
        usage_subtract(&rest, &hour);
    }
    if (!e) e = hour_add(r, wall_floor(part.created, HOUR_MS), &rest);
    return e ? e : run_merge(r, &part);
}

/* Reads a run's hash. NOT_FOUND when it is empty or another team's. */
static enum sg_error run_read(const struct redisReply *hash, const char *team, const char *sandbox,
                              struct view_run *out)
{
    enum sg_error e = SG_OK;
    *out = (struct view_run){0};
    if (!reply_is_pairs(hash) || !id_valid(sandbox, strlen(sandbox))) return SG_ERR_CORRUPT;
    for (size_t i = 0; i < hash->elements; i++)
        if (!reply_is_text(hash->element[i])) return SG_ERR_CORRUPT;
    memcpy(out->sandbox.s, sandbox, strlen(sandbox) + 1);
    for (size_t i = 0; !e && i < hash->elements; i += 2)
        if (!memchr(hash->element[i]->str, ':', hash->element[i]->len)) e = take_part(out, hash, i);
    if (!e && strcmp(out->run.team.s, team) != 0) e = SG_ERR_NOT_FOUND;
    if (e) view_run_destroy(out);
    return e == SG_ERR_MALFORMED ? SG_ERR_CORRUPT : e;
}

static enum sg_error run_fault(enum sg_error e, struct sg_fault *f)
{
    if (e == SG_ERR_NOT_FOUND) return sg_fail(f, e, "there is no such sandbox");
    if (e == SG_ERR_CORRUPT) return sg_fail(f, e, "the view holds a run that cannot be read");
    return sg_fail(f, e, "a run cannot be read: %s", sg_error_text(e));
}

enum sg_error view_run(struct view *v, const char *team, const char *sandbox, struct view_run *out, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    uint32_t shard = shard_of_team(team, v->shards);
    struct redisReply *reply = NULL;
    key_id(key, shard, "r", sandbox);
    const char *const words[] = {"HGETALL", key};
    enum sg_error e = redis_store_command(v->store, shard, words, 2, &reply, f);
    if (e) return e;
    e = run_read(reply, team, sandbox, out);
    freeReplyObject(reply);
    return e ? run_fault(e, f) : SG_OK;
}

/* One chunk of an index of runs. *page goes on behind what was given. */
static enum sg_error give_runs(const struct redisReply *reply, const char *team, struct page *page, view_each_run *each,
                               void *arg)
{
    enum sg_error e = SG_OK;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements % 3) return SG_ERR_CORRUPT;
    for (size_t i = 0; !e && i < reply->elements; i += 3) {
        const struct redisReply *id = reply->element[i], *score = reply->element[i + 1];
        struct view_run run;
        int64_t at;
        if (!reply_is_text(id) || strlen(id->str) != (size_t)id->len || !reply_i64(score, &at) || at > WALL_MS_MAX)
            return SG_ERR_CORRUPT;
        if (at == page->from_top.v)
            page->skip++;
        else
            *page = (struct page){{at}, 1, true};
        e = run_read(reply->element[i + 2], team, id->str, &run);
        if (e == SG_ERR_NOT_FOUND) { /* it has expired */
            e = SG_OK;
            continue;
        }
        if (!e) e = each(arg, &run, *page);
        view_run_destroy(&run);
    }
    return e;
}

enum sg_error view_runs(struct view *v, const char *team, enum view_runs which, struct page page, view_each_run *each,
                        void *arg, struct sg_fault *f)
{
    char index[KEY_BYTES_MAX], prefix[KEY_BYTES_MAX];
    struct number top, offset, count;
    uint32_t shard = shard_of_team(team, v->shards);
    size_t taken = CHUNK;
    enum sg_error e = SG_OK;
    if (!page.set) page = (struct page){{WALL_MS_MAX}, 0, true};
    key_id(index, shard, which == VIEW_RUNS_ENDED ? "re" : "ra", team);
    size_t length = key_plain(prefix, shard, "r");
    memcpy(prefix + length, ":", 2);
    while (!e && taken == CHUNK) {
        struct redisReply *reply = NULL;
        const struct store_bytes args[] = {store_text(index), store_text(prefix), number_arg(&top, page.from_top.v),
                                           number_arg(&offset, page.skip), number_arg(&count, CHUNK)};
        e = redis_store_eval(v->store, shard, view_script_runs, args, 1, sizeof args / sizeof *args, &reply, f);
        if (e) return e;
        taken = reply->elements / 3;
        e = give_runs(reply, team, &page, each, arg);
        freeReplyObject(reply);
        if (e && e != SG_ERR_LIMIT) return run_fault(e, f);
    }
    return e == SG_ERR_LIMIT ? SG_OK : e;
}
