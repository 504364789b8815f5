#include "tests/sim/ports.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/service.h"

#define BOOTED INT64_C(1763000000000)

static struct sim *sim;
static struct sim_actor *acting;

void ports_begin(struct sim *s)
{
    sim = s;
    acting = NULL;
}

struct sim_actor *ports_act(struct sim_actor *a)
{
    struct sim_actor *before = acting;
    acting = a;
    return before;
}

struct sim_actor *ports_acting(void)
{
    return acting;
}

/* ---- clock ---- */

/* What is read is of the moment before whatever interrupts. */
static int64_t read_clock(void)
{
    int64_t now = sim->now;
    if (acting && acting->interrupted && !acting->dead) acting->interrupted(acting->arg);
    return now;
}

/* Of the host of whoever acts. */
static struct boot_ms boot_at(int64_t now)
{
    return (struct boot_ms){(uint64_t)(now - (acting && acting->booted_at ? acting->booted_at : BOOTED))};
}

struct boot_ms clock_boot(void)
{
    return boot_at(sim->now);
}
struct wall_ms clock_wall(void)
{
    int64_t skew_ms = acting ? acting->skew_ms : 0;
    return (struct wall_ms){read_clock() + skew_ms};
}
static struct boot_ms boot_of(void *arg)
{
    (void)arg;
    return clock_boot();
}
static struct wall_ms wall_of(void *arg)
{
    (void)arg;
    return (struct wall_ms){sim->now + (acting ? acting->skew_ms : 0)};
}
const struct clock clock_real = {.boot = boot_of, .wall = wall_of};

/* ---- log ---- */

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    char text[512];
    va_list args;
    (void)level;
    if (!sim->trace) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_trace(sim, "%s: %s %s", acting ? acting->name : "nobody", event, text);
}
void log_fault(enum log_level level, const char *event, const struct sg_fault *f)
{
    log_event(level, event, "%s", f->text);
}
const char *log_quote(const char *value, char *out, size_t size)
{
    (void)snprintf(out, size, "%s", value);
    return out;
}
void log_flush(bool all)
{
    (void)all;
}

/* ---- loop, service manager ---- */

enum sg_error loop_init(struct loop *l, const struct clock *clock, struct sg_fault *f)
{
    (void)f;
    *l = (struct loop){.clock = clock};
    return SG_OK;
}
void loop_destroy(struct loop *l)
{
    (void)l;
}
enum sg_error loop_turn(struct loop *l, uint32_t wait_ms, struct sg_fault *f)
{
    (void)l;
    (void)wait_ms;
    (void)f;
    return SG_OK;
}
bool loop_stopping(const struct loop *l)
{
    (void)l;
    return acting && (acting->dead || acting->stopping);
}
struct boot_ms loop_now(const struct loop *l)
{
    (void)l;
    return boot_at(read_clock());
}

/* Nothing waits for a loop here. */
int loop_wake_fd(const struct loop *l)
{
    (void)l;
    return -1;
}

void service_ready(void) {}
void service_alive(void) {}
void service_stopping(void) {}
