/* What a daemon owes its service manager, and what it sets up in its process. */
#ifndef COMMON_SERVICE_H
#define COMMON_SERVICE_H

#include <stdint.h>

#include "sandglass/error.h"

/* Ignores SIGPIPE and SIGXFSZ, sets umask 027, raises the limit on open files to files_max or as far as allowed. Before
 * threads. */
void service_setup(uint64_t files_max);
/* Start-up is over (READY=1). Nothing without systemd. */
void service_ready(void);
/* Stopping (STOPPING=1). */
void service_stopping(void);
/* How often service_alive must be called, ms: half of WATCHDOG_USEC; 0: no watchdog. */
uint64_t service_watchdog_ms(void);
/* The main thread lives (WATCHDOG=1). */
void service_alive(void);

#endif
