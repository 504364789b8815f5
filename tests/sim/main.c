/* sim: runs schedules of the worlds by seed. The first that fails is printed with the command that replays it, and with
 * a shorter one. Schedules run in a process of their own, for one may crash, or never end: then the parent tells which
 * it was. See `usage`. */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/scenarios.h"
#include "tests/sim/shrink.h"
#include "tests/sim/turns.h"
#include "tests/sim/worlds.h"

enum { TURN_SEEDS = 2000, SCENARIO_SEEDS = 100, SEEDS_FOR_ALL_FAULTS = 5, ROOM_BYTES = 32 * 1024 };
enum { SCHEDULE_S_MAX = 120 }; /* of processor time; a schedule takes tens of ms, some seconds under sanitizers */

static const char usage[] =
    "usage: sim [--world NAME] [--scenario NAME | --scenarios] [--seeds A..B] [--minutes N] [--turn NAME] [--trace]\n"
    "           [--steps N] [--only FAULT:N,...]\n"
    "       sim --turns [--world NAME]\n"
    "       sim --list\n"
    "  --world      the schedules of one world; default: of each in turn\n"
    "  --scenario   a bad day that has a name; --scenarios: all of them\n"
    "  --seeds      default 1..1000, for scenarios 1..100\n"
    "  --minutes    for so long, if the last seed has not been reached; without --seeds there is no last one\n"
    "  --turn       the code takes a wrong turn; --turns: each in turn, which must be seen within 2000 schedules\n"
    "  --steps, --only   a schedule that was shortened: so many steps, and just these faults\n"
    "  --list       worlds, scenarios, kinds of fault and wrong turns\n";

int sim_turn;

static struct options {
    const char *world;
    const struct sim_scenario *scenario;
    uint64_t first, last; /* last 0: the default */
    unsigned long minutes;
    bool trace, turns, scenarios, list;
    struct sim_plan plan;
} options = {.first = 1};

struct tally {
    uint64_t schedules, rows, checks, injected[SIM_FAULT_KINDS];
    clock_t time;
};

static struct sim sim;
static struct sim_happened only[SIM_HAPPENED_MAX];

/* The schedule that is under way, shared with the parent. */
static struct under_way {
    const struct sim_world *world; /* NULL: none */
    const struct sim_scenario *scenario;
    uint64_t seed;
} * under_way;

static void rates_of(const struct sim_scenario *c, uint32_t rates[static SIM_FAULT_KINDS])
{
    memset(rates, 0, SIM_FAULT_KINDS * sizeof *rates);
    for (int i = 0; i < SCENARIO_FAULTS_MAX && c->fault[i].rate; i++) rates[c->fault[i].kind] = c->fault[i].rate;
}

/* Whoever takes more processor time than that is ended by the timer's signal. */
static void limit_time(time_t seconds)
{
    if (setitimer(ITIMER_VIRTUAL, &(struct itimerval){.it_value.tv_sec = seconds}, NULL) != 0) abort();
}

static bool run_one(const struct sim_world *w, const struct sim_scenario *c, uint64_t seed, const struct sim_plan *plan,
                    struct tally *t)
{
    clock_t start = clock();
    *under_way = (struct under_way){.world = w, .scenario = c, .seed = seed};
    limit_time(SCHEDULE_S_MAX);
    sim_start(&sim, seed, plan);
    sim.trace = options.trace;
    bool good = w->schedule(&sim);
    limit_time(0);
    under_way->world = NULL;
    t->time += clock() - start;
    t->schedules++;
    t->rows += sim.rows;
    t->checks += sim.checks;
    for (int i = 0; i < SIM_FAULT_KINDS; i++) t->injected[i] += sim.injected[i];
    return good;
}

/* ---- what was seen ---- */

