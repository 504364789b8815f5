/* Control records and the fold of them. A record that is taken is the one that encoding would write, a refused one
 * changes nothing, and what was folded is found.
 *
 * Each line is a record; a line that does not begin with a brace is one without its head (`v`, `seq`, `prev`), which is
 * put before it as the chain wants it: so that the second record can be right too. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/store/control_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD_BYTES_MAX = 128 };

static size_t put_head(const struct control_chain *chain, char *out)
{
    int n = snprintf(out, HEAD_BYTES_MAX, "{\"v\":1,\"seq\":%" PRIu64 ",\"prev\":\"", chain->seq + 1);
    char *end = out + n;
    for (size_t i = 0; i < CONTROL_HASH_BYTES; i++) {
        *end++ = "0123456789abcdef"[chain->hash[i] >> 4];
        *end++ = "0123456789abcdef"[chain->hash[i] & 15];
    }
    memcpy(end, "\",", 2);
    return (size_t)(end + 2 - out);
}

static void expect_canonical(struct control_chain before, const char *text, size_t length, struct control_fact *fact)
{
    char again[CONTROL_BYTES_MAX];
    size_t n;
    struct control_chain reader = before, writer = before;
    enum sg_error e = control_decode(&reader, text, length, fact, NULL);
    assert(e == SG_OK && control_encode(&writer, fact, again, &n) == SG_OK);
    assert(n == length && memcmp(again, text, n) == 0 && memcmp(&reader, &writer, sizeof reader) == 0);
}

static void expect_found(const struct control_view *v, const struct control_fact *fact)
{
    if (fact->kind == CONTROL_KEY_CREATED) assert(control_view_key(v, fact->key_hex));
    if (fact->kind == CONTROL_KEY_REVOKED) {
        const struct control_key *k = control_view_key(v, fact->key_hex);
        assert(!k || k->revoked);
    }
    if (fact->kind == CONTROL_ACCOUNT_SET) assert(control_view_customer(v, fact->customer.s));
}

static void fold(struct control_view *v, const char *text, size_t length)
{
    struct control_chain before = v->chain;
    struct control_fact fact;
    struct sg_fault f = {0};
    bool was_broken = v->broken;
    enum sg_error e = control_view_fold(v, text, length, &f);
    if (e == SG_OK) {
        assert(!was_broken && v->chain.seq == before.seq + 1);
        expect_canonical(before, text, length, &fact);
        expect_found(v, &fact);
    } else {
        assert(v->broken && memcmp(&v->chain, &before, sizeof before) == 0 && !strstr(f.text, "canary"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char record[HEAD_BYTES_MAX + 2 * CONTROL_BYTES_MAX];
    struct control_view v = {0};
    for (const uint8_t *end = data + size; data < end;) {
        const uint8_t *newline = memchr(data, '\n', (size_t)(end - data)), *stop = newline ? newline : end;
        size_t length = (size_t)(stop - data), head = *data == '{' ? 0 : put_head(&v.chain, record);
        if (length > 2 * CONTROL_BYTES_MAX) length = 2 * CONTROL_BYTES_MAX;
        memcpy(record + head, data, length);
        fold(&v, record, head + length);
        data = stop + 1;
    }
    control_view_destroy(&v);
    return 0;
}
