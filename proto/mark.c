#include "proto/mark.h"

#include <assert.h>
#include <string.h>

#include "proto/text.h"

static const char *const gap_words[] = {"seq", "source", "quarantined"};

static char *put_number(char *out, const char *name, uint64_t v)
{
    return text_put_u64(text_put_str(out, name), v);
}

static char *put_word(char *out, const char *name, const char *v)
{
    return text_put_str(text_put_str(out, name), v);
}

static char *put_hex(char *out, const uint8_t *bytes)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return out;
}

/* Takes `name`, spaces and sign included. */
static void take_name(struct text *t, const char *name)
{
    for (; *name && !t->bad; name++) text_expect(t, *name);
}

static uint64_t take_number(struct text *t, const char *name)
{
    take_name(t, name);
    return text_u64(t);
}

static struct wall_ms take_wall(struct text *t, const char *name)
{
    uint64_t v = take_number(t, name);
    if (v > (uint64_t)WALL_MS_MAX) t->bad = true;
    return (struct wall_ms){t->bad ? 0 : (int64_t)v};
}

static void take_id(struct text *t, const char *name, struct id *out)
{
    size_t length;
    take_name(t, name);
    const char *s = text_until(t, ' ', &length);
    if (t->bad || !id_valid_or_none(s, length)) {
        t->bad = true;
        return;
    }
    memcpy(out->s, s, length);
    out->s[length] = '\0';
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void take_hex(struct text *t, const char *name, uint8_t *out)
{
    size_t length;
    take_name(t, name);
    const char *s = text_until(t, ' ', &length);
    if (length != 2 * SHA256_BYTES) t->bad = true;
    for (size_t i = 0; !t->bad && i < SHA256_BYTES; i++) {
        int high = hex_value(s[2 * i]), low = hex_value(s[2 * i + 1]);
        if (high < 0 || low < 0) t->bad = true;
        out[i] = (uint8_t)(high * 16 + low);
    }
}

size_t mark_encode(const struct mark *m, char out[static MARK_BYTES_MAX])
{
    char *end = put_number(out, "seq=", m->seq);
    end = put_number(end, " ct=", (uint64_t)m->ct.v);
    end = put_number(end, " last=", (uint64_t)m->last.v);
    end = put_word(end, " region=", m->region.s);
    end = put_hex(text_put_str(end, " sha="), m->sha256);
    end = put_number(end, " vcpu_ms=", m->totals.vcpu_ms);
    end = put_number(end, " mem_mib_ms=", m->totals.mem_mib_ms);
    end = put_number(end, " disk_mib_ms=", m->totals.disk_mib_ms);
    end = put_number(end, " running_ms=", m->totals.running_ms);
    end = put_number(end, " events=", m->totals.events);
    end = put_number(end, " refused=", m->totals.refused);
    assert(end - out <= MARK_BYTES_MAX);
    return (size_t)(end - out);
}

enum sg_error mark_decode(const char *text, size_t length, struct mark *m)
{
    struct text t = text_over(text, length);
    *m = (struct mark){0};
    m->seq = take_number(&t, "seq=");
    m->ct = take_wall(&t, " ct=");
    m->last = take_wall(&t, " last=");
    take_id(&t, " region=", &m->region);
    take_hex(&t, " sha=", m->sha256);
    m->totals.vcpu_ms = take_number(&t, " vcpu_ms=");
    m->totals.mem_mib_ms = take_number(&t, " mem_mib_ms=");
    m->totals.disk_mib_ms = take_number(&t, " disk_mib_ms=");
    m->totals.running_ms = take_number(&t, " running_ms=");
    m->totals.events = take_number(&t, " events=");
    m->totals.refused = take_number(&t, " refused=");
    return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
}

size_t mark_field_encode(const char *runner, uint64_t epoch, char out[static MARK_FIELD_BYTES_MAX])
{
    char *end = text_put_u64(text_put_str(put_word(out, "r:", runner), ":"), epoch);
    assert(end - out <= MARK_FIELD_BYTES_MAX);
    return (size_t)(end - out);
}

bool mark_field_decode(const char *text, size_t length, struct id *runner, uint64_t *epoch)
{
    struct text t = text_over(text, length);
    size_t id_length;
    take_name(&t, "r:");
    const char *s = text_until(&t, ':', &id_length);
    if (t.bad || !id_valid(s, id_length)) return false;
    memcpy(runner->s, s, id_length);
    runner->s[id_length] = '\0';
    text_expect(&t, ':');
    *epoch = text_u64(&t);
    return text_done(&t);
}

size_t gap_encode(const struct gap *g, char out[static GAP_BYTES_MAX])
{
    assert((unsigned)g->kind <= GAP_QUARANTINED);
    char *end = put_word(out, "kind=", gap_words[g->kind]);
    end = put_word(end, " runner=", g->runner.s);
    end = put_word(end, " region=", g->region.s);
    end = put_number(end, " from=", (uint64_t)g->from.v);
    end = put_number(end, " to=", (uint64_t)g->to.v);
    end = put_number(end, " first=", g->first);
    end = put_number(end, " last=", g->last);
    assert(end - out <= GAP_BYTES_MAX);
    return (size_t)(end - out);
}

size_t capacity_encode(const struct capacity *c, char out[static CAPACITY_BYTES_MAX])
{
    char *end = put_number(put_word(out, "region=", c->region.s), " at=", (uint64_t)c->at.v);
    end = put_number(end, " vcpus_total=", c->is.vcpus_total);
    end = put_number(end, " mem_mib_total=", c->is.mem_mib_total);
    end = put_number(end, " disk_mib_total=", c->is.disk_mib_total);
    end = put_number(end, " warm=", c->is.warm);
    end = put_number(end, " vcpus_allocated=", c->is.vcpus_allocated);
    end = put_number(end, " mem_mib_allocated=", c->is.mem_mib_allocated);
    end = put_number(end, " disk_mib_allocated=", c->is.disk_mib_allocated);
    end = put_number(end, " sandboxes_running=", c->is.sandboxes_running);
    assert(end - out <= CAPACITY_BYTES_MAX);
    return (size_t)(end - out);
}

enum sg_error capacity_decode(const char *text, size_t length, struct capacity *c)
{
    struct text t = text_over(text, length);
    *c = (struct capacity){0};
    take_id(&t, "region=", &c->region);
    c->at = take_wall(&t, " at=");
    c->is.vcpus_total = take_number(&t, " vcpus_total=");
    c->is.mem_mib_total = take_number(&t, " mem_mib_total=");
    c->is.disk_mib_total = take_number(&t, " disk_mib_total=");
    c->is.warm = take_number(&t, " warm=");
    c->is.vcpus_allocated = take_number(&t, " vcpus_allocated=");
    c->is.mem_mib_allocated = take_number(&t, " mem_mib_allocated=");
    c->is.disk_mib_allocated = take_number(&t, " disk_mib_allocated=");
    c->is.sandboxes_running = take_number(&t, " sandboxes_running=");
    return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
}
