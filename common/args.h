/* The front of every daemon's main: options that all of them share.
 *
 *     --config FILE      default /etc/sandglass/PROGRAM.conf
 *     --check-config     read it, say what is wrong, exit
 *     --example-config --help --version --man     print, exit
 *
 * Exit codes: 0, 1 for a configuration that does not hold, 2 for wrong use. */
#ifndef COMMON_ARGS_H
#define COMMON_ARGS_H

#include <stdbool.h>

#include "common/config.h"

enum { ARGS_EXIT_CONFIG = 1, ARGS_EXIT_USAGE = 2 };

/* Handles the command line. True: config (table->struct_bytes) is filled, go on. False: return *exit_status from main;
 * config holds nothing. */
SG_MUST_USE bool args_main_setup(int argc, char **argv, const struct config_table *table, void *config,
                                 int *exit_status);

#endif
