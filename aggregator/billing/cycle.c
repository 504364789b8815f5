#include "aggregator/billing/cycle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_team_and_hour(const void *a, const void *b)
{
    const struct cycle_due *l = a, *r = b;
    int c = strcmp(l->team.s, r->team.s);
    return c ? c : (l->hour.v > r->hour.v) - (l->hour.v < r->hour.v);
}

static bool is_closed(const struct cycle *c, struct wall_ms hour)
{
    return watermark_passed(c->mark, (struct wall_ms){hour.v + HOUR_MS + c->close_delay_ms});
}

/* Nothing to be asked: no customer, and no meter of the hour was ever pushed under one. */
static bool is_pending(const struct cycle *c, const struct cycle_due *d)
{
    if (control_view_account(c->facts, d->team.s)) return false;
    for (size_t m = 0; m < c->meter_count; m++)
        if (book_find(c->book, d->team.s, c->meter[m].meter.field, d->hour)) return false;
    return true;
}

size_t cycle_groups(const struct cycle *c, struct cycle_due *due, size_t count, struct cycle_group *out,
                    struct cycle_tally *t)
{
    size_t groups = 0;
    qsort(due, count, sizeof *due, by_team_and_hour);
    for (size_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && by_team_and_hour(&due[i], &due[i + n]) == 0;) n++;
        if (!is_closed(c, due[i].hour)) continue;
        if (is_pending(c, &due[i]))
            t->pending++;
        else
            out[groups++] = (struct cycle_group){&due[i], n};
    }
    return groups;
}

enum { POSITION_BYTES_MAX = sizeof " 1023@18446744073709551615" };
_Static_assert(PARTITIONS_MAX <= 1024 && PARTITIONS_MAX * POSITION_BYTES_MAX <= LEDGER_POSITIONS_BYTES,
               "all positions fit");

static void positions_text(const struct cycle_hour *h, char out[static LEDGER_POSITIONS_BYTES])
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t p = 0; p < PARTITIONS_MAX; p++)
        if (h->reach[p])
            used += (size_t)snprintf(out + used, LEDGER_POSITIONS_BYTES - used, "%s%u@%" PRIu64, used ? " " : "", p,
                                     h->reach[p]);
}

/* All that `due` speaks of is in the snapshot. */
static bool covers(const struct cycle *c, const struct cycle_group *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (c->vouched[g->first[i].partition] < g->first[i].offset) return false;
    return true;
}

bool cycle_plan(const struct cycle *c, const struct cycle_group *g, const struct cycle_hour *h, struct wall_ms now,
                char positions[static LEDGER_POSITIONS_BYTES], struct ledger_record *records, size_t *count,
                struct cycle_tally *t)
{
    const struct control_account *account = control_view_account(c->facts, h->team);
    size_t verdicts[PLAN_VERDICTS] = {0};
    if (!is_closed(c, h->hour)) return false;
    for (size_t m = 0; m < c->meter_count; m++) {
        struct plan_question q = {.account = c->account,
                                  .meter = &c->meter[m].meter,
                                  .team = h->team,
                                  .customer = account ? account->customer.s : NULL,
                                  .hour = h->hour,
                                  .total = sums_get(&h->total, c->meter[m].meter.field),
                                  .positions = positions,
                                  .now = now};
        enum plan_verdict v = plan_revision(c->book, &q, &records[*count]);
        verdicts[v]++;
        *count += v == PLAN_RECORD;
    }
    if (verdicts[PLAN_RECORD]) positions_text(h, positions);
    t->lower += verdicts[PLAN_LOWER];
    if (verdicts[PLAN_HELD])
        t->held++;
    else if (verdicts[PLAN_PENDING])
        t->pending++;
    else if (verdicts[PLAN_SETTLED] < c->meter_count)
        t->waiting++;
    return verdicts[PLAN_SETTLED] == c->meter_count && covers(c, g);
}
