/* Parameters of a request: a closed table of names and types; what is not in the route's list is refused. Pure.
 *
 * A refusal names the parameter when it is one of ours, and never quotes its value; an unknown one is not named, for
 * its name is input. */
#ifndef API_PARAMS_H
#define API_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"
#include "sandglass/field.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

/* name, text */
#define API_PARAMS(X)                                                                                                  \
    X(FROM, "from")                                                                                                    \
    X(TO, "to")                                                                                                        \
    X(PROJECT, "project")                                                                                              \
    X(REGION, "region")                                                                                                \
    X(LIMIT, "limit")                                                                                                  \
    X(CURSOR, "cursor")                                                                                                \
    X(METER, "meter")                                                                                                  \
    X(STEP, "step")                                                                                                    \
    X(GROUP_BY, "group_by")                                                                                            \
    X(FORMAT, "format")
#define API_ENUM_PARAM(name, text) PARAM_##name,
enum param { API_PARAMS(API_ENUM_PARAM) PARAMS };

/* A set of parameters: 1 << enum param. */
#define PARAM_BIT(p) (1u << (p))

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };
enum group_by { GROUP_NONE, GROUP_PROJECT, GROUP_REGION };
enum format { FORMAT_JSON, FORMAT_CSV };

/* Where a list goes on: entries up to this time, the first `skip` at exactly this time left out. */
struct page {
    struct wall_ms from_top;
    uint32_t skip;
    bool set;
};

/* The parameters of one request, with their defaults; given says which were there. Zero is not valid: params_init(). */
struct params {
    unsigned given;
    struct wall_ms from, to;
    struct id project, region;
    uint32_t limit;
    struct page cursor;
    enum field meter;
    enum window_kind step;
    enum group_by group_by;
    enum format format;
};

/* Defaults: from 1970, to the end of time, limit 100, step hour, group_by none, format json. */
void params_init(struct params *p);
/* Takes one parameter. USAGE: refused; f is the sentence for the client. value may be NULL (no value was given). */
SG_MUST_USE enum sg_error params_take(struct params *p, unsigned allowed, const char *name, const char *value,
                                      struct sg_fault *f);
/* After the last one: what is required is there, from <= to. USAGE as above. */
SG_MUST_USE enum sg_error params_finish(const struct params *p, unsigned required, struct sg_fault *f);

enum { CURSOR_BYTES_MAX = 40 };
/* The text of a cursor, NUL-terminated. */
void cursor_format(struct page page, char out[static CURSOR_BYTES_MAX]);

#endif