/* c: its rates, instead of the plan's. */
static void print_replay(const struct sim_world *w, const struct sim_scenario *c, uint64_t seed,
                         const struct sim_plan *plan)
{
    printf("replay: sim --%s %s --seeds %" PRIu64 "..%" PRIu64, c ? "scenario" : "world", c ? c->name : w->name, seed,
           seed);
    if (sim_turn) printf(" --turn %s", sim_turns[sim_turn].name);
    if (plan->steps) printf(" --steps %" PRIu64, plan->steps);
    for (size_t i = 0; i < plan->fault_count; i++)
        printf("%s%s:%" PRIu64, i ? "," : " --only ", sim_fault_name(plan->fault[i].kind), plan->fault[i].number);
    if (plan->only && plan->fault_count == 0) printf(" --only none");
    printf(" --trace\n");
}

/* What failed in sim, and a shorter way to see it fail. */
static void tell_failure(const struct sim_world *w, const struct sim_scenario *c)
{
    static struct shrink shorter;
    uint64_t seed = sim.seed, faults = 0;
    for (int i = 0; i < SIM_FAULT_KINDS; i++) faults += sim.injected[i];
    printf("FAILED: %s seed %" PRIu64 ": %s\n  %" PRIu64 " steps, %" PRIu64 " faults; ", w->name, seed, sim.why,
           sim.steps, faults);
    print_replay(w, c, seed, &options.plan);
    if (options.plan.only || sim.happened_count == SIM_HAPPENED_MAX) return;
    sim_shrink(w, &sim, &shorter);
    if (!sim.failed) return;
    printf("shrunk: %s\n", sim.why);
    for (size_t i = 0; i < sim.happened_count; i++)
        printf("  step %" PRIu64 ", %" PRId64 ": %s\n", sim.happened[i].step, sim.happened[i].now,
               sim_fault_text(sim.happened[i].kind));
    printf("  %" PRIu64 " steps, %zu faults; ", sim.steps, sim.happened_count);
    print_replay(w, NULL, seed, &shorter.plan);
}

static void tell(const char *name, const struct tally *t)
{
    double seconds = (double)t->time / CLOCKS_PER_SEC;
    printf("%-36s %" PRIu64 " schedules, %.0f/s, %" PRIu64 " rows, %" PRIu64 " checks\n", name, t->schedules,
           (double)t->schedules / (seconds > 0 ? seconds : 1), t->rows, t->checks);
}

/* ---- modes ---- */

static bool wanted(const struct sim_world *w)
{
    return !options.world || strcmp(options.world, w->name) == 0;
}

static const struct sim_world *world_named(const char *name)
{
    for (int i = 0; i < SIM_WORLDS; i++)
        if (strcmp(sim_worlds[i].name, name) == 0) return &sim_worlds[i];
    return NULL;
}

static uint64_t last_seed(uint64_t otherwise)
{
    uint64_t last = options.last ? options.last : options.first - 1 + otherwise;
    const char *fewer = getenv("SANDGLASS_SIM_SEEDS"); /* under sanitizers */
    uint64_t most = fewer ? strtoull(fewer, NULL, 10) : 0;
    return most && last - options.first >= most ? options.first - 1 + most : last;
}

/* Whether a run, which began then, goes on with this seed. */
static bool goes_on(uint64_t seed, uint64_t otherwise, time_t began)
{
    if (!options.minutes) return seed <= last_seed(otherwise);
    return time(NULL) < began + 60 * (time_t)options.minutes && (!options.last || seed <= options.last);
}

static int run_scenario(const struct sim_scenario *c)
{
    uint32_t rates[SIM_FAULT_KINDS];
    struct sim_plan plan = {.rates = rates};
    struct tally t = {0};
    const struct sim_world *w = world_named(c->world);
    time_t began = time(NULL);
    int missing = 0;
    rates_of(c, rates);
    for (uint64_t seed = options.first; goes_on(seed, SCENARIO_SEEDS, began); seed++) {
        if (run_one(w, c, seed, &plan, &t)) continue;
        tell_failure(w, c);
        return 1;
    }
    tell(c->name, &t);
    for (int i = 0; i < SIM_FAULT_KINDS; i++) {
        if (rates[i] == 0 || t.injected[i] || t.schedules < SEEDS_FOR_ALL_FAULTS) continue;
        printf("FAILED: %s: it never happened: %s\n", c->name, sim_fault_text((enum sim_fault)i));
        missing++;
    }
    return missing ? 1 : 0;
}

