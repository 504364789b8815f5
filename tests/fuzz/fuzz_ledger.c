/* Ledger records and the fold of them; Stripe's answers and its list of meters. */
#include <assert.h>
#include <string.h>

#include "aggregator/billing/answer.h"
#include "aggregator/billing/meters.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ledger(const char *text, size_t size)
{
    char again[LEDGER_BYTES_MAX];
    size_t length;
    struct ledger_record r, back;
    struct book book = {0};
    if (ledger_decode(text, size, &r, NULL) != SG_OK) return;
    assert(ledger_encode(&r, again, sizeof again, &length) == SG_OK);
    assert(ledger_decode(again, length, &back, NULL) == SG_OK && memcmp(&r, &back, sizeof r) == 0);
    if (book_apply(&book, &r, 5, NULL, NULL) == SG_OK) assert(book.end == 6 && book.entry_count == 1);
    book_destroy(&book);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char cursor[METERS_CURSOR_BYTES];
    enum ledger_reason reason;
    struct meter_slot slot = {.meter = {.field = FIELD_VCPU_MS}};
    ledger(text, size);
    (void)ledger_is_billing(text, size);
    if (meters_take_page(&slot, 1, text, size, cursor, NULL) == SG_OK && slot.found)
        assert(slot.meter.customer_key[0] && slot.meter.value_key[0]);
    for (uint32_t status = 200; status < 600; status += 100) {
        struct answer_input in = {
            .complete = true, .status = status, .body = text, .body_length = size, .identifier = "sg1-x"};
        enum answer a = answer_classify(&in, &reason);
        if (status != 200) assert(a != ANSWER_ACCEPTED);
        if (status != 400) assert(a != ANSWER_DUPLICATE);
    }
    return 0;
}
