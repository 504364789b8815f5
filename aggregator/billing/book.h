/* The book: the ledger of one shard, folded. What is accounted for and what is unresolved, per (team, meter, hour).
 * Pure.
 *
 * The fold is proto/ledger.md's: an intent opens revision n + 1, its outcome closes it, a note is for people. Anything
 * else means that the ledger lost or gained records that this exporter did not see: the fold fails with MISMATCH and
 * the shard stops, because the next identifier could then be one that Stripe already knows for another value.
 *
 * Beside the fold an open revision carries what only this process knows of its attempts; a new process starts them at
 * zero, which is safe because every copy is the same. Bounded by BOOK_ENTRIES_MAX. Not thread-safe. */
#ifndef BILLING_BOOK_H
#define BILLING_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/ledger.h"

enum { BOOK_ENTRIES_MAX = 1 << 24, BOOK_NONE = UINT32_MAX };

enum book_state { BOOK_EMPTY, BOOK_OPEN, BOOK_ACCEPTED, BOOK_DUPLICATE, BOOK_SEEN, BOOK_REFUSED, BOOK_HELD };
/* What Stripe's summary showed of an open revision when it was read last. */
enum book_sight { BOOK_NOT_READ, BOOK_SHOWS_NEW, BOOK_SHOWS_OLD, BOOK_SHOWS_NEITHER, BOOK_UNREADABLE };
/* Static text as in proto/ledger.md; of EMPTY "none". */
const char *book_state_text(enum book_state s);

/* A revision whose intent is in the ledger and whose outcome is not. */
struct book_open {
    uint32_t entry;                  /* index */
    struct book_open *next, *before; /* all open revisions of the book, oldest intent first */
    uint64_t revision;
    enum bill_mode mode;
    struct amount total, value;
    struct wall_ms at;
    char identifier[LEDGER_IDENTIFIER_BYTES];
    char body[LEDGER_BODY_BYTES];
    bool noted[LEDGER_REASONS]; /* in the ledger already */
    /* this process */
    bool fresh; /* its intent was committed by this process: nobody can have sent a copy before */
    bool in_flight;
    uint32_t attempts;         /* begun by this process */
    uint32_t generation;       /* of the Idempotency-Key */
    struct boot_ms not_before; /* of the next attempt, or read */
    uint32_t reads;            /* of its summary, begun by this process */
    struct boot_ms read_at;    /* not before, of the next read */
    enum book_sight sight;
};

/* One (team, meter, hour). */
struct book_entry {
    uint32_t team, customer; /* names; customer is that of the first intent */
    uint16_t meter;
    uint8_t state, mode; /* enum book_state, enum bill_mode (of revision >= 1) */
    struct wall_ms hour;
    uint64_t revision;     /* the newest, 0: none */
    struct amount total;   /* accounted for: the total of the newest closed revision */
    uint64_t noted_digits; /* revision for which held_digits is in the ledger, 0: none */
    uint64_t noted_mode;   /* likewise held_mode */
    uint64_t offset;       /* one past the newest record */
    struct book_open *open;
};

/* Zeroed is empty. */
struct book {
    struct book_entry *entry;
    size_t entry_count, entry_capacity;
    uint32_t *slot; /* hash table of index + 1 */
    size_t slots;
    struct id *name; /* of teams and customers */
    size_t name_count, name_capacity;
    uint32_t *name_slot;
    size_t name_slots;
    struct book_open *open_first, *open_last;
    size_t open_count;
    uint64_t end; /* one past the newest record folded */
};

/* What a record changed: the row of its revision as it now is. Names live in the book. */
struct book_change {
    const struct book_entry *entry;
    const char *team, *customer;
    bool has_row; /* a note about a total without an intent has none */
    uint64_t revision;
    enum bill_mode mode;
    struct amount total, value;
    enum book_state state;
    struct wall_ms at;
    char identifier[LEDGER_IDENTIFIER_BYTES];
};

/* Frees what b owns and zeroes it. */
void book_destroy(struct book *b);
/* Folds a record that stands at offset; one below b->end is skipped (*change is zeroed then). change may be NULL.
 * MISMATCH, LIMIT, NOMEM: the book must be given up. */
SG_MUST_USE enum sg_error book_apply(struct book *b, const struct ledger_record *r, uint64_t offset,
                                     struct book_change *change, struct sg_fault *f);
/* The entry, or NULL. Valid until the next apply. */
struct book_entry *book_find(const struct book *b, const char *team, enum field meter, struct wall_ms hour);
/* That revision of the entry while it is open, else NULL: another one may be open by now. */
struct book_open *book_find_open(const struct book *b, const char *team, enum field meter, struct wall_ms hour,
                                 uint64_t revision);
/* Text of a name. Valid until the next apply. */
const char *book_name(const struct book *b, uint32_t name);

#endif
