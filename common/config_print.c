/* What people read of a configuration table: the example file, the list for --help, the man page. */
#include "common/config.h"
#include "common/config_type.h"

static void print_default(const struct config_key *k, FILE *out)
{
    if (!k->fallback)
        fputs(k->type == CONFIG_TYPE_LIST ? "; at least once" : "; required", out);
    else if (k->fallback[0])
        fprintf(out, "; default %s", k->fallback);
    else
        fputs("; optional", out);
}

void config_print_example(const struct config_table *table, FILE *out)
{
    fprintf(out, "# %s: %s.\n", table->program, table->summary);
    for (size_t i = 0; i < table->count; i++) {
        const struct config_key *k = &table->keys[i];
        fprintf(out, "\n# %s (", k->help);
        config_type_describe(k, out);
        print_default(k, out);
        fputs(")\n", out);
        if (!k->fallback)
            fprintf(out, "%s =\n", k->name); /* refused until it is filled in */
        else if (k->fallback[0])
            fprintf(out, "%s = %s\n", k->name, k->fallback);
        else
            fprintf(out, "#%s =\n", k->name);
    }
}

void config_print_help(const struct config_table *table, FILE *out)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct config_key *k = &table->keys[i];
        fprintf(out, "  %s\n      %s\n      (", k->name, k->help);
        config_type_describe(k, out);
        print_default(k, out);
        fputs(")\n", out);
    }
}

/* Text of roff: backslashes and hyphens escaped, no control line by accident. */
static void print_roff(const char *text, FILE *out)
{
    if (*text == '.' || *text == '\'') fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

static void print_roff_key(const struct config_key *k, FILE *out)
{
    fputs(".TP\n.B ", out);
    print_roff(k->name, out);
    fputc('\n', out);
    print_roff(k->help, out);
    fputs(".\n.br\n", out);
    config_type_describe(k, out);
    if (k->fallback && k->fallback[0]) {
        fputs("; default ", out);
        print_roff(k->fallback, out);
    } else {
        print_default(k, out);
    }
    fputc('\n', out);
}

void config_print_man(const struct config_table *table, FILE *out)
{
    fputs(".TH ", out);
    print_roff(table->program, out);
    fprintf(out, " 8 \"\" \"sandglass %s\"\n.SH NAME\n", SANDGLASS_VERSION);
    print_roff(table->program, out);
    fputs(" \\- ", out);
    print_roff(table->summary, out);
    fputs("\n.SH SYNOPSIS\n.B ", out);
    print_roff(table->program, out);
    fputs("\n[\\-\\-config FILE] [\\-\\-check\\-config | \\-\\-example\\-config | \\-\\-help | \\-\\-version | "
          "\\-\\-man]\n.SH CONFIGURATION\n"
          "Lines of\n.IR \"key = value\" ;\nlines that start with # are comments. An unknown key, a key given twice "
          "and a "
          "value without its unit are errors.\n",
          out);
    for (size_t i = 0; i < table->count; i++) print_roff_key(&table->keys[i], out);
    fputs(".SH EXIT STATUS\n0: asked to stop, or printed what was asked for. 1: the configuration does not hold, or "
          "running failed. 2: wrong use.\n.SH FILES\n.I /etc/sandglass/",
          out);
    print_roff(table->program, out);
    fputs(".conf\n", out);
}
