/* See measure.h. */
#include "bench/measure.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t measure_cpu_ns(void)
{
    return now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t measure_wall_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

void measure_add(struct measure *m, uint64_t work, uint64_t ns)
{
    assert(m->rounds < MEASURE_ROUNDS_MAX);
    m->work[m->rounds] = work;
    m->ns[m->rounds++] = ns ? ns : 1;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    assert(count > 0);
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double round_rate(const struct measure *m, size_t round)
{
    return (double)m->work[round] * 1e9 / (double)m->ns[round];
}

double measure_rate(const struct measure *m)
{
    double rates[MEASURE_ROUNDS_MAX];
    for (size_t i = 0; i < m->rounds; i++) rates[i] = round_rate(m, i);
    return median(rates, m->rounds);
}

double measure_ratio(const struct measure *m, const struct measure *floor)
{
    double ratios[MEASURE_ROUNDS_MAX];
    assert(m->rounds == floor->rounds);
    for (size_t i = 0; i < m->rounds; i++) ratios[i] = round_rate(m, i) / round_rate(floor, i);
    return median(ratios, m->rounds);
}

void measure_print(const char *bench, const struct measure *m, const char *second, const struct measure *floor)
{
    double rate = measure_rate(m);
    printf("{\"bench\":\"%s\",\"case\":\"%s\",\"value\":%.0f,\"unit\":\"%s/%s\"", bench, m->name, rate, m->unit,
           second);
    fprintf(stderr, "%-18s %-34s %14.0f %s/%s", bench, m->name, rate, m->unit, second);
    if (floor) {
        printf(",\"floor\":\"%s\",\"floor_value\":%.0f,\"ratio\":%.3f", floor->name, measure_rate(floor),
               measure_ratio(m, floor));
        fprintf(stderr, "  %.2f of %s", measure_ratio(m, floor), floor->name);
    }
    printf("}\n");
    fprintf(stderr, "\n");
    fflush(stdout);
}
