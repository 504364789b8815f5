/* The texts of what supervisors say. They are the half of all that this world does: no printf. Each function returns
 * the new end. */
#include <string.h>

#include "proto/text.h"
#include "tests/sim/collector_world.h"

static const char *const counters[METER_COUNTERS] = {"cpu_us", "net_rx_bytes", "net_tx_bytes", "io_read_bytes",
                                                     "io_write_bytes"};

static char *put_number(char *out, const char *before, uint64_t v)
{
    return text_put_u64(text_put_str(out, before), v);
}

static char *put_word(char *out, const char *before, const char *word)
{
    return text_put_str(text_put_str(text_put_str(out, before), word), "\"");
}

static char *put_sandbox(const struct collector_source *c, const struct collector_line *l, char *out)
{
    out = put_number(out, ",\"sandbox\":\"x", c->runner->index);
    out = put_number(out, "-", l->owner);
    out = put_number(out, "-", l->box);
    return text_put_str(out, "\"");
}

static char *put_counters(const struct collector_line *l, char *out)
{
    for (unsigned k = 0; k < METER_COUNTERS; k++)
        if (l->present >> k & 1) out = put_number(put_word(out, ",\"", counters[k]), ":", l->counter[k]);
    return out;
}

static char *put_names(const struct collector_line *l, char *out)
{
    out = text_put_str(put_number(out, ",\"team\":\"t", l->team), "\"");
    if (l->project == COLLECTOR_PROJECTS) return out;
    return text_put_str(put_number(out, ",\"project\":\"p", l->project), "\"");
}

static char *put_allocation(const struct collector_line *l, char *out)
{
    out = put_number(out, ",\"vcpus\":", l->vcpus);
    out = put_number(out, ",\"mem_mib\":", l->mem_mib);
    return put_number(out, ",\"disk_mib\":", l->disk_mib);
}

static char *put_fields(const struct collector_source *c, const struct collector_line *l, char *out)
{
    switch (l->type) {
    case INGEST_TYPE_CREATED:
        out = put_allocation(l, put_names(l, put_sandbox(c, l, out)));
        out = put_word(out, ",\"origin\":\"", origin_text((enum origin)l->choice));
        return put_number(out, ",\"create_ms\":", l->number);
    case INGEST_TYPE_ADOPTED:
        out = put_allocation(l, put_names(l, put_sandbox(c, l, out)));
        return text_put_str(out, l->choice ? ",\"running\":true" : ",\"running\":false");
    case INGEST_TYPE_USAGE: return put_counters(l, put_sandbox(c, l, out));
    case INGEST_TYPE_DESTROYED:
        out = put_word(put_sandbox(c, l, out), ",\"reason\":\"", reason_text((enum reason)l->choice));
        return put_counters(l, out);
    case INGEST_TYPE_EXEC_EXITED:
        out = put_number(put_sandbox(c, l, out), ",\"exit_code\":", l->choice);
        return put_number(out, ",\"duration_ms\":", l->number);
    case INGEST_TYPE_API_CALLED:
        out = put_word(put_names(l, out), ",\"operation\":\"", operation_text((enum operation)l->choice));
        return put_number(out, ",\"status\":", l->number);
    case INGEST_TYPE_CAPACITY:
        return text_put_str(out, ",\"vcpus_total\":640,\"mem_mib_total\":1000,\"disk_mib_total\":5,\"warm\":1");
    case INGEST_TYPE_TICK: return out;
    default: return put_sandbox(c, l, out); /* hibernated, resumed */
    }
}

static char *put_bad(enum collector_bad bad, char *out)
{
    static const char *const rest[BAD_KINDS] = {
        [BAD_JSON] = ",\"boot_ms\":oops",
        [BAD_FIELD] = ",\"boot_ms\":1,\"colour\":1,\"type\":\"tick\"}",
        [BAD_RANGE] = ",\"boot_ms\":-1,\"type\":\"tick\"}",
        [BAD_NAME] = ",\"boot_ms\":1,\"type\":\"sandbox.resumed\",\"sandbox\":\"a b\"}",
        [BAD_TYPE] = ",\"boot_ms\":1,\"type\":\"sandbox.lost\"}",
        [BAD_TWICE] = ",\"boot_ms\":1,\"boot_ms\":1,\"type\":\"tick\"}",
        [BAD_MISSING] = ",\"type\":\"tick\"}",
        [BAD_WORD] = ",\"boot_ms\":\"1\",\"type\":\"tick\"}",
    };
    if (bad != BAD_TOO_LONG) return text_put_str(out, rest[bad]);
    out = text_put_str(out, ",\"type\":\"");
    memset(out, ' ', INGEST_LINE_BYTES_MAX);
    return text_put_str(out + INGEST_LINE_BYTES_MAX, "\"}");
}

char *collector_put_line(const struct collector_source *c, uint64_t n, char *out)
{
    static const char *const types[INGEST_TYPE_COUNT] = {
#define TEXT(name, text) text,
        INGEST_TYPES(TEXT)
#undef TEXT
    };
    const struct collector_line *l = &c->boot[c->boots - 1].line[n - 1];
    if (l->bad == BAD_JSON_WITHOUT_N) return text_put_str(out, "what is this\n");
    out = put_number(out, "{\"n\":", n);
    if (l->bad) return text_put_str(put_bad(l->bad, out), "\n");
    out = put_number(out, ",\"boot_ms\":", l->boot_ms);
    out = put_word(out, ",\"type\":\"", types[l->type]);
    return text_put_str(put_fields(c, l, out), "}\n");
}

char *collector_put_hello(const struct collector_source *c, const char *version, const char *name, uint64_t boot,
                          int64_t wall, char *out)
{
    out = put_word(put_word(text_put_str(out, version), ",\"type\":\"", "hello"), ",\"source\":\"", name);
    out = put_number(out, ",\"boot_id\":\"b", c->boots - 1);
    out = put_number(put_number(out, "\",\"boot_ms\":", boot), ",\"wall_ms\":", (uint64_t)wall);
    return text_put_str(out, "}\n");
}
