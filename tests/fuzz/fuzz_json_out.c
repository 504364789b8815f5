/* Any bytes as a string and as a key, any number: what is written is JSON for another reader, number included. */
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_out.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_all(struct json_out *j, const char *text, size_t length, int64_t number)
{
    char *key = strndup(text, length);
    assert(key);
    json_out_array_begin(j, NULL);
    json_out_bytes(j, NULL, text, length);
    json_out_object_begin(j, NULL);
    json_out_i64(j, key, number);
    json_out_object_end(j);
    json_out_micro(j, NULL, number);
    json_out_milli(j, NULL, number);
    json_out_i64(j, NULL, number);
    json_out_array_end(j);
    free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer out;
    struct json_out j;
    int64_t number = 0;
    memcpy(&number, data, size < sizeof number ? size : sizeof number);
    buffer_init(&out, 16 * size + 1024);
    json_out_init(&j, &out);
    write_all(&j, (const char *)data, size, number);
    enum sg_error e = json_out_finish(&j);
    assert(e == SG_OK && strlen(out.data) == out.length);
    json_t *read = json_loadb(out.data, out.length, JSON_ALLOW_NUL, NULL);
    assert(read && json_array_size(read) == 5 && json_integer_value(json_array_get(read, 4)) == number);
    json_decref(read);
    buffer_destroy(&out);
    return 0;
}
