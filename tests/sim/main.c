/* sim [--seeds A..B] [--turn NAME] [--turns] [--trace]
 *
 * Runs the schedules of seeds A to B; the first that fails is printed with the command that replays it. --turn takes a
 * wrong turn of the product's code; --turns tries all of them, and fails when one survives TURN_SEEDS schedules. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/turns.h"
#include "tests/sim/worlds.h"

enum { TURN_SEEDS = 2000 };

int sim_turn;

struct tally {
    uint64_t schedules, rows, checks, injected[SIM_FAULT_KINDS];
};

/* The first seed of first..last that fails, or 0. */
static uint64_t run(uint64_t first, uint64_t last, bool trace, struct tally *t, char why[static 256])
{
    for (uint64_t seed = first; seed <= last; seed++) {
        static struct sim s;
        sim_start(&s, seed);
        s.trace = trace;
        bool good = billing_schedule(&s);
        t->schedules++;
        t->rows += s.rows;
        t->checks += s.checks;
        for (int i = 0; i < SIM_FAULT_KINDS; i++) t->injected[i] += s.injected[i];
        memcpy(why, s.why, sizeof s.why);
        if (!good) return seed;
    }
    return 0;
}

static int try_turns(void)
{
    int survived = 0;
    printf("%-36s %s\n", "turn", "caught at schedule, by");
    for (sim_turn = 1; sim_turn < SIM_TURNS; sim_turn++) {
        struct tally t = {0};
        char why[256];
        uint64_t seed = run(1, TURN_SEEDS, false, &t, why);
        survived += seed == 0;
        if (seed)
            printf("%-36s %4" PRIu64 "  %s\n", sim_turns[sim_turn].name, seed, why);
        else
            printf("%-36s SURVIVED: %s\n", sim_turns[sim_turn].name, sim_turns[sim_turn].why);
    }
    printf("%d turns, %d survived\n", SIM_TURNS - 1, survived);
    return survived ? 1 : 0;
}

static int run_and_tell(uint64_t first, uint64_t last, bool trace)
{
    static const char *const texts[] = {
#define TEXT(name, text) text,
        SIM_FAULTS(TEXT)
#undef TEXT
    };
    struct tally t = {0};
    char why[256];
    clock_t start = clock();
    uint64_t seed = run(first, last, trace, &t, why);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    for (int i = 0; i < SIM_FAULT_KINDS; i++) printf("%10" PRIu64 "  %s\n", t.injected[i], texts[i]);
    printf("%" PRIu64 " schedules, %.0f/s, %" PRIu64 " rows, %" PRIu64 " checks\n", t.schedules,
           (double)t.schedules / (seconds > 0 ? seconds : 1), t.rows, t.checks);
    if (!seed) return 0;
    printf("seed %" PRIu64 ": %s\nreplay: sim --seeds %" PRIu64 "..%" PRIu64 " --trace%s%s\n", seed, why, seed, seed,
           sim_turn ? " --turn " : "", sim_turn ? sim_turns[sim_turn].name : "");
    return 1;
}

static bool take_turn(const char *name)
{
    for (sim_turn = 1; sim_turn < SIM_TURNS; sim_turn++)
        if (strcmp(sim_turns[sim_turn].name, name) == 0) return true;
    return false;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 1000;
    bool trace = false, good = true;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--turns") == 0) return try_turns();
        if (strcmp(argv[i], "--trace") == 0)
            trace = true;
        else if (strcmp(argv[i], "--seeds") == 0 && sscanf(value, "%" SCNu64 "..%" SCNu64, &first, &last) == 2)
            i++;
        else if (strcmp(argv[i], "--turn") == 0 && take_turn(value))
            i++;
        else
            good = false;
    }
    if (!good || first == 0) {
        fprintf(stderr, "usage: sim [--seeds A..B] [--turn NAME] [--turns] [--trace]\n");
        return 2;
    }
    const char *fewer = getenv("SANDGLASS_SIM_SEEDS"); /* under sanitizers */
    if (fewer && strtoull(fewer, NULL, 10) < last - first) last = first + strtoull(fewer, NULL, 10);
    return run_and_tell(first, last, trace);
}
