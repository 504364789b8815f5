/* Bad lines: each has one fault, so that one code is right; where the contract leaves the choice (a word that is no
 * member of a list, a fraction) several are. Number and time are good in all but one, so that only the fault is on
 * trial. The canary stands wherever free text can, to be looked for afterwards in all that the pipeline wrote. */
#include "bad.h"
#include "line.h"
#include "reply.h"

#include <string.h>

struct bad {
    const struct world *world;
    struct rng *rng;
    struct line line;
    uint64_t n;
};

/* Head and, where there is one, a sandbox that runs. */
static void head(struct bad *bad, const char *type)
{
    line_head(&bad->line, bad->n, bad->world->t_ms, type);
}

static uint64_t stranger(struct bad *bad)
{
    return rng_mix(bad->n ^ UINT64_C(0xbadbadbad));
}

/* A sandbox in a state; false when there is none. */
static bool known(struct bad *bad, enum slot_state state, uint64_t *sandbox)
{
    const struct slot_list *list = &bad->world->slots.lists[state];
    if (list->count == 0) return false;
    *sandbox = bad->world->slots.slots[list->items[rng_below(bad->rng, list->count)]].sandbox;
    return true;
}

static void birth_but_vcpus(struct bad *bad, uint64_t sandbox)
{
    head(bad, "sandbox.created");
    line_sandbox(&bad->line, sandbox);
    line_text(&bad->line, "team", "team-1");
    line_text(&bad->line, "project", "proj-1");
    line_number(&bad->line, "mem_mib", 1024);
    line_number(&bad->line, "disk_mib", 4096);
    line_text(&bad->line, "origin", "create");
    line_number(&bad->line, "create_ms", 12);
}

static void api_but_status(struct bad *bad, const char *team)
{
    head(bad, "api.called");
    line_text(&bad->line, "team", team);
    line_text(&bad->line, "operation", "other");
}

static bool unknown_field(struct bad *bad)
{
    head(bad, "tick");
    line_text(&bad->line, "image", bad->world->options->canary);
    return true;
}

static bool unknown_name(struct bad *bad)
{
    head(bad, "tick");
    line_number(&bad->line, bad->world->options->canary, 1);
    return true;
}

static bool foreign_field(struct bad *bad)
{
    head(bad, "tick");
    line_sandbox(&bad->line, stranger(bad));
    return true;
}

static bool bad_type(struct bad *bad)
{
    birth_but_vcpus(bad, stranger(bad));
    line_text(&bad->line, "vcpus", bad->world->options->canary);
    return true;
}

static bool vcpus_out_of_range(struct bad *bad)
{
    birth_but_vcpus(bad, stranger(bad));
    line_number(&bad->line, "vcpus", rng_one_in(bad->rng, 2) ? 0 : 1025);
    return true;
}

static bool counter_out_of_range(struct bad *bad)
{
    uint64_t sandbox;
    if (!known(bad, SLOT_RUNNING, &sandbox)) return false;
    head(bad, "sandbox.usage");
    line_sandbox(&bad->line, sandbox);
    line_number(&bad->line, "cpu_us", UINT64_C(1) << 53);
    return true;
}

static bool exit_out_of_range(struct bad *bad)
{
    uint64_t sandbox;
    if (!known(bad, SLOT_RUNNING, &sandbox)) return false;
    head(bad, "exec.exited");
    line_sandbox(&bad->line, sandbox);
    line_number(&bad->line, "exit_code", 256);
    line_number(&bad->line, "duration_ms", 1);
    return true;
}

static bool reserved_identifier(struct bad *bad)
{
    api_but_status(bad, "-");
    line_number(&bad->line, "status", 200);
    return true;
}

static bool bad_identifier(struct bad *bad)
{
    char team[300];
    size_t bytes = strnlen(bad->world->options->canary, sizeof team - 3);
    memcpy(team, bad->world->options->canary, bytes);
    memcpy(team + bytes, " !", 3);
    api_but_status(bad, team);
    line_number(&bad->line, "status", 200);
    return true;
}

static bool duplicate_field(struct bad *bad)
{
    api_but_status(bad, "team-1");
    line_number(&bad->line, "status", 200);
    line_number(&bad->line, "status", 200);
    return true;
}

static bool missing_field(struct bad *bad)
{
    api_but_status(bad, "team-1");
    return true;
}

static bool unknown_type(struct bad *bad)
{
    head(bad, bad->world->options->canary);
    return true;
}

static bool unknown_sandbox(struct bad *bad)
{
    head(bad, "sandbox.usage");
    line_sandbox(&bad->line, stranger(bad));
    line_number(&bad->line, "cpu_us", 5);
    return true;
}

