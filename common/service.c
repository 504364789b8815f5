#include "common/service.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "common/log.h"

static void raise_files(uint64_t files_max)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    if (limit.rlim_cur >= files_max) return;
    limit.rlim_cur = limit.rlim_max < files_max ? limit.rlim_max : files_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) log_event(LOG_WARN, "files_limit_kept", "");
}

void service_setup(uint64_t files_max)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    static const int signals[] = {SIGPIPE, SIGXFSZ}; /* the call that would raise one fails then, and that is handled */
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        int status = sigaction(signals[i], &ignore, NULL);
        assert(status == 0);
    }
    umask(027);
    raise_files(files_max);
}

/* Not being told of is no error: the service manager's own time limit decides. */
static void tell(const char *state)
{
    int status = sd_notify(0, state);
    if (status < 0) log_event(LOG_WARN, "service_manager_not_told", "errno=%d", -status);
}

void service_ready(void)
{
    tell("READY=1");
}

void service_stopping(void)
{
    tell("STOPPING=1");
}

uint64_t service_watchdog_ms(void)
{
    uint64_t interval_us = 0;
    if (sd_watchdog_enabled(0, &interval_us) <= 0) return 0;
    uint64_t half_ms = interval_us / 2000;
    return half_ms ? half_ms : 1;
}

void service_alive(void)
{
    tell("WATCHDOG=1");
}
