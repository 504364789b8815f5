/* The meter's state: bytes to a meter or a refusal; what was loaded can be saved, and what was saved loads to the same
 * bytes. */
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
    if (meter_load(m, data, cut, NULL) == SG_OK &&
        (cut == size || meter_apply(m, data + cut, size - cut, NULL) == SG_OK)) {
        assert(meter_save(m, &first) == SG_OK);
        assert(meter_load(again, (const uint8_t *)first.data, first.length, NULL) == SG_OK);
        assert(meter_save(again, &second) == SG_OK && second.length == first.length);
    }
    buffer_destroy(&first);
    buffer_destroy(&second);
    meter_free(m);
    meter_free(again);
    return 0;
}
