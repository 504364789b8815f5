/* The meter's state: bytes to a meter or a refusal. A snapshot that is taken is saved as the same bytes, up to the
 * order of its sandboxes; what a delta made of it can be saved, and loads to the same. */
#include <assert.h>
#include <string.h>

#include "collector/meter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct meter *fresh(void)
{
    struct meter_config config = {.runner = "r1", .region = "eu", .clock = METER_CLOCK_EVENT, .sandboxes_max = 1000};
    struct meter *m = meter_new(&config);
    assert(m);
    return m;
}

/* The same bytes, in whatever order. */
static void expect_same_bytes(const uint8_t *a, size_t a_bytes, const struct buffer *b)
{
    int surplus[256] = {0};
    assert(a_bytes == b->length);
    for (size_t i = 0; i < a_bytes; i++) {
        surplus[a[i]]++;
        surplus[(uint8_t)b->data[i]]--;
    }
    for (size_t i = 0; i < 256; i++) assert(surplus[i] == 0);
}

/* The first byte says where a snapshot ends and a delta begins, in sixteens. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    size_t cut = (size_t)data[0] * 16;
    data++;
    size--;
    if (cut > size) cut = size;
    struct meter *m = fresh(), *again = fresh();
    struct buffer first, second;
    buffer_init(&first, METER_SNAPSHOT_BYTES_MAX);
    buffer_init(&second, METER_SNAPSHOT_BYTES_MAX);
    enum sg_error e = meter_load(m, data, cut, NULL);
    if (e == SG_OK && cut > 0) {
        assert(meter_save(m, &first) == SG_OK);
        expect_same_bytes(data, cut, &first);
    }
    if (e == SG_OK && cut < size) e = meter_apply(m, data + cut, size - cut, NULL);
    if (e == SG_OK) {
        assert(meter_save(m, &first) == SG_OK);
        assert(meter_load(again, (const uint8_t *)first.data, first.length, NULL) == SG_OK);
        assert(meter_save(again, &second) == SG_OK);
        expect_same_bytes((const uint8_t *)first.data, first.length, &second);
    }
    buffer_destroy(&first);
    buffer_destroy(&second);
    meter_free(m);
    meter_free(again);
    return 0;
}
