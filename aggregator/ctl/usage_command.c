/* sandglass usage: a team's rollups, a line per window, straight from the view. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/ctl/ctl.h"
#include "aggregator/ctl/view_open.h"
#include "common/buffer.h"
#include "common/json_out.h"
#include "common/rfc3339.h"

enum { LINE_BYTES_MAX = 64 * 1024 };

struct printer {
    struct buffer line;
    bool json;
};

/* Every field by its name, the zeros too: a script need not ask whether one is there. */
static enum sg_error print_json(struct printer *p, const struct view_rollup *r)
{
    struct json_out j;
    buffer_reset(&p->line);
    json_out_init(&j, &p->line);
    json_out_object_begin(&j, NULL);
    json_out_string(&j, "project", r->project);
    json_out_string(&j, "region", r->region);
    json_out_time(&j, "start", r->start);
    for (int i = 0; i < (int)FIELDS; i++) {
        char name[FIELD_NAME_BYTES_MAX];
        field_name((enum field)i, name);
        json_out_u64(&j, name, sums_get(r->sums, (enum field)i).v);
    }
    json_out_object_end(&j);
    enum sg_error e = json_out_finish(&j);
    if (!e && puts(p->line.data) == EOF) e = SG_ERR_IO;
    return e;
}

static enum sg_error print_window(void *arg, const struct view_rollup *r)
{
    struct printer *p = arg;
    char start[RFC3339_BYTES];
    if (p->json) return print_json(p, r);
    rfc3339_format(r->start, start);
    printf("%-24s  %-20s  %-8s  %16" PRIu64 "  %20" PRIu64 "  %14" PRIu64 "\n", start, r->project, r->region,
           sums_get(r->sums, FIELD_VCPU_MS).v, sums_get(r->sums, FIELD_MEM_MIB_MS).v, sums_get(r->sums, FIELD_EXECS).v);
    return SG_OK;
}

int ctl_usage(const struct ctl_call *c)
{
    struct printer p = {.json = c->option[OPTION_JSON] != NULL};
    struct view v = {0};
    struct id team;
    struct wall_ms from, to;
    enum window_kind step;
    struct sg_fault f = {0};
    if (!ctl_take_id("TEAM", c->arg[0], &team)) return CTL_USAGE;
    if (!ctl_take_time(c, OPTION_FROM, (struct wall_ms){0}, &from) ||
        !ctl_take_time(c, OPTION_TO, (struct wall_ms){WALL_MS_MAX}, &to))
        return CTL_USAGE;
    if (!ctl_take_step(c, WINDOW_HOUR, &step)) return CTL_USAGE;
    buffer_init(&p.line, LINE_BYTES_MAX);
    enum sg_error e = view_open(c->config, &v, &f);
    if (!e && !p.json)
        printf("%-24s  %-20s  %-8s  %16s  %20s  %14s\n", "start", "project", "region", "vcpu_ms", "mem_mib_ms",
               "execs");
    if (!e) e = view_rollups(&v, team.s, step, from, to, print_window, &p, &f);
    view_close(&v);
    buffer_destroy(&p.line);
    return e ? ctl_fail(&f) : CTL_DONE;
}
