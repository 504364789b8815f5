/* sandglass reconcile: holds the books against each other (design.md, law 7), per meter, to the unit.
 *
 *     accepted   what the collectors counted themselves, carried in their batches, kept in the marks
 *     rolled_up  the sum of all hour rollups; must be accepted, and the sum of all day rollups
 *     ledger     what the exporter decided to push: the newest revision of every hour
 *     billed     what Stripe has answered for; never more than rolled up in any hour
 *     pending    rolled up and not billed: open hours, teams without a customer, pushes under way
 *
 * The books are read one after the other. While usage flows they are of different moments, so a difference is looked at
 * again, up to ATTEMPTS_MAX times, before it is told. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aggregator/ctl/ctl.h"
#include "aggregator/ctl/view_open.h"
#include "common/array.h"
#include "common/buffer.h"
#include "common/json_out.h"
#include "common/rfc3339.h"

enum { METERS = 2, ATTEMPTS_MAX = 5, AGAIN_US = 500 * 1000, DIFFERENCES_MAX = 1000, LINE_BYTES_MAX = 4 << 20 };
static const enum field meters[METERS] = {FIELD_VCPU_MS, FIELD_MEM_MIB_MS};

typedef unsigned __int128 wide;

/* One hour of a team. */
struct hour {
    struct wall_ms start;
    wide rolled_up[METERS];
    uint64_t ledger[METERS], ledger_revision[METERS], billed[METERS];
};

/* What is wrong: an hour in which more is billed than was used (team set), or two sums of a meter that differ. */
struct difference {
    const char *kind;
    struct id team;
    struct wall_ms hour;
    int meter;
    wide left, right;
};

struct books {
    struct view *view;
    struct sg_fault *f;
    struct id team; /* whose hours these are */
    struct hour *hour;
    size_t hour_count, hour_capacity;
    wide accepted[METERS], rolled_up[METERS], days[METERS], ledger[METERS], billed[METERS], pending[METERS];
    struct difference difference[DIFFERENCES_MAX];
    size_t difference_count;
};

/* The team's hour, added when it is new; NULL without memory. Hours come in ascending order but for the ledger's. */
static struct hour *hour_of(struct books *b, struct wall_ms start)
{
    size_t low = 0, high = b->hour_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (b->hour[middle].start.v < start.v)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < b->hour_count && b->hour[low].start.v == start.v) return &b->hour[low];
    if (!array_reserve(&b->hour, &b->hour_capacity, b->hour_count, sizeof *b->hour)) return NULL;
    memmove(b->hour + low + 1, b->hour + low, (b->hour_count - low) * sizeof *b->hour);
    b->hour[low] = (struct hour){.start = start};
    b->hour_count++;
    return &b->hour[low];
}

static int meter_of(const char *name)
{
    enum field f;
    for (int m = 0; m < METERS; m++)
        if (field_parse(name, strlen(name), &f) && f == meters[m]) return m;
    return -1;
}

static enum sg_error add_hour(void *arg, const struct view_rollup *r)
{
    struct books *b = arg;
    struct hour *h = hour_of(b, r->start);
    if (!h) return SG_ERR_NOMEM;
    for (int m = 0; m < METERS; m++) h->rolled_up[m] += sums_get(r->sums, meters[m]).v;
    return SG_OK;
}

static enum sg_error add_day(void *arg, const struct view_rollup *r)
{
    struct books *b = arg;
    for (int m = 0; m < METERS; m++) b->days[m] += sums_get(r->sums, meters[m]).v;
    return SG_OK;
}

static enum sg_error add_account(void *arg, const struct view_account *a)
{
    struct books *b = arg;
    int m = meter_of(a->meter);
    struct hour *h = hour_of(b, a->hour);
    if (!h) return SG_ERR_NOMEM;
    if (m >= 0) h->billed[m] = a->total.v;
    return SG_OK;
}

static enum sg_error add_revision(void *arg, const struct view_revision *r, struct page behind)
{
    struct books *b = arg;
    int m = meter_of(r->meter);
    struct hour *h = hour_of(b, r->hour);
    (void)behind;
    if (!h) return SG_ERR_NOMEM;
    if (m < 0 || r->revision < h->ledger_revision[m]) return SG_OK;
    h->ledger_revision[m] = r->revision;
    h->ledger[m] = r->total.v;
    return SG_OK;
}

static void tell(struct books *b, const char *kind, const struct hour *h, int meter, wide left, wide right)
{
    if (b->difference_count == DIFFERENCES_MAX) return;
    struct difference *d = &b->difference[b->difference_count++];
    *d = (struct difference){.kind = kind, .meter = meter, .left = left, .right = right};
    if (!h) return;
    d->team = b->team;
    d->hour = h->start;
}

static void add_up(struct books *b)
{
    for (size_t i = 0; i < b->hour_count; i++) {
        const struct hour *h = &b->hour[i];
        for (int m = 0; m < METERS; m++) {
            b->rolled_up[m] += h->rolled_up[m];
            b->ledger[m] += h->ledger[m];
            b->billed[m] += h->billed[m];
            if (h->billed[m] > h->rolled_up[m])
                tell(b, "billed more than rolled up", h, m, h->rolled_up[m], h->billed[m]);
            else
                b->pending[m] += h->rolled_up[m] - h->billed[m];
            if (h->ledger[m] < h->billed[m])
                tell(b, "billed more than the ledger decided", h, m, h->ledger[m], h->billed[m]);
        }
    }
}

