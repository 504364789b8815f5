#include "aggregator/ctl/batch_json.h"

#include "common/buffer.h"
#include "common/json_out.h"

enum { LINE_BYTES_MAX = 4096 };

/* One line being written; `row` begins it, `end` writes it. */
struct writer {
    const struct batch *b;
    struct buffer line;
    struct json_out j;
    FILE *out;
    enum sg_error error;
};

static void row_begin(struct writer *w, const char *kind)
{
    buffer_reset(&w->line);
    json_out_init(&w->j, &w->line);
    json_out_object_begin(&w->j, NULL);
    json_out_string(&w->j, "kind", kind);
}

static void row_end(struct writer *w)
{
    json_out_object_end(&w->j);
    enum sg_error e = json_out_finish(&w->j);
    if (!w->error) w->error = e;
    if (!w->error && (fwrite(w->line.data, 1, w->line.length, w->out) != w->line.length || putc('\n', w->out) == EOF))
        w->error = SG_ERR_IO;
}

static void put_sandbox(struct writer *w, uint32_t index)
{
    const struct batch_sandboxes *s = &w->b->sandboxes;
    json_out_string(&w->j, "sandbox", s->id[index]);
    json_out_string(&w->j, "team", w->b->teams[column_u32(s->team, index)]);
    json_out_string(&w->j, "project", w->b->projects[column_u32(s->project, index)]);
}

static void put_time(struct writer *w, const char *name, int64_t relative)
{
    json_out_time(&w->j, name, (struct wall_ms){w->b->base_ms + relative});
}

static void write_head(struct writer *w, const struct batch_place *place)
{
    const struct batch *b = w->b;
    row_begin(w, "batch");
    if (place->partition >= 0) {
        json_out_i64(&w->j, "partition", place->partition);
        json_out_u64(&w->j, "offset", place->offset);
    }
    json_out_string(&w->j, "runner", b->runner);
    json_out_string(&w->j, "region", b->region);
    json_out_u64(&w->j, "epoch", b->epoch);
    json_out_u64(&w->j, "seq", b->seq);
    json_out_u64(&w->j, "rows", batch_row_count(b));
    if (b->complete_through_ms)
        json_out_time(&w->j, "complete_through", (struct wall_ms){b->complete_through_ms});
    else
        json_out_null(&w->j, "complete_through");
    json_out_object_begin(&w->j, "totals");
    json_out_u64(&w->j, "vcpu_ms", b->totals.vcpu_ms);
    json_out_u64(&w->j, "mem_mib_ms", b->totals.mem_mib_ms);
    json_out_u64(&w->j, "disk_mib_ms", b->totals.disk_mib_ms);
    json_out_u64(&w->j, "running_ms", b->totals.running_ms);
    json_out_u64(&w->j, "events", b->totals.events);
    json_out_u64(&w->j, "refused", b->totals.refused);
    json_out_object_end(&w->j);
    row_end(w);
}

static void write_slices(struct writer *w)
{
    const struct batch_slices *s = &w->b->slices;
    for (size_t i = 0; i < s->count; i++) {
        uint32_t index = column_u32(s->sandbox, i);
        row_begin(w, "slice");
        put_sandbox(w, index);
        put_time(w, "start", column_i64(s->start_ms, i));
        json_out_u64(&w->j, "length_ms", column_u32(s->length_ms, i));
        json_out_u64(&w->j, "vcpus", column_u32(w->b->sandboxes.vcpus, index));
        json_out_u64(&w->j, "mem_mib", column_u32(w->b->sandboxes.mem_mib, index));
        json_out_u64(&w->j, "disk_mib", column_u32(w->b->sandboxes.disk_mib, index));
        json_out_u64(&w->j, "cpu_us", column_u64(s->cpu_us, i));
        json_out_u64(&w->j, "net_rx_bytes", column_u64(s->net_rx_bytes, i));
        json_out_u64(&w->j, "net_tx_bytes", column_u64(s->net_tx_bytes, i));
        json_out_u64(&w->j, "io_read_bytes", column_u64(s->io_read_bytes, i));
        json_out_u64(&w->j, "io_write_bytes", column_u64(s->io_write_bytes, i));
        if (column_u64(s->mem_bytes, i)) json_out_u64(&w->j, "mem_bytes", column_u64(s->mem_bytes, i));
        row_end(w);
    }
}

