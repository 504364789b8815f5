/* The ledger of one shard as Kafka keeps it: transactions of one owner; whoever initialises last fences the rest; a
 * commit may end without an answer and is decided by whoever comes next. Every record goes through the real codec. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

static const char *const kinds[] = {"intent", "outcome", "note"};

static void keep(struct billing_world *w, const char *text, size_t length)
{
    assert(w->records < BILLING_RECORDS);
    struct ledger_record *r = malloc(sizeof *r);
    assert(r);
    if (ledger_decode(text, length, r, NULL) != SG_OK) sim_fail(w->sim, "the ledger cannot be read at %zu", w->records);
    sim_trace(w->sim, "ledger: key %d revision %llu %s at %lld", billing_index_of(w, r->team.s, r->meter, r->hour),
              (unsigned long long)r->revision, kinds[r->kind], (long long)r->at.v);
    w->record[w->records++] = r;
    w->sim->rows++;
}

void billing_fence(struct billing_world *w, struct billing_exporter *x)
{
    bool committed = sim_draw(w->sim, 2);
    for (size_t i = 0; i < w->undecided_count && committed; i++) keep(w, w->undecided[i], w->undecided_length[i]);
    w->undecided_count = 0;
    x->epoch = ++w->epoch;
    w->owner = (size_t)(x - w->x);
}

/* Writes the transaction into w->undecided, by the real codec. */
static void encode(struct billing_world *w, const struct ledger_record *r, size_t count)
{
    assert(count <= BILLING_KEYS);
    for (size_t i = 0; i < count; i++) {
        if (r[i].value.v > LEDGER_VALUE_MAX) return sim_fail(w->sim, "a value of more than 15 digits");
        enum sg_error e = ledger_encode(&r[i], w->undecided[i], sizeof w->undecided[i], &w->undecided_length[i]);
        if (e != SG_OK) sim_fail(w->sim, "a record cannot be encoded");
    }
}

enum sg_error billing_append(struct billing_world *w, const struct billing_exporter *x, const struct ledger_record *r,
                             size_t count, uint64_t *first)
{
    bool owns = x->epoch == w->epoch;
    *first = w->records;
    if (!owns) return SG_ERR_FENCED;
    bool lost = w->undecided_count > 0;
    if (!lost) encode(w, r, count);
    if (w->sim->failed) return SG_ERR_LIMIT;
    if (!lost && billing_fault(w, SIM_COMMIT_LOST)) {
        w->undecided_count = count;
        lost = true;
    }
    enum sg_error fate = lost ? SG_ERR_TIMEOUT : SG_OK;
    for (size_t i = 0; i < count && !lost && !w->sim->failed; i++) keep(w, w->undecided[i], w->undecided_length[i]);
    return fate;
}

/* People are told once, and not of what is in order. */
static void check_note(struct billing_world *w, const struct ledger_record *r)
{
    int i = billing_index_of(w, r->team.s, r->meter, r->hour);
    if (r->reason == LEDGER_HELD_SUM && !w->odd[i]) sim_fail(w->sim, "held though nothing was odd, key %d", i);
    if (r->revision >= 64) return;
    if (w->noted[i][r->reason][r->revision]) sim_fail(w->sim, "a note was made twice, key %d", i);
    w->noted[i][r->reason][r->revision] = true;
}

static void fold_from(struct billing_world *w, struct book *b, size_t from, bool check)
{
    for (size_t i = from; i < w->records && !w->sim->failed; i++) {
        const struct ledger_record *r = w->record[i];
        if (book_apply(b, r, i, NULL, NULL) != SG_OK)
            sim_fail(w->sim, "the ledger does not fold at %zu", i);
        else if (check && r->kind == LEDGER_NOTE)
            check_note(w, r);
    }
}

void billing_fold(struct billing_world *w, struct book *b)
{
    memset(w->noted, 0, sizeof w->noted);
    fold_from(w, b, 0, true);
    if (w->records && billing_fault(w, SIM_LEDGER_READ_TWICE)) fold_from(w, b, sim_draw(w->sim, w->records), false);
}
