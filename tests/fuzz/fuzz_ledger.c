/* Ledger records and the fold of them. A record that is taken is the one that encoding would write; the fold takes a
 * history or stops at what does not fit. Each line is a record. */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "aggregator/billing/book.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_canonical(const struct ledger_record *r, const char *text, size_t size)
{
    static char again[LEDGER_BYTES_MAX];
    size_t length;
    struct ledger_record with = *r;
    json_t *j = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    assert(j && !r->positions);
    with.positions = json_string_value(json_object_get(j, "positions"));
    enum sg_error e = ledger_encode(&with, again, sizeof again, &length);
    assert(e == SG_OK && length == size && memcmp(again, text, size) == 0);
    json_decref(j);
}

/* False: the shard would stop. */
static bool take(struct book *book, uint64_t offset, const char *text, size_t size)
{
    struct ledger_record r;
    struct sg_fault f = {0};
    enum sg_error e = ledger_is_billing(text, size) ? ledger_decode(text, size, &r, &f) : SG_ERR_VERSION;
    if (e == SG_OK) {
        expect_canonical(&r, text, size);
        e = book_apply(book, &r, offset, NULL, &f);
    }
    assert(!strstr(f.text, "canary"));
    if (e == SG_OK) assert(book->end == offset + 1 && book_find(book, r.team.s, r.meter, r.hour));
    return e == SG_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct book book = {0};
    uint64_t offset = 5;
    for (const uint8_t *end = data + size; data < end; offset++) {
        const uint8_t *newline = memchr(data, '\n', (size_t)(end - data)), *stop = newline ? newline : end;
        if (!take(&book, offset, (const char *)data, (size_t)(stop - data))) break;
        data = stop + 1;
    }
    book_destroy(&book);
    return 0;
}
