#include "aggregator/billing/meters.h"

#include <jansson.h>
#include <string.h>

#define KEY_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

static const char *member(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));
    return s ? s : "";
}

static bool take_word(const char *s, char *out, size_t size)
{
    size_t n = strlen(s);
    if (n == 0 || n >= size || strspn(s, KEY_CHARACTERS) != n) return false;
    memcpy(out, s, n + 1);
    return true;
}

static enum sg_error take_meter(struct meter_slot *slot, const char *name, const json_t *m, struct sg_fault *f)
{
    const json_t *window = json_object_get(m, "event_time_window");
    const char *formula = member(json_object_get(m, "default_aggregation"), "formula");
    const char *customer_key = member(json_object_get(m, "customer_mapping"), "event_payload_key");
    const char *value_key = member(json_object_get(m, "value_settings"), "event_payload_key");
    if (strcmp(member(m, "status"), "active") != 0) return SG_OK; /* an older one of the same name */
    if (strcmp(formula, "sum") != 0) return sg_fail(f, SG_ERR_CONFIG, "meter %s: its formula is not sum", name);
    if (!take_word(customer_key, slot->meter.customer_key, PLAN_KEY_BYTES) ||
        !take_word(value_key, slot->meter.value_key, PLAN_KEY_BYTES))
        return sg_fail(f, SG_ERR_CONFIG, "meter %s: its payload keys cannot be used", name);
    if (!take_word(member(m, "id"), slot->meter.id, sizeof slot->meter.id))
        return sg_fail(f, SG_ERR_CONFIG, "meter %s: its id cannot be used", name);
    if (!window || json_typeof(window) == JSON_NULL)
        slot->meter.mode = BILL_DELTA;
    else if (strcmp(member(m, "event_time_window"), "hour") == 0)
        slot->meter.mode = BILL_SET;
    else
        return sg_fail(f, SG_ERR_CONFIG, "meter %s: its window is neither the hour nor none", name);
    slot->found = true;
    return SG_OK;
}

enum sg_error meters_take_page(struct meter_slot *slots, size_t count, const char *body, size_t length,
                               char cursor[static METERS_CURSOR_BYTES], struct sg_fault *f)
{
    json_error_t ignored;
    json_t *page = json_loadb(body, length, JSON_REJECT_DUPLICATES, &ignored);
    const json_t *data = json_object_get(page, "data");
    enum sg_error e = json_is_array(data) ? SG_OK : sg_fail(f, SG_ERR_MALFORMED, "the list of meters is malformed");
    size_t items = json_array_size(data);
    cursor[0] = '\0';
    for (size_t i = 0; i < items; i++) {
        const json_t *m = json_array_get(data, i);
        for (size_t k = 0; k < count && e == SG_OK; k++) {
            char name[FIELD_NAME_BYTES_MAX];
            (void)field_name(slots[k].meter.field, name);
            if (strcmp(member(m, "event_name"), name) == 0) e = take_meter(&slots[k], name, m, f);
        }
    }
    if (e == SG_OK && items && json_is_true(json_object_get(page, "has_more")) &&
        !take_word(member(json_array_get(data, items - 1), "id"), cursor, METERS_CURSOR_BYTES))
        e = sg_fail(f, SG_ERR_MALFORMED, "the list of meters is malformed");
    json_decref(page);
    return e;
}