static int run_scenarios(void)
{
    int failed = 0, run = 0;
    for (int i = 0; i < SIM_SCENARIOS; i++) {
        if (!wanted(world_named(sim_scenarios[i].world))) continue;
        run++;
        failed += run_scenario(&sim_scenarios[i]);
    }
    printf("%d scenarios, %d failed\n", run, failed);
    return failed || !run ? 1 : 0;
}

/* What a wrong turn came to. */
struct sight {
    uint64_t seed; /* the last one */
    bool caught;
    char why[sizeof sim.why];
};

/* In a process of its own: the program may end by it. */
static void look_for(const struct sim_world *w, struct sight *out)
{
    static struct tally t;
    const struct sim_plan all = {.steps = 0};
    (void)!freopen("/dev/null", "w", stderr);
    for (out->seed = 1; out->seed <= TURN_SEEDS && !out->caught; out->seed += !out->caught)
        out->caught = !run_one(w, NULL, out->seed, &all, &t);
    memcpy(out->why, sim.why, sizeof out->why);
    _exit(0);
}

static void try_turn(const struct sim_world *w, struct sight *out)
{
    int status = 0;
    memset(out, 0, sizeof *out);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) look_for(w, out);
    if (child < 0 || waitpid(child, &status, 0) != child) abort();
    if (!WIFSIGNALED(status)) return;
    out->caught = WTERMSIG(status) != SIGKILL; /* which is the machine's */
    (void)snprintf(out->why, sizeof out->why, "the program's end: %s", strsignal(WTERMSIG(status)));
}

static int try_turns(void)
{
    int tried = 0, survived = 0;
    struct sight *sight = mmap(NULL, sizeof *sight, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sight == MAP_FAILED) abort();
    printf("%-10s %-40s %s\n", "world", "wrong turn", "caught at schedule, by");
    for (sim_turn = 1; sim_turn < SIM_TURNS; sim_turn++) {
        const struct sim_world *w = world_named(sim_turns[sim_turn].world);
        if (!w) abort(); /* a list of turns is called after none */
        if (!wanted(w)) continue;
        tried++;
        try_turn(w, sight);
        survived += !sight->caught;
        if (sight->caught)
            printf("%-10s %-40s %4" PRIu64 "  %s\n", w->name, sim_turns[sim_turn].name, sight->seed, sight->why);
        else
            printf("%-10s %-40s SURVIVED: %s\n", w->name, sim_turns[sim_turn].name, sim_turns[sim_turn].why);
    }
    printf("%d turns, %d survived\n", tried, survived);
    return survived || !tried ? 1 : 0;
}

static int run_seeds(void)
{
    static struct tally t[SIM_WORLDS];
    uint64_t total[SIM_FAULT_KINDS] = {0};
    time_t began = time(NULL);
    bool good = true;
    for (uint64_t seed = options.first; good && goes_on(seed, 1000, began); seed++) {
        for (int i = 0; i < SIM_WORLDS && good; i++) {
            if (!wanted(&sim_worlds[i])) continue;
            good = run_one(&sim_worlds[i], NULL, seed, &options.plan, &t[i]);
            if (!good) tell_failure(&sim_worlds[i], NULL);
        }
    }
    for (int i = 0; i < SIM_WORLDS; i++)
        for (int k = 0; k < SIM_FAULT_KINDS; k++) total[k] += t[i].injected[k];
    for (int k = 0; k < SIM_FAULT_KINDS; k++)
        if (total[k]) printf("%10" PRIu64 "  %s\n", total[k], sim_fault_text((enum sim_fault)k));
    for (int i = 0; i < SIM_WORLDS; i++)
        if (t[i].schedules) tell(sim_worlds[i].name, &t[i]);
    return good ? 0 : 1;
}

static int run(void)
{
    if (options.scenarios) return run_scenarios();
    return options.scenario ? run_scenario(options.scenario) : run_seeds();
}

