#include "common/args.h"

#include <getopt.h>
#include <stdio.h>

enum action { RUN, CHECK_CONFIG, EXAMPLE_CONFIG, HELP, VERSION, MAN, USAGE };

static void print_usage(const struct config_table *table, FILE *out)
{
    fprintf(out, "usage: %s [--config FILE] [--check-config | --example-config | --help | --version | --man]\n",
            table->program);
}

static void print_help(const struct config_table *table)
{
    printf("%s: %s\n\n", table->program, table->summary);
    print_usage(table, stdout);
    printf("\n"
           "  --config FILE      configuration (default /etc/sandglass/%s.conf)\n"
           "  --check-config     read the configuration, say what is wrong, exit\n"
           "  --example-config   print a commented configuration with every default\n"
           "  --version          print the version\n"
           "  --man              print the man page (roff)\n"
           "  --help             print this\n"
           "\nKeys of the configuration:\n",
           table->program);
    config_print_help(table, stdout);
}

static enum action parse(int argc, char **argv, const char **file)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, RUN},
        {"check-config", no_argument, NULL, CHECK_CONFIG},
        {"example-config", no_argument, NULL, EXAMPLE_CONFIG},
        {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION},
        {"man", no_argument, NULL, MAN},
        {NULL, 0, NULL, 0},
    };
    enum action action = RUN;
    int option;
    optind = 0; /* glibc: start anew, also in tests */
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?') return USAGE;
        if (option == RUN)
            *file = optarg;
        else
            action = (enum action)option;
    }
    return optind == argc ? action : USAGE;
}

static bool load(const char *file, const struct config_table *table, void *config)
{
    struct sg_fault fault = {0};
    if (config_load(file, table, config, &fault) == SG_OK) return true;
    fprintf(stderr, "%s: %s\n", table->program, fault.text);
    return false;
}

bool args_main_setup(int argc, char **argv, const struct config_table *table, void *config, int *exit_status)
{
    char fallback[256];
    snprintf(fallback, sizeof fallback, "/etc/sandglass/%s.conf", table->program);
    const char *file = fallback;
    *exit_status = 0;
    switch (parse(argc, argv, &file)) {
    case RUN:
        if (load(file, table, config)) return true;
        *exit_status = ARGS_EXIT_CONFIG;
        break;
    case CHECK_CONFIG:
        if (load(file, table, config)) {
            config_destroy(table, config);
            printf("%s: the configuration holds\n", table->program);
        } else {
            *exit_status = ARGS_EXIT_CONFIG;
        }
        break;
    case EXAMPLE_CONFIG: config_print_example(table, stdout); break;
    case HELP: print_help(table); break;
    case VERSION: printf("%s %s\n", table->program, SANDGLASS_VERSION); break;
    case MAN: config_print_man(table, stdout); break;
    case USAGE:
        print_usage(table, stderr);
        *exit_status = ARGS_EXIT_USAGE;
        break;
    }
    return false;
}
