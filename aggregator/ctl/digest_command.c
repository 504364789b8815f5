/* sandglass digest: the windows of the view, each with the digest of its cells. */
#include <inttypes.h>
#include <stdio.h>

#include "aggregator/ctl/ctl.h"
#include "aggregator/ctl/view_digest.h"
#include "aggregator/ctl/view_open.h"
#include "common/buffer.h"
#include "common/json_out.h"
#include "common/rfc3339.h"

enum { LINE_BYTES_MAX = 1024 };

static void print_json(const struct window_digest *w, const char *hex, bool closed)
{
    struct buffer line;
    struct json_out j;
    buffer_init(&line, LINE_BYTES_MAX);
    json_out_init(&j, &line);
    json_out_object_begin(&j, NULL);
    json_out_time(&j, "start", w->start);
    json_out_bool(&j, "closed", closed);
    json_out_u64(&j, "cells", w->cells);
    json_out_string(&j, "sha256", hex);
    json_out_object_end(&j);
    if (json_out_finish(&j) == SG_OK) puts(line.data);
    buffer_destroy(&line);
}

static void print_windows(const struct view_digest *d, enum window_kind step, struct watermark complete, bool json)
{
    if (!json) printf("%-24s  %-6s  %12s  %s\n", "start", "closed", "cells", "sha256");
    for (size_t i = 0; i < d->count; i++) {
        const struct window_digest *w = &d->window[i];
        bool closed = watermark_passed(complete, (struct wall_ms){w->start.v + window_length_ms(step)});
        char start[RFC3339_BYTES], hex[DIGEST_HEX_BYTES];
        window_digest_hex(w, hex);
        rfc3339_format(w->start, start);
        if (json)
            print_json(w, hex, closed);
        else
            printf("%-24s  %-6s  %12" PRIu64 "  %s\n", start, closed ? "yes" : "no", w->cells, hex);
    }
}

int ctl_digest(const struct ctl_call *c)
{
    struct view v = {0};
    struct view_digest d = {0};
    struct watermark complete;
    struct wall_ms from, to;
    enum window_kind step;
    struct sg_fault f = {0};
    if (!ctl_take_step(c, WINDOW_HOUR, &step) || !ctl_take_time(c, OPTION_FROM, (struct wall_ms){0}, &from) ||
        !ctl_take_time(c, OPTION_TO, (struct wall_ms){WALL_MS_MAX}, &to))
        return CTL_USAGE;
    enum sg_error e = view_open(c->config, &v, &f);
    if (!e) e = view_complete_through(&v, &complete, &f); /* before the cells: it never claims more than they hold */
    if (!e) e = view_digest_read(&v, step, from, to, &d, &f);
    if (!e) print_windows(&d, step, complete, c->option[OPTION_JSON] != NULL);
    view_digest_destroy(&d);
    view_close(&v);
    return e ? ctl_fail(&f) : CTL_DONE;
}
