/* Memory of jansson, for programs that read JSON which decides about numbers (ledger, control, prices, Stripe's
 * answers).
 *
 * jansson 2.14 does not look whether a token's buffer could grow: it drops the byte and goes on, so that without memory
 * a number may come out a digit short, and valid. Hence memory that runs out inside jansson ends the program. */
#ifndef PROTO_JSON_MEMORY_H
#define PROTO_JSON_MEMORY_H

/* From now on. Before the first use of jansson. */
void json_memory_setup(void);

#endif