/* In a process of its own. */
static int run_apart(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) exit(run());
    if (child < 0 || waitpid(child, &status, 0) != child) abort();
    if (under_way->world) {
        printf("FAILED: %s seed %" PRIu64 ": the program ended in the middle of it: %s\n  ", under_way->world->name,
               under_way->seed, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "see above");
        print_replay(under_way->world, under_way->scenario, under_way->seed, &options.plan);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int list(void)
{
    for (int i = 0; i < SIM_WORLDS; i++) printf("world     %s\n", sim_worlds[i].name);
    for (int i = 0; i < SIM_SCENARIOS; i++)
        printf("scenario  %-36s %s\n", sim_scenarios[i].name, sim_scenarios[i].text);
    for (int i = 0; i < SIM_FAULT_KINDS; i++)
        printf("fault     %-36s %s\n", sim_fault_name((enum sim_fault)i), sim_fault_text((enum sim_fault)i));
    for (int i = 1; i < SIM_TURNS; i++) printf("turn      %-36s %s\n", sim_turns[i].name, sim_turns[i].why);
    return 0;
}

/* ---- the command line ---- */

static bool take_only(const char *text)
{
    options.plan.only = true;
    options.plan.fault = only;
    if (strcmp(text, "none") == 0) return true;
    while (*text && options.plan.fault_count < SIM_HAPPENED_MAX) {
        struct sim_happened *h = &only[options.plan.fault_count++];
        size_t length = strcspn(text, ":");
        int used = 0;
        h->kind = sim_fault_named(text, length);
        if (h->kind == SIM_FAULT_KINDS || sscanf(text + length, ":%" SCNu64 "%n", &h->number, &used) != 1) return false;
        text += length + (size_t)used;
        if (*text == ',') text++;
    }
    return *text == '\0';
}

static bool take_turn(const char *name)
{
    for (sim_turn = 1; sim_turn < SIM_TURNS; sim_turn++)
        if (strcmp(sim_turns[sim_turn].name, name) == 0) return true;
    return false;
}

static bool take_scenario(const char *name)
{
    for (int i = 0; i < SIM_SCENARIOS; i++)
        if (strcmp(sim_scenarios[i].name, name) == 0) options.scenario = &sim_scenarios[i];
    return options.scenario != NULL;
}

static bool take_flag(const char *flag)
{
    const struct {
        const char *name;
        bool *taken;
    } flags[] = {{"--trace", &options.trace},
                 {"--turns", &options.turns},
                 {"--scenarios", &options.scenarios},
                 {"--list", &options.list}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(flag, flags[i].name) != 0) continue;
        *flags[i].taken = true;
        return true;
    }
    return false;
}

static bool take_value(const char *name, const char *value)
{
    int end = 0;
    if (strcmp(name, "--world") == 0) {
        options.world = value;
        return world_named(value) != NULL;
    }
    if (strcmp(name, "--scenario") == 0) return take_scenario(value);
    if (strcmp(name, "--turn") == 0) return take_turn(value);
    if (strcmp(name, "--only") == 0) return take_only(value);
    if (strcmp(name, "--seeds") == 0)
        return sscanf(value, "%" SCNu64 "..%" SCNu64 "%n", &options.first, &options.last, &end) == 2 && !value[end] &&
               options.first > 0 && options.last >= options.first;
    if (strcmp(name, "--steps") == 0)
        return sscanf(value, "%" SCNu64 "%n", &options.plan.steps, &end) == 1 && !value[end];
    if (strcmp(name, "--minutes") == 0)
        return sscanf(value, "%lu%n", &options.minutes, &end) == 1 && !value[end] && options.minutes > 0;
    return false;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (take_flag(argv[i])) continue;
        if (i + 1 < argc && take_value(argv[i], argv[i + 1])) {
            i++;
            continue;
        }
        fputs(usage, stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    (void)mallopt(M_MMAP_THRESHOLD, ROOM_BYTES); /* programs' large arrays cost what is used of them, as in programs */
    if (options.list) return list();
    under_way = mmap(NULL, sizeof *under_way, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (under_way == MAP_FAILED) abort();
    if (options.turns) return try_turns();
    return options.trace ? run() : run_apart(); /* what is looked at may be under a debugger */
}
