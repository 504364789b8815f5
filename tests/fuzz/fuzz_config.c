/* Any bytes as a configuration file: it is taken or refused, and then nothing is left and the sentence holds no value.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct thing {
    char *text, *path, *secret;
    int64_t number;
    uint64_t bytes, duration_ms;
    bool flag;
    int word;
    struct config_list list;
    struct config_listen listen;
};

static const char *const words[] = {"error", "info", NULL};
static const struct config_key keys[] = {
    CONFIG_STRING(struct thing, text, "text", "", "text"),
    CONFIG_PATH(struct thing, path, "path", "", "a path"),
    CONFIG_SECRET(struct thing, secret, "secret", "", "a secret"),
    CONFIG_INT(struct thing, number, "number", "6", 1, 1024, "a number"),
    CONFIG_BYTES(struct thing, bytes, "bytes", "1M", 1, UINT64_MAX, "bytes"),
    CONFIG_DURATION(struct thing, duration_ms, "duration", "1s", 0, UINT64_MAX, "a duration"),
    CONFIG_BOOL(struct thing, flag, "flag", "no", "a flag"),
    CONFIG_WORD(struct thing, word, "word", "info", words, "a word"),
    CONFIG_LIST(struct thing, list, "list", "a list"),
    CONFIG_LISTEN(struct thing, listen, "listen", "[::1]:0", "an address"),
};
static const struct config_table table = {.program = "fuzz",
                                          .summary = "a program of tests",
                                          .keys = keys,
                                          .count = sizeof keys / sizeof keys[0],
                                          .struct_bytes = sizeof(struct thing)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct thing zeroed;
    struct thing thing;
    struct sg_fault fault = {0};
    static const char file[] = "/x/y.conf";
    char *text = malloc(size + 1);
    assert(text);
    memcpy(text, data, size);
    enum sg_error e = config_parse(file, text, size, &table, &thing, &fault);
    if (e) {
        assert(fault.code == e && strncmp(fault.text, file, strlen(file)) == 0);
        assert(!strstr(fault.text, "canary"));
    } else {
        assert(thing.text && thing.path && thing.secret && thing.number >= 1 && thing.number <= 1024);
        config_destroy(&table, &thing);
    }
    assert(memcmp(&thing, &zeroed, sizeof thing) == 0);
    free(text);
    return 0;
}
