/* The book's fold, record by record: what follows is taken, what does not is said, and a full book is whole. Beside it
 * test_plan.c holds it against the plan. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/billing/book.h"

#define HOUR INT64_C(1763884800000)

static struct book book;

static void forget(void)
{
    book_destroy(&book);
}

TestSuite(book, .fini = forget);

static struct ledger_record intent(const char *team, const char *customer, uint64_t revision)
{
    struct ledger_record r = {.kind = LEDGER_INTENT,
                              .meter = FIELD_VCPU_MS,
                              .hour = {HOUR},
                              .revision = revision,
                              .total = {10 * revision},
                              .value = {10 * revision}};
    (void)snprintf(r.team.s, sizeof r.team.s, "%s", team);
    (void)snprintf(r.customer.s, sizeof r.customer.s, "%s", customer);
    return r;
}

static struct ledger_record outcome(const char *team, uint64_t revision)
{
    struct ledger_record r = intent(team, "c", revision);
    r.kind = LEDGER_OUTCOME;
    r.result = LEDGER_ACCEPTED;
    return r;
}

static struct ledger_record note(const char *team, uint64_t revision, enum ledger_reason reason)
{
    struct ledger_record r = intent(team, "c", revision);
    r.kind = LEDGER_NOTE;
    r.reason = reason;
    return r;
}

static enum sg_error apply(struct ledger_record r)
{
    struct sg_fault f = {0};
    enum sg_error e = book_apply(&book, &r, book.end, NULL, &f);
    cr_assert_eq(f.code, e, "%s", f.text);
    return e;
}

static const struct book_entry *entry(const char *team)
{
    return book_find(&book, team, FIELD_VCPU_MS, (struct wall_ms){HOUR});
}

Test(book, every_meter_of_an_hour_is_found_again)
{
    enum { METERS = 300 };
    struct ledger_record r = intent("t", "c", 1);
    for (int m = 0; m < METERS; m++) {
        r.meter = (enum field)m;
        cr_assert_eq(apply(r), SG_OK);
    }
    cr_assert_eq(book.entry_count, METERS);
    for (int m = 0; m < METERS; m++) {
        const struct book_entry *e = book_find(&book, "t", (enum field)m, r.hour);
        cr_assert(e && e->meter == m);
    }
    cr_assert_null(book_find(&book, "t", (enum field)METERS, r.hour));
    cr_assert_null(book_find(&book, "u", FIELD_VCPU_MS, r.hour));
}

Test(book, open_revisions_keep_their_order_when_one_closes)
{
    static const char *const teams[] = {"a", "b", "c", "d"};
    static const struct {
        const char *closes, *left;
    } steps[] = {{"b", "acd"}, {"a", "cd"}, {"d", "c"}, {"c", ""}};
    for (size_t i = 0; i < 4; i++) cr_assert_eq(apply(intent(teams[i], "c", 1)), SG_OK);
    for (size_t i = 0; i < 4; i++) {
        const struct book_open *last = NULL;
        size_t n = 0;
        cr_assert_eq(apply(outcome(steps[i].closes, 1)), SG_OK);
        for (const struct book_open *o = book.open_first; o; last = o, o = o->next, n++) {
            cr_assert_eq(book_name(&book, book.entry[o->entry].team)[0], steps[i].left[n]);
            cr_assert_eq(o->before, last);
        }
        cr_assert(n == strlen(steps[i].left) && n == book.open_count && book.open_last == last);
    }
}

/* Each against a book where team `open` has revision 1 open, team `closed` has it closed, and the others have none. */
Test(book, what_does_not_follow_is_a_mismatch_and_changes_nothing)
{
    const struct ledger_record cases[] = {
        intent("open", "c", 2),
        intent("closed", "c", 1),
        intent("closed", "another", 2),
        outcome("open", 2),
        outcome("closed", 1),
        outcome("new", 1),
        note("open", 2, LEDGER_HELD_SUM),
        note("open", 2, LEDGER_HELD_DIGITS),
        note("closed", 2, LEDGER_HELD_SUM),
        note("closed", 1, LEDGER_HELD_MODE),
        note("closed", 3, LEDGER_HELD_DIGITS),
    };
    cr_assert_eq(apply(intent("open", "c", 1)), SG_OK);
    cr_assert_eq(apply(intent("closed", "c", 1)), SG_OK);
    cr_assert_eq(apply(outcome("closed", 1)), SG_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t end = book.end;
        cr_assert_eq(apply(cases[i]), SG_ERR_MISMATCH, "case %zu", i);
        cr_assert_eq(book.end, end, "case %zu", i);
        const struct book_entry *open = entry("open"), *closed = entry("closed");
        cr_assert(book.open_count == 1 && open->open && open->revision == 1 && open->state == BOOK_OPEN, "case %zu", i);
        cr_assert(!closed->open && closed->revision == 1 && closed->total.v == 10, "case %zu", i);
        cr_assert(closed->noted_digits == 0 && closed->noted_mode == 0, "case %zu", i);
    }
}

Test(book, a_note_about_the_next_revision_waits_for_it)
{
    cr_assert_eq(apply(note("t", 1, LEDGER_HELD_DIGITS)), SG_OK);
    cr_assert(entry("t")->noted_digits == 1 && entry("t")->state == BOOK_HELD && book.open_count == 0);
    cr_assert_eq(apply(intent("t", "another", 1)), SG_OK);
    cr_assert_str_eq(book_name(&book, entry("t")->customer), "another"); /* that of the first intent */
    cr_assert_eq(apply(note("t", 1, LEDGER_REFUSED)), SG_OK);
    cr_assert(entry("t")->state == BOOK_REFUSED && entry("t")->open->noted[LEDGER_REFUSED]);
}

/* As full as it may become: the counts alone are set, 2^24 hours are too many for a test. */
Test(book, a_full_book_takes_no_more_and_keeps_what_it_has)
{
    cr_assert_eq(apply(note("t", 1, LEDGER_HELD_DIGITS)), SG_OK);
    struct ledger_record later = intent("t", "another", 1);
    later.hour.v += HOUR_MS;
    size_t entries = book.entry_count, names = book.name_count;
    book.entry_count = BOOK_ENTRIES_MAX;
    cr_assert_eq(apply(later), SG_ERR_LIMIT, "another hour");
    book.entry_count = entries;
    book.name_count = BOOK_ENTRIES_MAX;
    cr_assert_eq(apply(intent("new", "c", 1)), SG_ERR_LIMIT, "another team");
    cr_assert_eq(apply(later), SG_ERR_LIMIT, "another customer, of a new hour");
    cr_assert_eq(apply(intent("t", "another", 1)), SG_ERR_LIMIT, "another customer, of an hour with a note");
    cr_assert_eq(apply(intent("t", "c", 1)), SG_OK, "what it knows goes on");
    book.name_count = names;
    cr_assert(book.entry_count == entries && entry("t")->open && book.open_count == 1);
}

Test(book, a_state_has_the_text_of_the_ledgers_specification)
{
    static const char *const texts[] = {"none", "open", "accepted", "duplicate", "seen", "refused", "held"};
    for (int s = BOOK_EMPTY; s <= BOOK_HELD; s++) cr_assert_str_eq(book_state_text((enum book_state)s), texts[s]);
}
