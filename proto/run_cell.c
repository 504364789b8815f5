/* One table of name, presence and value writes and reads the text: what is encoded is exactly what is decoded. */
#include "proto/run_cell.h"

#include <assert.h>
#include <string.h>

#include "proto/text.h"

static const char *const state_texts[] = {"running", "hibernated", "ended"};

static char *put_name(char *out, const char *name)
{
    return text_put_str(text_put_str(text_put_str(out, " "), name), "=");
}

static char *put_text(char *out, const char *name, const char *value)
{
    return text_put_str(put_name(out, name), value);
}

static char *put_number(char *out, const char *name, uint64_t value)
{
    return text_put_u64(put_name(out, name), value);
}

static char *put_if(char *out, const char *name, uint64_t value)
{
    return value ? put_number(out, name, value) : out;
}

size_t run_cell_encode(uint64_t offset, const struct run *r, char out[static RUN_CELL_BYTES_MAX])
{
    char *end = text_put_u64(text_put(out, "@", 1), offset);
    end = put_text(end, "team", r->team.s);
    end = put_text(end, "project", r->project.s);
    end = put_text(end, "region", r->region.s);
    end = put_text(end, "runner", r->runner.s);
    end = put_number(end, "vcpus", r->vcpus);
    end = put_number(end, "mem_mib", r->mem_mib);
    end = put_number(end, "disk_mib", r->disk_mib);
    assert((unsigned)r->state <= RUN_ENDED);
    end = put_text(end, "state", state_texts[r->state]);
    if (r->has_origin) end = put_text(end, "origin", origin_text(r->origin));
    if (r->has_create_ms) end = put_number(end, "create_ms", r->create_ms);
    end = put_if(end, "created", (uint64_t)r->created.v);
    end = put_if(end, "started", (uint64_t)r->started.v);
    end = put_if(end, "ended", (uint64_t)r->ended.v);
    if (r->has_reason) end = put_text(end, "reason", reason_text(r->reason));
    end = put_if(end, "seen", (uint64_t)r->seen.v);
    end = put_if(end, "mem_peak", r->mem_peak_bytes);
    if (r->has_exit) end = put_number(put_number(end, "exit", r->exit_code), "exit_at", (uint64_t)r->exit_at.v);
    end = put_if(end, "running_ms", r->running_ms.v);
    end = put_if(end, "cpu_us", r->cpu_us.v);
    end = put_if(end, "net_rx_bytes", r->net_rx_bytes.v);
    end = put_if(end, "net_tx_bytes", r->net_tx_bytes.v);
    end = put_if(end, "io_read_bytes", r->io_read_bytes.v);
    end = put_if(end, "io_write_bytes", r->io_write_bytes.v);
    end = put_if(end, "execs", r->execs.v);
    assert(end - out <= RUN_CELL_BYTES_MAX);
    return (size_t)(end - out);
}

/* True when ` name=` is next; then it is taken. */
static bool take_name(struct text *t, const char *name)
{
    size_t length = strlen(name);
    if (t->bad || (size_t)(t->end - t->p) < length + 2 || t->p[0] != ' ') return false;
    if (memcmp(t->p + 1, name, length) != 0 || t->p[1 + length] != '=') return false;
    t->p += length + 2;
    return true;
}

static void take_id(struct text *t, const char *name, struct id *out, bool none_allowed)
{
    size_t length;
    if (!take_name(t, name)) t->bad = true;
    const char *s = text_until(t, ' ', &length);
    if (t->bad || !(none_allowed ? id_valid_or_none(s, length) : id_valid(s, length))) {
        t->bad = true;
        return;
    }
    memcpy(out->s, s, length);
    out->s[length] = '\0';
}

static uint32_t take_u32(struct text *t, const char *name, uint32_t max)
{
    if (!take_name(t, name)) t->bad = true;
    uint64_t v = text_u64(t);
    if (v > max) t->bad = true;
    return t->bad ? 0 : (uint32_t)v;
}

/* An optional number that is never written as 0. */
static uint64_t take_if(struct text *t, const char *name)
{
    if (!take_name(t, name)) return 0;
    uint64_t v = text_u64(t);
    if (v == 0) t->bad = true;
    return v;
}

static struct wall_ms take_wall_if(struct text *t, const char *name)
{
    uint64_t v = take_if(t, name);
    if (v > (uint64_t)WALL_MS_MAX) t->bad = true;
    return (struct wall_ms){t->bad ? 0 : (int64_t)v};
}

static void take_state(struct text *t, struct run *r)
{
    size_t length;
    if (!take_name(t, "state")) t->bad = true;
    const char *s = text_until(t, ' ', &length);
    for (unsigned i = 0; !t->bad && i <= RUN_ENDED; i++) {
        if (strlen(state_texts[i]) == length && memcmp(state_texts[i], s, length) == 0) {
            r->state = (enum run_state)i;
            return;
        }
    }
    t->bad = true;
}

static void take_life(struct text *t, struct run *r)
{
    size_t length;
    if ((r->has_origin = take_name(t, "origin"))) {
        const char *s = text_until(t, ' ', &length);
        if (t->bad || !origin_parse(s, length, &r->origin)) t->bad = true;
    }
    if ((r->has_create_ms = take_name(t, "create_ms"))) {
        uint64_t v = text_u64(t);
        if (v > DAY_MS) t->bad = true;
        r->create_ms = t->bad ? 0 : (uint32_t)v;
    }
    r->created = take_wall_if(t, "created");
    r->started = take_wall_if(t, "started");
    r->ended = take_wall_if(t, "ended");
    if ((r->has_reason = take_name(t, "reason"))) {
        const char *s = text_until(t, ' ', &length);
        if (t->bad || !reason_parse(s, length, &r->reason)) t->bad = true;
    }
    r->seen = take_wall_if(t, "seen");
    r->mem_peak_bytes = take_if(t, "mem_peak");
    if ((r->has_exit = take_name(t, "exit"))) {
        uint64_t code = text_u64(t);
        if (code >= EXIT_CODES || !take_name(t, "exit_at")) t->bad = true;
        r->exit_code = t->bad ? 0 : (uint32_t)code;
        uint64_t at = text_u64(t);
        if (at > (uint64_t)WALL_MS_MAX) t->bad = true;
        r->exit_at.v = t->bad ? 0 : (int64_t)at;
    }
}

enum sg_error run_cell_decode(const char *text, size_t length, uint64_t *offset, struct run *r)
{
    struct text t = text_over(text, length);
    *r = (struct run){0};
    text_expect(&t, '@');
    *offset = text_u64(&t);
    take_id(&t, "team", &r->team, false);
    take_id(&t, "project", &r->project, true);
    take_id(&t, "region", &r->region, false);
    take_id(&t, "runner", &r->runner, false);
    r->vcpus = take_u32(&t, "vcpus", VCPUS_MAX);
    r->mem_mib = take_u32(&t, "mem_mib", MEM_MIB_MAX);
    r->disk_mib = take_u32(&t, "disk_mib", DISK_MIB_MAX);
    take_state(&t, r);
    take_life(&t, r);
    r->running_ms.v = take_if(&t, "running_ms");
    r->cpu_us.v = take_if(&t, "cpu_us");
    r->net_rx_bytes.v = take_if(&t, "net_rx_bytes");
    r->net_tx_bytes.v = take_if(&t, "net_tx_bytes");
    r->io_read_bytes.v = take_if(&t, "io_read_bytes");
    r->io_write_bytes.v = take_if(&t, "io_write_bytes");
    r->execs.v = take_if(&t, "execs");
    return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
}
