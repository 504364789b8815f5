/* JSON by printf: every name and text in it is this program's own, so nothing needs escaping. */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIELD_NAME_BYTES = 64, PATH_BYTES = 4096 };

void oracle_field_name(char *name, int field)
{
    static const char *const sums[] = {"vcpu_ms", "mem_mib_ms", "disk_mib_ms", "running_ms"};
    if (field < FIELD_COUNTERS) {
        snprintf(name, FIELD_NAME_BYTES, "%s", sums[field]);
    } else if (field < FIELD_EXECS) {
        snprintf(name, FIELD_NAME_BYTES, "%s", event_counter_names[field - FIELD_COUNTERS]);
    } else if (field == FIELD_EXECS) {
        snprintf(name, FIELD_NAME_BYTES, "execs");
    } else if (field < FIELD_DESTROYS) {
        snprintf(name, FIELD_NAME_BYTES, "creates.%s", event_origin_names[field - FIELD_CREATES]);
    } else if (field < FIELD_EXITS) {
        snprintf(name, FIELD_NAME_BYTES, "destroys.%s", event_reason_names[field - FIELD_DESTROYS]);
    } else if (field < FIELD_API) {
        snprintf(name, FIELD_NAME_BYTES, "exit.%d", field - FIELD_EXITS);
    } else {
        int at = field - FIELD_API;
        snprintf(name, FIELD_NAME_BYTES, "api.%s.%dxx", event_operation_names[at / STATUS_CLASSES],
                 at % STATUS_CLASSES + 1);
    }
}

uint64_t report_written(const struct session *session)
{
    return session->written_before + session->n_head;
}
uint64_t report_acked(const struct session *session)
{
    return session->acked_before + session->n_acked;
}

static uint64_t bad_lines(const struct session *session)
{
    return session->bad_before + session->bad_count;
}

/* Opens a new file beside `path`. */
static FILE *begin(const char *path, char fresh[PATH_BYTES])
{
    int bytes = snprintf(fresh, PATH_BYTES, "%s.new", path);
    FILE *file = bytes > 0 && bytes < PATH_BYTES ? fopen(fresh, "we") : NULL;
    if (file == NULL) perror("sandglass-fleet: cannot write a report");
    return file;
}

static bool finish(FILE *file, const char *fresh, const char *path)
{
    bool written = ferror(file) == 0;
    written = fclose(file) == 0 && written;
    written = written && rename(fresh, path) == 0;
    if (!written) perror("sandglass-fleet: cannot write a report");
    return written;
}

static void put_fields(FILE *file, const struct oracle_cell *cell)
{
    const char *comma = "";
    putc('{', file);
    for (int field = 0; field < FIELDS; field++) {
        if (cell->fields[field] == 0 && field > FIELD_EXECS) continue;
        char name[FIELD_NAME_BYTES];
        oracle_field_name(name, field);
        fprintf(file, "%s\"%s\":%" PRIu64, comma, name, cell->fields[field]);
        comma = ",";
    }
    putc('}', file);
}

static bool is_empty(const struct oracle_cell *cell)
{
    for (int field = 0; field < FIELDS; field++)
        if (cell->fields[field] != 0) return false;
    return true;
}

static void put_group(FILE *file, const struct oracle *oracle, uint64_t group)
{
    uint64_t projects = oracle->options->projects + 1, teams = oracle->options->teams;
    uint64_t project = group % projects, team = group / projects % teams, region = group / projects / teams;
    fprintf(file, "\"team\":\"team-%" PRIu64 "\",\"project\":\"", team + 1);
    if (project == projects - 1)
        putc('-', file);
    else
        fprintf(file, "proj-%" PRIu64, project + 1);
    fprintf(file, "\",\"region\":\"%s\"", oracle->regions[region]);
}

/* The windows of a grid, `fold` of them to one; folded windows begin at multiples of their own width. */
static void put_windows(FILE *file, const struct oracle *oracle, const char *name, const struct oracle_grid *grid,
                        uint64_t fold)
{
    const char *comma = "";
    fprintf(file, ",\n\"%s\":[", name);
    for (uint64_t group = 0; group < oracle_groups(oracle); group++) {
        for (uint64_t at = 0; at < grid->windows;) {
            uint64_t count = fold - (grid->first + at) % fold;
            struct oracle_cell sum = {{0}};
            if (oracle_sum(grid, group, at, count, &sum) && !is_empty(&sum)) {
                fprintf(file, "%s\n{", comma);
                put_group(file, oracle, group);
                fprintf(file,
                        ",\"start\":%" PRIu64 ",\"fields\":", (grid->first + at) / fold * fold * grid->width_ms / 1000);
                put_fields(file, &sum);
                putc('}', file);
                comma = ",";
            }
            at += count;
        }
    }
    fputs("]", file);
}