static bool duplicate_sandbox(struct bad *bad)
{
    uint64_t sandbox;
    if (!known(bad, SLOT_RUNNING, &sandbox)) return false;
    birth_but_vcpus(bad, sandbox);
    line_number(&bad->line, "vcpus", 1);
    return true;
}

static bool resume_of_running(struct bad *bad)
{
    uint64_t sandbox;
    if (!known(bad, SLOT_RUNNING, &sandbox)) return false;
    head(bad, "sandbox.resumed");
    line_sandbox(&bad->line, sandbox);
    return true;
}

static bool hibernate_of_hibernated(struct bad *bad)
{
    uint64_t sandbox;
    if (!known(bad, SLOT_HIBERNATED, &sandbox)) return false;
    head(bad, "sandbox.hibernated");
    line_sandbox(&bad->line, sandbox);
    return true;
}

static bool time_went_back(struct bad *bad)
{
    if (bad->world->t_ms <= bad->world->anchor_boot_ms) return false;
    line_head(&bad->line, bad->n, bad->world->t_ms - 1, "tick");
    return true;
}

/* Not JSON: a comma too many, before the bracket that line_close adds. */
static bool malformed(struct bad *bad)
{
    head(bad, "tick");
    *bad->line.at++ = ',';
    return true;
}

static bool trailing_text(struct bad *bad)
{
    head(bad, "tick");
    *bad->line.at++ = '}';
    bad->line.first = true;
    line_text(&bad->line, bad->world->options->canary, "");
    return true;
}

static bool too_long(struct bad *bad)
{
    head(bad, "tick");
    memset(bad->line.at, ' ', 5000);
    bad->line.at += 5000;
    return true;
}

static bool unknown_reason(struct bad *bad)
{
    uint64_t sandbox;
    if (!known(bad, SLOT_RUNNING, &sandbox)) return false;
    head(bad, "sandbox.destroyed");
    line_sandbox(&bad->line, sandbox);
    line_text(&bad->line, "reason", bad->world->options->canary);
    return true;
}

static bool negative_number(struct bad *bad)
{
    birth_but_vcpus(bad, stranger(bad));
    line_number(&bad->line, "vcpus", 0);
    memcpy(bad->line.at - 1, rng_one_in(bad->rng, 2) ? "-1" : ".5", 2);
    bad->line.at++;
    return true;
}

#define BIT(code) (UINT32_C(1) << REPLY_##code)

/* Each maker appends all but the closing bracket, or is not possible now. */
static const struct {
    bool (*make)(struct bad *bad);
    uint32_t codes;
} kinds[] = {
    {unknown_field, BIT(UNKNOWN_FIELD)},
    {unknown_name, BIT(UNKNOWN_FIELD)},
    {foreign_field, BIT(UNKNOWN_FIELD)},
    {bad_type, BIT(BAD_TYPE)},
    {vcpus_out_of_range, BIT(OUT_OF_RANGE)},
    {counter_out_of_range, BIT(OUT_OF_RANGE)},
    {exit_out_of_range, BIT(OUT_OF_RANGE)},
    {reserved_identifier, BIT(BAD_IDENTIFIER)},
    {bad_identifier, BIT(BAD_IDENTIFIER)},
    {duplicate_field, BIT(DUPLICATE_FIELD)},
    {missing_field, BIT(MISSING_FIELD)},
    {unknown_type, BIT(UNKNOWN_TYPE)},
    {unknown_sandbox, BIT(UNKNOWN_SANDBOX)},
    {duplicate_sandbox, BIT(DUPLICATE_SANDBOX)},
    {resume_of_running, BIT(BAD_STATE)},
    {hibernate_of_hibernated, BIT(BAD_STATE)},
    {time_went_back, BIT(TIME_WENT_BACK)},
    {malformed, BIT(MALFORMED)},
    {trailing_text, BIT(MALFORMED)},
    {too_long, BIT(TOO_LONG)},
    {unknown_reason, BIT(OUT_OF_RANGE) | BIT(BAD_TYPE) | BIT(BAD_IDENTIFIER) | BIT(MALFORMED)},
    {negative_number, BIT(OUT_OF_RANGE) | BIT(BAD_TYPE) | BIT(MALFORMED)},
};

size_t bad_line(const struct world *world, struct rng *rng, uint64_t n, char *buffer, uint32_t *codes)
{
    struct bad bad = {.world = world, .rng = rng, .n = n};
    size_t kind;
    do {
        line_open(&bad.line, buffer, (struct line_style){0});
        kind = rng_below(rng, sizeof kinds / sizeof *kinds);
    } while (!kinds[kind].make(&bad));
    *codes = kinds[kind].codes;
    return line_close(&bad.line, buffer);
}
