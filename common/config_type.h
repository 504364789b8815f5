/* The types of configuration values: text to member of the program's struct and back to nothing. Part of common/config;
 * programs use that header. */
#ifndef COMMON_CONFIG_TYPE_H
#define COMMON_CONFIG_TYPE_H

#include "common/config.h"

/* Parses value (not empty) into member. A member that owns memory must be zero or, for a list, hold earlier items.
 * CONFIG with a sentence in f that does not quote the value; NOMEM. */
SG_MUST_USE enum sg_error config_type_parse(const struct config_key *k, const char *value, void *member,
                                            struct sg_fault *f);
/* Sets member to the key's default, which is not NULL. */
SG_MUST_USE enum sg_error config_type_default(const struct config_key *k, void *member, struct sg_fault *f);
/* Frees what member owns and wipes secrets. */
void config_type_free(const struct config_key *k, void *member);
/* Writes what may stand as the key's value, for people: "bytes, 1M to 4G". */
void config_type_describe(const struct config_key *k, FILE *out);

#endif