static enum sg_error add_team(void *arg, const char *team)
{
    struct books *b = arg;
    const struct wall_ms end = {WALL_MS_MAX};
    b->hour_count = 0;
    memcpy(b->team.s, team, strlen(team) + 1);
    /* billed before rolled up: what is billed in between is then not taken for too much */
    enum sg_error e = view_accounts(b->view, team, add_account, b, b->f);
    if (!e) e = view_revisions(b->view, team, end, (struct page){0}, add_revision, b, b->f);
    if (!e) e = view_rollups(b->view, team, WINDOW_DAY, (struct wall_ms){0}, end, add_day, b, b->f);
    if (!e) e = view_rollups(b->view, team, WINDOW_HOUR, (struct wall_ms){0}, end, add_hour, b, b->f);
    if (!e) add_up(b);
    return e;
}

static void compare(struct books *b)
{
    for (int m = 0; m < METERS; m++) {
        if (b->accepted[m] != b->rolled_up[m])
            tell(b, "accepted and rolled up differ", NULL, m, b->accepted[m], b->rolled_up[m]);
        if (b->days[m] != b->rolled_up[m]) tell(b, "days and hours differ", NULL, m, b->days[m], b->rolled_up[m]);
    }
}

static enum sg_error read_books(struct books *b, struct view *view, struct sg_fault *f)
{
    struct view_accepted accepted;
    free(b->hour);
    *b = (struct books){.view = view, .f = f};
    enum sg_error e = SG_OK;
    for (uint32_t s = 0; !e && s < view->shards; s++) e = view_refresh(view, s, f);
    if (!e) e = view_accepted(view, &accepted, f);
    for (uint32_t s = 0; !e && s < view->shards; s++) e = view_teams(view, s, add_team, b, f);
    if (e) return e;
    b->accepted[0] = accepted.vcpu_ms.v;
    b->accepted[1] = accepted.mem_mib_ms.v;
    compare(b);
    return SG_OK;
}

static void write_differences(const struct books *b, struct json_out *j)
{
    json_out_array_begin(j, "differences");
    for (size_t i = 0; i < b->difference_count; i++) {
        const struct difference *d = &b->difference[i];
        char meter[FIELD_NAME_BYTES_MAX];
        field_name(meters[d->meter], meter);
        json_out_object_begin(j, NULL);
        json_out_string(j, "what", d->kind);
        json_out_string(j, "meter", meter);
        if (d->team.s[0]) {
            json_out_string(j, "team", d->team.s);
            json_out_time(j, "hour", d->hour);
        }
        json_out_u128(j, "first", d->left);
        json_out_u128(j, "second", d->right);
        json_out_object_end(j);
    }
    json_out_array_end(j);
}

static void print_json(const struct books *b)
{
    struct buffer line;
    struct json_out j;
    buffer_init(&line, LINE_BYTES_MAX);
    json_out_init(&j, &line);
    json_out_object_begin(&j, NULL);
    json_out_bool(&j, "ok", b->difference_count == 0);
    json_out_array_begin(&j, "meters");
    for (int m = 0; m < METERS; m++) {
        char meter[FIELD_NAME_BYTES_MAX];
        field_name(meters[m], meter);
        json_out_object_begin(&j, NULL);
        json_out_string(&j, "meter", meter);
        json_out_u128(&j, "accepted", b->accepted[m]);
        json_out_u128(&j, "rolled_up", b->rolled_up[m]);
        json_out_u128(&j, "ledger", b->ledger[m]);
        json_out_u128(&j, "billed", b->billed[m]);
        json_out_u128(&j, "pending", b->pending[m]);
        json_out_object_end(&j);
    }
    json_out_array_end(&j);
    write_differences(b, &j);
    json_out_object_end(&j);
    if (json_out_finish(&j) == SG_OK) puts(line.data);
    buffer_destroy(&line);
}

static const char *wide_text(wide v, char out[static 48])
{
    char *p = out + 47;
    *p = '\0';
    do {
        *--p = (char)('0' + (int)(v % 10));
        v /= 10;
    } while (v);
    return p;
}

static void print_table(const struct books *b)
{
    char text[6][48];
    printf("%-12s %22s %22s %22s %22s %22s\n", "meter", "accepted", "rolled up", "ledger", "billed", "pending");
    for (int m = 0; m < METERS; m++) {
        char meter[FIELD_NAME_BYTES_MAX];
        field_name(meters[m], meter);
        printf("%-12s %22s %22s %22s %22s %22s\n", meter, wide_text(b->accepted[m], text[0]),
               wide_text(b->rolled_up[m], text[1]), wide_text(b->ledger[m], text[2]), wide_text(b->billed[m], text[3]),
               wide_text(b->pending[m], text[4]));
    }
    for (size_t i = 0; i < b->difference_count; i++) {
        const struct difference *d = &b->difference[i];
        char meter[FIELD_NAME_BYTES_MAX], hour[RFC3339_BYTES];
        field_name(meters[d->meter], meter);
        rfc3339_format(d->hour, hour);
        printf("%s: %s %s %s: %s, %s\n", d->kind, meter, d->team.s, d->team.s[0] ? hour : "",
               wide_text(d->left, text[0]), wide_text(d->right, text[1]));
    }
    if (b->difference_count == 0) printf("no differences\n");
}

int ctl_reconcile(const struct ctl_call *c)
{
    static struct books b;
    struct view v = {0};
    struct sg_fault f = {0};
    enum sg_error e = view_open(c->config, &v, &f);
    for (int i = 0; !e && i < ATTEMPTS_MAX; i++) {
        if (i) usleep(AGAIN_US);
        e = read_books(&b, &v, &f);
        if (e || b.difference_count == 0) break;
    }
    view_close(&v);
    free(b.hour);
    b.hour = NULL;
    if (e) return ctl_fail(&f);
    if (c->option[OPTION_JSON])
        print_json(&b);
    else
        print_table(&b);
    return b.difference_count ? CTL_NO : CTL_DONE;
}
