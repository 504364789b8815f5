#include "common/counters.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

void counters_init(struct counters *c, const struct counter_spec *spec, size_t count)
{
    assert(count <= COUNTERS_MAX);
    c->spec = spec;
    c->count = count;
    for (size_t i = 0; i < COUNTERS_MAX; i++) atomic_init(&c->value[i], 0);
}

void counters_add(struct counters *c, size_t index, uint64_t n)
{
    assert(index < c->count);
    atomic_fetch_add_explicit(&c->value[index], n, memory_order_relaxed);
}

void counters_set(struct counters *c, size_t index, uint64_t v)
{
    assert(index < c->count && c->spec[index].type == GAUGE);
    atomic_store_explicit(&c->value[index], v, memory_order_relaxed);
}

uint64_t counters_get(const struct counters *c, size_t index)
{
    assert(index < c->count);
    return atomic_load_explicit(&c->value[index], memory_order_relaxed);
}

void counters_render(const struct counters *c, struct buffer *out)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct counter_spec *s = &c->spec[i];
        bool first = i == 0 || strcmp(c->spec[i - 1].name, s->name) != 0;
        if (first) {
            buffer_printf(out, "# HELP %s %s\n", s->name, s->help);
            buffer_printf(out, "# TYPE %s %s\n", s->name, s->type == GAUGE ? "gauge" : "counter");
        }
        const char *labels = s->labels ? s->labels : "";
        buffer_printf(out, "%s%s%s%s %" PRIu64 "\n", s->name, s->labels ? "{" : "", labels, s->labels ? "}" : "",
                      counters_get(c, i));
    }
}
