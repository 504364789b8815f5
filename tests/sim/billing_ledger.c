/* The ledger of one shard as Kafka keeps it: transactions of one owner; whoever initialises last fences the rest; a
 * commit may end without an answer and is decided by whoever comes next. Every record goes through the real codec. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

static void keep(struct billing_world *w, const char *text, size_t length)
{
    assert(w->records < RECORDS);
    struct ledger_record *r = malloc(sizeof *r);
    assert(r);
    if (ledger_decode(text, length, r, NULL) != SG_OK) sim_fail(w->sim, "the ledger cannot be read at %zu", w->records);
    w->record[w->records++] = r;
    w->sim->rows++;
}

void billing_fence(struct billing_world *w, struct billing_exporter *x)
{
    if (w->undecided_length && sim_draw(w->sim, 2)) keep(w, w->undecided, w->undecided_length);
    w->undecided_length = 0;
    x->epoch = ++w->epoch;
    w->owner = (size_t)(x - w->x);
}

enum sg_error billing_append(struct billing_world *w, const struct billing_exporter *x, const struct ledger_record *r,
                             uint64_t *offset)
{
    char text[RECORD_BYTES];
    size_t length = 0;
    if (r->value.v > LEDGER_VALUE_MAX) {
        sim_fail(w->sim, "a value of more than 15 digits");
        return SG_ERR_LIMIT;
    }
    enum sg_error e = ledger_encode(r, text, sizeof text, &length);
    assert(e == SG_OK);
    bool owns = x->epoch == w->epoch;
    if (!owns) return SG_ERR_FENCED;
    bool lost = w->undecided_length > 0;
    if (!lost && billing_fault(w, SIM_COMMIT_LOST)) {
        memcpy(w->undecided, text, length);
        w->undecided_length = length;
        lost = true;
    }
    *offset = w->records;
    enum sg_error fate = lost ? SG_ERR_TIMEOUT : SG_OK;
    if (!lost) keep(w, text, length);
    return fate;
}

/* People are told once. */
static void check_note(struct billing_world *w, const struct ledger_record *r)
{
    for (int i = 0; i < KEYS; i++) {
        struct billing_key k = billing_key_at(i);
        bool same = strcmp(billing_teams[k.team], r->team.s) == 0 && billing_hour(w, k).v == r->hour.v &&
                    billing_meters[k.meter].field == r->meter;
        if (!same || r->revision >= 64) continue;
        if (w->noted[i][r->reason][r->revision]) sim_fail(w->sim, "a note was made twice, key %d", i);
        w->noted[i][r->reason][r->revision] = true;
    }
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
