#include "collector/collector_counters.h"

#define REFUSED_SPEC(name_, text_, help_)                                                                              \
    {.name = "sandglass_collector_refused_total",                                                                      \
     .labels = "code=\"" text_ "\"",                                                                                   \
     .type = COUNTER,                                                                                                  \
     .help = "lines and sessions refused since the start, by error code (proto/ingest.md)"},
const struct counter_spec collector_counter_specs[COLLECTOR_COUNTER_COUNT] = {COLLECTOR_COUNTERS(COUNTERS_SPEC)
                                                                                  INGEST_ERRORS(REFUSED_SPEC)};