static void write_lives(struct writer *w)
{
    const struct batch *b = w->b;
    for (size_t i = 0; i < b->starts.count; i++) {
        uint32_t origin = column_u32(b->starts.origin, i);
        row_begin(w, "start");
        put_sandbox(w, column_u32(b->starts.sandbox, i));
        put_time(w, "at", column_i64(b->starts.at_ms, i));
        json_out_string(&w->j, "origin", origin == START_ADOPTED ? "adopted" : origin_text((enum origin)(origin - 1)));
        json_out_u64(&w->j, "create_ms", column_u32(b->starts.create_ms, i));
        row_end(w);
    }
    for (size_t i = 0; i < b->states.count; i++) {
        row_begin(w, "state");
        put_sandbox(w, column_u32(b->states.sandbox, i));
        put_time(w, "at", column_i64(b->states.at_ms, i));
        json_out_string(&w->j, "state", column_u32(b->states.state, i) == SANDBOX_RUNNING ? "running" : "hibernated");
        row_end(w);
    }
    for (size_t i = 0; i < b->ends.count; i++) {
        row_begin(w, "end");
        put_sandbox(w, column_u32(b->ends.sandbox, i));
        put_time(w, "at", column_i64(b->ends.at_ms, i));
        json_out_string(&w->j, "reason", reason_text((enum reason)column_u32(b->ends.reason, i)));
        if (column_u64(b->ends.mem_peak_bytes, i))
            json_out_u64(&w->j, "mem_peak_bytes", column_u64(b->ends.mem_peak_bytes, i));
        row_end(w);
    }
}

static void write_calls(struct writer *w)
{
    const struct batch *b = w->b;
    for (size_t i = 0; i < b->execs.count; i++) {
        row_begin(w, "exec");
        put_sandbox(w, column_u32(b->execs.sandbox, i));
        put_time(w, "at", column_i64(b->execs.at_ms, i));
        json_out_u64(&w->j, "exit_code", column_u32(b->execs.exit_code, i));
        json_out_u64(&w->j, "duration_ms", column_u64(b->execs.duration_ms, i));
        row_end(w);
    }
    for (size_t i = 0; i < b->api_calls.count; i++) {
        row_begin(w, "api_call");
        json_out_string(&w->j, "team", b->teams[column_u32(b->api_calls.team, i)]);
        json_out_string(&w->j, "project", b->projects[column_u32(b->api_calls.project, i)]);
        put_time(w, "at", column_i64(b->api_calls.at_ms, i));
        json_out_string(&w->j, "operation", operation_text((enum operation)column_u32(b->api_calls.operation, i)));
        json_out_u64(&w->j, "status", column_u32(b->api_calls.status, i));
        row_end(w);
    }
}

static void write_runner(struct writer *w)
{
    const struct batch_capacities *c = &w->b->capacities;
    const struct batch_gaps *g = &w->b->gaps;
    for (size_t i = 0; i < c->count; i++) {
        row_begin(w, "capacity");
        put_time(w, "at", column_i64(c->at_ms, i));
        json_out_u64(&w->j, "vcpus_total", column_u64(c->vcpus_total, i));
        json_out_u64(&w->j, "vcpus_allocated", column_u64(c->vcpus_allocated, i));
        json_out_u64(&w->j, "mem_mib_total", column_u64(c->mem_mib_total, i));
        json_out_u64(&w->j, "mem_mib_allocated", column_u64(c->mem_mib_allocated, i));
        json_out_u64(&w->j, "disk_mib_total", column_u64(c->disk_mib_total, i));
        json_out_u64(&w->j, "disk_mib_allocated", column_u64(c->disk_mib_allocated, i));
        json_out_u64(&w->j, "warm", column_u64(c->warm, i));
        json_out_u64(&w->j, "sandboxes_running", column_u64(c->sandboxes_running, i));
        row_end(w);
    }
    for (size_t i = 0; i < g->count; i++) {
        row_begin(w, "gap");
        put_time(w, "from", column_i64(g->from_ms, i));
        put_time(w, "to", column_i64(g->to_ms, i));
        json_out_u64(&w->j, "first_n", column_u64(g->first_n, i));
        json_out_u64(&w->j, "last_n", column_u64(g->last_n, i));
        row_end(w);
    }
}

enum sg_error batch_json_write(const struct batch *b, const struct batch_place *place, FILE *out)
{
    struct writer w = {.b = b, .out = out};
    buffer_init(&w.line, LINE_BYTES_MAX);
    write_head(&w, place);
    write_slices(&w);
    write_lives(&w);
    write_calls(&w);
    write_runner(&w);
    buffer_destroy(&w.line);
    return w.error;
}