static void put_run(FILE *file, const struct oracle *oracle, const struct oracle_run *run)
{
    fprintf(file,
            "{\"id\":\"run%016" PRIx64 "\",\"team\":\"team-%u\",\"project\":\"proj-%u\",\"region\":\"%s\",\"vcpus\":%u,"
            "\"mem_mib\":%u,\"adopted\":%s,\"created_ms\":%" PRIu64 ",\"running_ms\":%" PRIu64 ",\"cpu_us\":%" PRIu64,
            run->sandbox, run->team + 1, run->project + 1, oracle->regions[run->region], run->vcpus, run->mem_mib,
            run->adopted ? "true" : "false", run->created_ms, run->running_ms, run->cpu_us);
    if (!run->adopted) fprintf(file, ",\"create_ms\":%u", run->create_ms);
    if (run->last_exit != EXIT_CODES) fprintf(file, ",\"last_exit_code\":%u", run->last_exit);
    if (run->has_mem_peak) fprintf(file, ",\"mem_peak_bytes\":%" PRIu64, run->mem_peak_bytes);
    if (run->reason == REASONS)
        fprintf(file, ",\"destroyed_ms\":null,\"state\":\"%s\"}", run->hibernated ? "hibernated" : "running");
    else
        fprintf(file, ",\"destroyed_ms\":%" PRIu64 ",\"reason\":\"%s\"}", run->destroyed_ms,
                event_reason_names[run->reason]);
}

static void put_runs(FILE *file, const struct oracle *oracle)
{
    fputs(",\n\"runs\":[", file);
    for (uint32_t i = 0; i < oracle->run_count; i++) {
        fputs(i == 0 ? "\n" : ",\n", file);
        put_run(file, oracle, &oracle->runs[i]);
    }
    fputs("]", file);
}

/* Sandboxes alive at the end, by team. */
static void put_alive(FILE *file, const struct oracle *oracle, const char *name, bool running)
{
    const char *comma = "";
    fprintf(file, ",\n\"%s\":{", name);
    for (uint64_t team = 0; team < oracle->options->teams; team++) {
        uint64_t count = 0;
        for (uint32_t s = 0; s < oracle->source_count; s++)
            for (uint32_t i = 0; i < oracle->sources[s].sandbox_count; i++) {
                const struct oracle_sandbox *sandbox = &oracle->sources[s].sandboxes[i];
                count += sandbox->alive && sandbox->team == team && sandbox->running == running;
            }
        if (count == 0) continue;
        fprintf(file, "%s\"team-%" PRIu64 "\":%" PRIu64, comma, team + 1, count);
        comma = ",";
    }
    fputs("}", file);
}

/* The last word on every runner's capacity, and what runs on it. */
static void put_capacity(FILE *file, const struct oracle *oracle)
{
    fputs(",\n\"capacity\":[", file);
    for (uint32_t r = 0; r < oracle->options->runner_count; r++) {
        const struct fleet_runner *runner = &oracle->options->runners[r];
        uint64_t running = 0, vcpus = 0, mem_mib = 0, disk_mib = 0;
        for (uint32_t s = 0; s < oracle->source_count; s++)
            for (uint32_t i = 0; oracle->sources[s].runner == r && i < oracle->sources[s].sandbox_count; i++) {
                const struct oracle_sandbox *sandbox = &oracle->sources[s].sandboxes[i];
                if (!sandbox->alive || !sandbox->running) continue;
                running++;
                vcpus += sandbox->vcpus;
                mem_mib += sandbox->mem_mib;
                disk_mib += sandbox->disk_mib;
            }
        fprintf(file, "%s\n{\"runner\":\"%s\",\"region\":\"%s\"", r == 0 ? "" : ",", runner->name, runner->region);
        for (int i = 0; i < CAPACITIES; i++)
            fprintf(file, ",\"%s\":%" PRIu64, event_capacity_names[i], oracle->capacity[r][i]);
        fprintf(file,
                ",\"sandboxes_running\":%" PRIu64 ",\"vcpus_allocated\":%" PRIu64 ",\"mem_mib_allocated\":%" PRIu64
                ",\"disk_mib_allocated\":%" PRIu64 "}",
                running, vcpus, mem_mib, disk_mib);
    }
    fputs("]", file);
}

static void put_gaps(FILE *file, const struct report *report, bool *exact)
{
    const char *comma = "";
    fputs(",\n\"gaps\":[", file);
    for (uint32_t s = 0; s < report->oracle->source_count; s++)
        for (uint32_t i = 0; i < report->sessions[s].gap_count; i++) {
            const struct session_gap *gap = &report->sessions[s].gaps[i];
            fprintf(file,
                    "%s{\"runner\":\"%s\",\"source\":\"%s\",\"boot_id\":\"%s\",\"from\":%" PRIu64 ",\"to\":%" PRIu64
                    "}",
                    comma, report->sessions[s].runner, report->sessions[s].source, gap->boot_id, gap->from, gap->to);
            *exact = *exact && gap->exact;
            comma = ",";
        }
    fprintf(file, "],\n\"exact\":%s", *exact ? "true" : "false");
}

