/* What must be true of what exporters commit: whoever names a revision names it alike, and no two are named alike;
 * values are such that Stripe can read them; people are told once, not of what is in order, and not too early. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

/* ---- names ---- */

static const char *const kinds[] = {"intent", "outcome", "note"};

struct billing_name *billing_named(const struct billing_world *w, const char *identifier)
{
    for (size_t i = 0; i < w->names; i++)
        if (strcmp(w->name[i]->intent.identifier, identifier) == 0) return w->name[i];
    return NULL;
}

static void add_name(struct billing_world *w, const struct ledger_record *r, int key, int customer)
{
    struct billing_name *n = malloc(sizeof *n);
    if (!n) abort();
    assert(w->names < BILLING_NAMES);
    *n = (struct billing_name){.key = key, .customer = customer, .revision = r->revision, .intent = *r};
    w->name[w->names++] = n;
}

static void check_name(struct billing_world *w, const struct ledger_record *r)
{
    int customer = -1, key = billing_index_of(w, r->team.s, r->meter, r->hour);
    for (int c = 0; c < BILLING_CUSTOMERS; c++)
        if (strcmp(billing_customers[c], r->customer.s) == 0) customer = c;
    w->sim->checks++;
    for (size_t i = 0; i < w->names; i++) {
        const struct billing_name *n = w->name[i];
        bool same = n->key == key && n->customer == customer && n->revision == r->revision;
        bool alike = strcmp(n->intent.identifier, r->identifier) == 0;
        if (same && alike) return;
        if (same || alike)
            return sim_fail(w->sim, same ? "a revision has two identifiers, key %d" : "two revisions share one, key %d",
                            key);
    }
    add_name(w, r, key, customer);
}

/* Who has as many open revisions as it may has no further one. */
static void check_room(struct billing_world *w, uint32_t shard)
{
    const struct exporter *x = &((const struct billing_exporter *)ports_acting()->arg)->exporter;
    size_t open = 0;
    for (const struct book_open *o = x->shard[shard].book.open_first; o; o = o->next) open++;
    if (open >= x->open_most) sim_fail(w->sim, "an intent though %zu are open, of %zu", open, x->open_most);
}

static void proposed(void *arg, uint32_t shard, const char *bytes, size_t length)
{
    struct billing_world *w = arg;
    struct ledger_record r;
    if (!ledger_is_billing(bytes, length)) return;
    if (ledger_decode(bytes, length, &r, NULL) != SG_OK)
        return sim_fail(w->sim, "a record for shard %u cannot be read", shard);
    if (r.kind != LEDGER_INTENT) return;
    check_name(w, &r);
    check_room(w, shard);
}

/* ---- what is kept ---- */

static void check_note(struct billing_world *w, const struct ledger_record *r, int i)
{
    if (r->reason == LEDGER_HELD_SUM && !w->odd[i]) sim_fail(w->sim, "held though nothing was odd, key %d", i);
    if (r->reason == LEDGER_HELD_SUM && w->told_at[i] - w->intent_at[i].v < DAY_MS - 2 * CLOCK_TRUST_SKEW_MS_MAX)
        sim_fail(w->sim, "held by what was shown too early, key %d", i);
    if (r->revision >= 64) return;
    if (w->noted[i][r->reason][r->revision]) sim_fail(w->sim, "a note was made twice, key %d", i);
    w->noted[i][r->reason][r->revision] = true;
}

/* The very bytes that were committed are the revision from now on, whatever was proposed before. */
static void take_intent(struct billing_world *w, const struct ledger_record *r, int i)
{
    w->intent_at[i] = r->at;
    w->intended[i] = r->total.v;
    struct billing_name *n = billing_named(w, r->identifier);
    if (!n) return;
    n->intent = *r;
    n->committed = true;
    n->by = ports_acting()->arg;
    n->record = w->records;
}

static void kept(void *arg, uint32_t shard, uint64_t offset, const char *bytes, size_t length)
{
    struct billing_world *w = arg;
    struct ledger_record r;
    if (!ledger_is_billing(bytes, length)) return;
    if (ledger_decode(bytes, length, &r, NULL) != SG_OK) return;
    int i = billing_index_of(w, r.team.s, r.meter, r.hour);
    sim_trace(w->sim, "ledger %u: key %d revision %llu %s at %lld", shard, i, (unsigned long long)r.revision,
              kinds[r.kind], (long long)r.at.v);
    if (i < 0) return sim_fail(w->sim, "a record of an hour that was not used");
    if (shard_of_team(r.team.s, w->shards) != shard) sim_fail(w->sim, "shard %u bills what is another's", shard);
    if (r.kind == LEDGER_INTENT) take_intent(w, &r, i);
    if (r.kind == LEDGER_NOTE) check_note(w, &r, i);
    assert(w->records < BILLING_RECORDS);
    w->record[w->records++] = (struct billing_place){i, offset};
    w->sim->rows++;
}

void billing_check_rows(struct billing_world *w, uint64_t below)
{
    for (size_t i = 0; i < w->records && w->record[i].offset < below; i++) {
        w->sim->checks++;
        if (w->view->row_at(w->view->arg, w->record[i].key) <= w->record[i].offset)
            return sim_fail(w->sim, "billing cells below %llu are said to be written, key %d's of %llu is not",
                            (unsigned long long)below, w->record[i].key, (unsigned long long)w->record[i].offset);
    }
}

static void owned(void *arg, uint32_t shard, const struct sim_actor *owner)
{
    struct billing_world *w = arg;
    for (size_t i = 0; i < BILLING_EXPORTERS; i++) {
        if (&w->x[i].actor != owner) continue;
        w->owner = i;
        w->x[i].opened[shard] = w->records;
    }
}

void billing_ledger_begin(struct billing_world *w)
{
    w->watcher = (struct ledgers_watcher){w, proposed, kept, owned};
    ledgers_watch(&w->watcher);
}

void billing_ledger_end(struct billing_world *w)
{
    ledgers_watch(NULL);
    for (size_t i = 0; i < w->names; i++) free(w->name[i]);
}

static uint32_t position(const char *text, size_t length, const char *partition)
{
    const char *at = memmem(text, length, partition, 2);
    return at ? (uint32_t)strtoul(at + 2, NULL, 10) & 0xffff : 0;
}

uint32_t billing_positions(const char *text, size_t length)
{
    return position(text, length, "0@") << 16 | position(text, length, "1@");
}
