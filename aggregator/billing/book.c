#include "aggregator/billing/book.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char *const state_texts[] = {"none", "open", "accepted", "duplicate", "seen", "refused", "held"};

const char *book_state_text(enum book_state s)
{
    assert((unsigned)s < sizeof state_texts / sizeof *state_texts);
    return state_texts[s];
}

void book_destroy(struct book *b)
{
    for (struct book_open *o = b->open_first, *next; o; o = next) {
        next = o->next;
        free(o);
    }
    free(b->entry);
    free(b->slot);
    free(b->name);
    free(b->name_slot);
    *b = (struct book){0};
}

const char *book_name(const struct book *b, uint32_t name)
{
    assert(name < b->name_count);
    return b->name[name].s;
}

/* ---- two hash tables: names by text, entries by (team, meter, hour); nothing is ever removed ---- */

struct entry_key {
    int64_t hour;
    uint32_t team;
    uint32_t meter;
};

static uint64_t name_hash(const char *text)
{
    return XXH3_64bits(text, strlen(text));
}

static uint64_t key_hash(struct entry_key k)
{
    return XXH3_64bits(&k, sizeof k);
}

static struct entry_key key_of(const struct book_entry *e)
{
    return (struct entry_key){e->hour.v, e->team, e->meter};
}

static size_t name_place(const struct book *b, const char *text)
{
    size_t i = name_hash(text) & (b->name_slots - 1);
    while (b->name_slot[i] && strcmp(b->name[b->name_slot[i] - 1].s, text) != 0) i = (i + 1) & (b->name_slots - 1);
    return i;
}

static size_t entry_place(const struct book *b, struct entry_key k)
{
    size_t i = key_hash(k) & (b->slots - 1);
    while (b->slot[i]) {
        const struct book_entry *e = &b->entry[b->slot[i] - 1];
        if (e->hour.v == k.hour && e->team == k.team && e->meter == k.meter) break;
        i = (i + 1) & (b->slots - 1);
    }
    return i;
}

/* An empty table twice as large, and the old one to be freed by the caller once it is filled again. */
static uint32_t *larger(size_t *slots, size_t count)
{
    size_t wanted = *slots ? *slots * 2 : 64;
    assert(wanted > count);
    uint32_t *fresh = calloc(wanted, sizeof *fresh);
    if (fresh) *slots = wanted;
    return fresh;
}

static bool grow_names(struct book *b)
{
    if (b->name_count == b->name_capacity) {
        size_t wanted = b->name_capacity ? b->name_capacity * 2 : 16;
        struct id *grown = realloc(b->name, wanted * sizeof *grown);
        if (!grown) return false;
        b->name = grown;
        b->name_capacity = wanted;
    }
    if ((b->name_count + 1) * 2 <= b->name_slots) return true;
    uint32_t *old = b->name_slot, *fresh = larger(&b->name_slots, b->name_count);
    if (!fresh) return false;
    b->name_slot = fresh;
    for (size_t i = 0; i < b->name_count; i++) fresh[name_place(b, b->name[i].s)] = (uint32_t)i + 1;
    free(old);
    return true;
}

static bool grow_entries(struct book *b)
{
    if (b->entry_count == b->entry_capacity) {
        size_t wanted = b->entry_capacity ? b->entry_capacity * 2 : 16;
        struct book_entry *grown = realloc(b->entry, wanted * sizeof *grown);
        if (!grown) return false;
        b->entry = grown;
        b->entry_capacity = wanted;
    }
    if ((b->entry_count + 1) * 2 <= b->slots) return true;
    uint32_t *old = b->slot, *fresh = larger(&b->slots, b->entry_count);
    if (!fresh) return false;
    b->slot = fresh;
    for (size_t i = 0; i < b->entry_count; i++) fresh[entry_place(b, key_of(&b->entry[i]))] = (uint32_t)i + 1;
    free(old);
    return true;
}

static uint32_t find_name(const struct book *b, const char *text)
{
    if (!b->name_slots) return BOOK_NONE;
    uint32_t i = b->name_slot[name_place(b, text)];
    return i ? i - 1 : BOOK_NONE;
}

static enum sg_error intern(struct book *b, const struct id *name, uint32_t *out)
{
    *out = find_name(b, name->s);
    if (*out != BOOK_NONE) return SG_OK;
    if (b->name_count >= BOOK_ENTRIES_MAX) return SG_ERR_LIMIT;
    if (!grow_names(b)) return SG_ERR_NOMEM;
    *out = (uint32_t)b->name_count;
    b->name[b->name_count] = *name;
    b->name_slot[name_place(b, name->s)] = (uint32_t)++b->name_count;
    return SG_OK;
}

struct book_entry *book_find(const struct book *b, const char *team, enum field meter, struct wall_ms hour)
{
    uint32_t name = find_name(b, team);
    if (name == BOOK_NONE) return NULL;
    uint32_t i = b->slot[entry_place(b, (struct entry_key){hour.v, name, (uint32_t)meter})];
    return i ? &b->entry[i - 1] : NULL;
}

struct book_open *book_find_open(const struct book *b, const char *team, enum field meter, struct wall_ms hour,
                                 uint64_t revision)
{
    const struct book_entry *e = book_find(b, team, meter, hour);
    return e && e->open && e->open->revision == revision ? e->open : NULL;
}

