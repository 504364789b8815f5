/* Redis' replies as the API and the command line read the view. Whatever is given on is what the view's writers could
 * have written; all else is CORRUPT, and nothing of it is quoted.
 *
 * The first byte chooses what is asked. */
#include <assert.h>
#include <string.h>

#include "aggregator/api/view.h"
#include "aggregator/store/redis_store.h"
#include "tests/fuzz/redis_replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SHARDS = 2, PARTITIONS = 2, GIVEN_MAX = 3 };
static const struct wall_ms from = {0}, to = {WALL_MS_MAX};

/* Ends a list early, as a page does. */
static enum sg_error count_given(void *arg)
{
    unsigned *given = arg;
    return ++*given == GIVEN_MAX ? SG_ERR_LIMIT : SG_OK;
}

static void expect_id(const char *s)
{
    assert(id_valid_or_none(s, strlen(s)));
}

static void expect_time(struct wall_ms t)
{
    assert(t.v >= 0 && t.v <= WALL_MS_MAX);
}

static void expect_field(const char *name)
{
    enum field f;
    assert(field_parse(name, strlen(name), &f));
}

static enum sg_error on_rollup(void *arg, const struct view_rollup *r)
{
    (void)arg;
    expect_id(r->project);
    expect_id(r->region);
    expect_time(r->start);
    return SG_OK;
}

static enum sg_error on_run(void *arg, const struct view_run *r, struct page behind)
{
    expect_id(r->sandbox.s);
    assert(strcmp(r->run.team.s, "t") == 0 && behind.set && behind.skip > 0);
    expect_time(behind.from_top);
    for (size_t i = 0; i < r->hour_count; i++) {
        expect_time(r->hour[i].start);
        assert(r->hour[i].start.v % HOUR_MS == 0 && (i == 0 || r->hour[i - 1].start.v < r->hour[i].start.v));
    }
    return count_given(arg);
}

static enum sg_error on_gap(void *arg, const struct view_gap *g)
{
    (void)arg;
    expect_id(g->runner.s);
    expect_id(g->region.s);
    expect_time(g->from);
    expect_time(g->to);
    return SG_OK;
}

static enum sg_error on_capacity(void *arg, const struct view_capacity *c)
{
    (void)arg;
    expect_id(c->runner.s);
    assert(c->peak.vcpus_allocated >= c->is.is.vcpus_allocated);
    return SG_OK;
}

static enum sg_error on_revision(void *arg, const struct view_revision *r, struct page behind)
{
    expect_id(r->customer.s);
    expect_field(r->meter);
    expect_time(r->hour);
    assert(r->revision >= 1 && behind.skip > 0);
    return count_given(arg);
}

static enum sg_error on_account(void *arg, const struct view_account *a)
{
    (void)arg;
    expect_field(a->meter);
    expect_time(a->hour);
    return SG_OK;
}

static enum sg_error on_team(void *arg, const char *team)
{
    (void)arg;
    assert(id_valid(team, strlen(team)));
    return SG_OK;
}

static enum sg_error ask_one_run(struct view *v, struct sg_fault *f)
{
    struct view_run run;
    unsigned given = 0;
    enum sg_error e = view_run(v, "t", "s", &run, f);
    if (e == SG_OK) (void)on_run(&given, &run, (struct page){{0}, 1, true});
    if (e == SG_OK) view_run_destroy(&run);
    return e;
}

static enum sg_error ask(struct view *v, unsigned which, struct sg_fault *f)
{
    struct watermark mark;
    struct wall_ms heard;
    struct view_accepted accepted;
    struct page top = {.set = false};
    unsigned given = 0;
    switch (which % 12) {
    case 0: return view_refresh(v, 1, f);
    case 1: return view_watermark(v, 1, &mark, &heard, f);
    case 2: return view_rollups(v, "t", WINDOW_HOUR, from, to, on_rollup, NULL, f);
    case 3: return ask_one_run(v, f);
    case 4: return view_runs(v, "t", VIEW_RUNS_ENDED, top, on_run, &given, f);
    case 5: return view_runs(v, "t", VIEW_RUNS_ACTIVE, (struct page){{77}, 3, true}, on_run, &given, f);
    case 6: return view_gaps(v, on_gap, NULL, f);
    case 7: return view_accepted(v, &accepted, f);
    case 8: return view_capacities(v, on_capacity, NULL, f);
    case 9: return view_revisions(v, "t", to, top, on_revision, &given, f);
    case 10: return view_accounts(v, "t", on_account, NULL, f);
    default: return view_teams(v, 0, on_team, NULL, f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct redis_store_config config = {.address = "/redis", .shards = SHARDS};
    struct view v = {.shards = SHARDS, .partitions = PARTITIONS, .grace_ms = HOUR_MS};
    struct sg_fault f = {0};
    if (size == 0) return 0;
    enum sg_error e = redis_store_new(&v.store, &config, NULL);
    assert(e == SG_OK);
    replies_begin(data + 1, size - 1);
    e = ask(&v, data[0], &f);
    assert(e == SG_OK ? v.partitions >= 1 && v.partitions <= PARTITIONS_MAX : f.code == e && f.text[0]);
    assert(e != SG_ERR_MALFORMED && !strstr(f.text, "(canary)"));
    redis_store_free(v.store);
    replies_end();
    return 0;
}
