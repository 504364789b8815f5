/* Control records and the price book: the JSON that people and the control topic bring in. */
#include <assert.h>

#include "aggregator/api/price.h"
#include "proto/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_chain chain = {0};
    struct control_fact fact;
    struct price_book book;
    if (control_decode(&chain, (const char *)data, size, &fact, NULL) == SG_OK) assert(chain.seq == 1 && fact.seq == 1);
    if (price_book_parse((const char *)data, size, &book, NULL) == SG_OK)
        assert(book.count > 0 && book.version[0].from.v == 0);
    return 0;
}