/* Entries grow before a name is taken: where a name is, there are slots to look in. */
static enum sg_error find_or_make(struct book *b, const struct ledger_record *r, struct book_entry **out)
{
    uint32_t team, customer;
    *out = book_find(b, r->team.s, r->meter, r->hour);
    if (*out) return SG_OK;
    if (b->entry_count >= BOOK_ENTRIES_MAX) return SG_ERR_LIMIT;
    if (!grow_entries(b)) return SG_ERR_NOMEM;
    enum sg_error error = intern(b, &r->team, &team);
    if (!error) error = intern(b, &r->customer, &customer);
    if (error) return error;
    struct book_entry *e = *out = &b->entry[b->entry_count];
    *e = (struct book_entry){.team = team, .customer = customer, .meter = (uint16_t)r->meter, .hour = r->hour};
    b->slot[entry_place(b, key_of(e))] = (uint32_t)++b->entry_count;
    return SG_OK;
}

/* ---- the fold ---- */

static void link_open(struct book *b, struct book_open *o)
{
    o->before = b->open_last;
    *(b->open_last ? &b->open_last->next : &b->open_first) = o;
    b->open_last = o;
    b->open_count++;
}

static void unlink_open(struct book *b, struct book_open *o)
{
    *(o->before ? &o->before->next : &b->open_first) = o->next;
    *(o->next ? &o->next->before : &b->open_last) = o->before;
    b->open_count--;
}

static void show_open(struct book_change *c, const struct book_open *o, enum book_state state)
{
    c->has_row = true;
    c->revision = o->revision;
    c->mode = o->mode;
    c->total = o->total;
    c->value = o->value;
    c->state = state;
    c->at = o->at;
    memcpy(c->identifier, o->identifier, sizeof c->identifier);
}

static enum sg_error no_room(struct sg_fault *f, enum sg_error e)
{
    if (e == SG_ERR_NOMEM) return sg_fail(f, e, "no memory for the book of the ledger");
    return sg_fail(f, e, "no room for more of the ledger");
}

static enum sg_error open_revision(struct book *b, struct book_entry *e, const struct ledger_record *r,
                                   struct book_change *c, struct sg_fault *f)
{
    if (e->open || r->revision != e->revision + 1 || r->total.v <= e->total.v)
        return sg_fail(f, SG_ERR_MISMATCH, "the ledger has an intent that does not follow");
    if (e->revision && strcmp(book_name(b, e->customer), r->customer.s) != 0)
        return sg_fail(f, SG_ERR_MISMATCH, "the ledger has an hour with two customers");
    uint32_t customer;
    enum sg_error error = intern(b, &r->customer, &customer);
    if (error) return no_room(f, error);
    struct book_open *o = calloc(1, sizeof *o);
    if (!o) return no_room(f, SG_ERR_NOMEM);
    e->customer = customer;
    o->entry = (uint32_t)(e - b->entry);
    o->revision = r->revision;
    o->mode = r->mode;
    o->total = r->total;
    o->value = r->value;
    o->at = r->at;
    memcpy(o->identifier, r->identifier, sizeof o->identifier);
    memcpy(o->body, r->body, sizeof o->body);
    link_open(b, o);
    e->open = o;
    e->revision = r->revision;
    e->mode = (uint8_t)r->mode;
    e->state = BOOK_OPEN;
    show_open(c, o, BOOK_OPEN);
    return SG_OK;
}

static enum sg_error close_revision(struct book *b, struct book_entry *e, const struct ledger_record *r,
                                    struct book_change *c, struct sg_fault *f)
{
    static const enum book_state states[LEDGER_RESULTS] = {BOOK_ACCEPTED, BOOK_DUPLICATE, BOOK_SEEN};
    struct book_open *o = e->open;
    if (!o || o->revision != r->revision)
        return sg_fail(f, SG_ERR_MISMATCH, "the ledger has an outcome without its intent");
    show_open(c, o, states[r->result]);
    e->total = o->total;
    e->state = BOOK_ACCEPTED;
    e->open = NULL;
    unlink_open(b, o);
    free(o);
    return SG_OK;
}

static enum sg_error note(struct book_entry *e, const struct ledger_record *r, struct book_change *c,
                          struct sg_fault *f)
{
    struct book_open *o = e->open;
    enum book_state state = r->reason >= LEDGER_HELD_SUM ? BOOK_HELD : BOOK_REFUSED;
    if (r->reason == LEDGER_HELD_DIGITS || r->reason == LEDGER_HELD_MODE) {
        if (o || r->revision != e->revision + 1)
            return sg_fail(f, SG_ERR_MISMATCH, "the ledger has a note that does not follow");
        *(r->reason == LEDGER_HELD_DIGITS ? &e->noted_digits : &e->noted_mode) = r->revision;
    } else if (!o || o->revision != r->revision) {
        return sg_fail(f, SG_ERR_MISMATCH, "the ledger has a note without its intent");
    } else {
        o->noted[r->reason] = true;
        show_open(c, o, state);
    }
    e->state = (uint8_t)state;
    return SG_OK;
}

enum sg_error book_apply(struct book *b, const struct ledger_record *r, uint64_t offset, struct book_change *change,
                         struct sg_fault *f)
{
    struct book_change ignored, *c = change ? change : &ignored;
    memset(c, 0, sizeof *c);
    if (offset < b->end) return SG_OK;
    struct book_entry *e;
    enum sg_error error = find_or_make(b, r, &e);
    if (error) return no_room(f, error);
    enum sg_error got = r->kind == LEDGER_INTENT    ? open_revision(b, e, r, c, f)
                        : r->kind == LEDGER_OUTCOME ? close_revision(b, e, r, c, f)
                                                    : note(e, r, c, f);
    if (got != SG_OK) return got;
    b->end = offset + 1;
    e->offset = offset + 1;
    c->entry = e;
    c->team = book_name(b, e->team);
    c->customer = book_name(b, e->customer);
    return SG_OK;
}