static void put_errors(FILE *file, const struct session_faults *faults)
{
    fprintf(file, ",\n\"error_count\":%" PRIu64 ",\n\"errors\":[", faults->count);
    for (uint64_t i = 0; i < faults->count && i < SESSION_FAULTS_MAX; i++)
        fprintf(file, "%s\n\"%s\"", i == 0 ? "" : ",", faults->texts[i]);
    fputs("]", file);
}

bool report_expect(const struct report *report, const char *path)
{
    const struct oracle *oracle = report->oracle;
    char fresh[PATH_BYTES];
    FILE *file = begin(path, fresh);
    if (file == NULL) return false;
    uint64_t written = 0, acked = 0, bad = 0, unreported = 0, tolerated = 0, reconnects = 0, resent = 0;
    for (uint32_t i = 0; i < oracle->source_count; i++) {
        const struct session *session = &report->sessions[i];
        written += report_written(session), acked += report_acked(session), bad += bad_lines(session);
        unreported += session->unreported, tolerated += session->tolerated;
        reconnects += session->reconnects, resent += session->resent_bytes;
    }
    struct oracle_cell totals = {{0}};
    for (uint64_t group = 0; group < oracle_groups(oracle); group++)
        oracle_sum(&oracle->hours, group, 0, oracle->hours.windows, &totals);
    bool exact = true;
    fprintf(file,
            "{\"seed\":%" PRIu64 ",\"start_ms\":%" PRIu64 ",\"simulated_ms\":%" PRIu64 ",\"elapsed_ms\":%" PRIu64
            ",\"complete\":%s,\n\"written\":%" PRIu64 ",\"acked\":%" PRIu64 ",\"accepted_events\":%" PRIu64
            ",\"rejected\":%" PRIu64 ",\"refusals_unreported\":%" PRIu64 ",\"refusals_after_gap\":%" PRIu64
            ",\"reconnects\":%" PRIu64 ",\"resent_bytes\":%" PRIu64 ",\"sandboxes\":%" PRIu64 ",\n\"totals\":",
            report->options->seed, report->options->start_ms, report->simulated_ms, report->elapsed_ms,
            report->done ? "true" : "false", written, acked, acked - bad, bad, unreported, tolerated, reconnects,
            resent, oracle->sandboxes_seen);
    put_fields(file, &totals);
    put_errors(file, report->faults);
    put_gaps(file, report, &exact);
    put_alive(file, oracle, "active", true);
    put_alive(file, oracle, "hibernated", false);
    put_capacity(file, oracle);
    put_windows(file, oracle, "days", &oracle->hours, 24);
    put_windows(file, oracle, "hours", &oracle->hours, 1);
    if (report->options->minutes) put_windows(file, oracle, "minutes", &oracle->minutes, 1);
    put_runs(file, oracle);
    fputs("}\n", file);
    return finish(file, fresh, path);
}

bool report_progress(const struct report *report, const char *path)
{
    char fresh[PATH_BYTES];
    FILE *file = begin(path, fresh);
    if (file == NULL) return false;
    uint64_t written = 0, acked = 0, rejected = 0;
    fputs("{\"runners\":[", file);
    for (uint32_t s = 0; s < report->oracle->source_count;) {
        uint32_t runner = report->oracle->sources[s].runner;
        const struct session *first = &report->sessions[s];
        uint64_t runner_written = 0, runner_acked = 0, runner_rejected = 0, reconnects = 0;
        bool connected = true;
        for (; s < report->oracle->source_count && report->oracle->sources[s].runner == runner; s++) {
            const struct session *session = &report->sessions[s];
            runner_written += report_written(session), runner_acked += report_acked(session);
            runner_rejected += session->rejected, reconnects += session->reconnects;
            connected = connected && session->state == SESSION_OPEN;
        }
        fprintf(file,
                "%s{\"name\":\"%s\",\"written\":%" PRIu64 ",\"acked\":%" PRIu64 ",\"rejected\":%" PRIu64
                ",\"reconnects\":%" PRIu64 ",\"connected\":%s}",
                runner == 0 ? "" : ",", first->runner, runner_written, runner_acked, runner_rejected, reconnects,
                connected ? "true" : "false");
        written += runner_written, acked += runner_acked, rejected += runner_rejected;
    }
    fprintf(file,
            "],\"events\":%" PRIu64 ",\"written\":%" PRIu64 ",\"acked\":%" PRIu64 ",\"rejected\":%" PRIu64
            ",\"simulated_ms\":%" PRIu64 ",\"elapsed_ms\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"done\":%s}\n",
            report->options->events, written, acked, rejected, report->simulated_ms, report->elapsed_ms,
            report->faults->count, report->done ? "true" : "false");
    return finish(file, fresh, path);
}
