/* What benchmarks share: CPU time, rounds, medians, and the one form in which figures are printed.
 *
 * A benchmark runs what it measures and its floor in turn, round by round, so that a machine's other load and its
 * clock's moods meet both. A rate is the median over the rounds; a ratio is the median of the rounds' ratios. One line
 * of JSON a figure goes to stdout (bench/README.md names the members), and the same for people to stderr. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stddef.h>
#include <stdint.h>

enum { MEASURE_ROUNDS_MAX = 64 };

/* One thing measured. name and unit live as long as it does; unit is what is counted, as "rows". */
struct measure {
    const char *name, *unit;
    size_t rounds;
    uint64_t work[MEASURE_ROUNDS_MAX], ns[MEASURE_ROUNDS_MAX];
};

/* CPU time of this process, all threads, user and system. */
uint64_t measure_cpu_ns(void);
/* Time that does not jump. */
uint64_t measure_wall_ns(void);
/* Adds a round: so many units of work in so many nanoseconds. */
void measure_add(struct measure *m, uint64_t work, uint64_t ns);
/* Units a second. */
double measure_rate(const struct measure *m);
/* How fast m is in comparison with its floor, which has as many rounds: 1 is as fast. */
double measure_ratio(const struct measure *m, const struct measure *floor);
/* Prints a figure of benchmark `bench`; what a second is of: "cpu_s" or "s". floor may be NULL. */
void measure_print(const char *bench, const struct measure *m, const char *second, const struct measure *floor);

#endif
