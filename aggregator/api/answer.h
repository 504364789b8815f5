/* Answers: a question (who asks, what, with which parameters) becomes a status and a body. One function per route
 * (api.md).
 *
 * An answer function writes the body and returns OK, or an error that answer_fail() turns into the HTTP status and the
 * JSON body
 * {"error": sentence, "code": snake_case}. Sentences never quote the request. */
#ifndef API_ANSWER_H
#define API_ANSWER_H

#include "aggregator/api/params.h"
#include "aggregator/api/price.h"
#include "aggregator/api/view.h"
#include "common/buffer.h"
#include "proto/control.h"

enum { ANSWER_BYTES_MAX = 64 << 20 };

/* Everything is borrowed. */
struct question {
    struct view *view;
    const struct price_book *book;
    struct id team;
    enum role role;
    struct params params;
    struct id subject;  /* the {id} of the path */
    struct wall_ms now; /* when it was asked */
};

struct answer {
    unsigned status;
    const char *content_type;
    struct buffer body; /* initialised by the caller with ANSWER_BYTES_MAX */
};

/* The signature of all answers. Errors: USAGE 400, DENIED 403, NOT_FOUND 404, STATE and UNREACHABLE and TIMEOUT 503,
 * others 500. */
typedef enum sg_error answer_function(const struct question *q, struct answer *a, struct sg_fault *f);

/* GET /v1/usage */
SG_MUST_USE enum sg_error answer_usage(const struct question *q, struct answer *a, struct sg_fault *f);
/* GET /v1/runs/history */
SG_MUST_USE enum sg_error answer_runs(const struct question *q, struct answer *a, struct sg_fault *f);
/* GET /v1/runs/{id} */
SG_MUST_USE enum sg_error answer_run(const struct question *q, struct answer *a, struct sg_fault *f);
/* GET /v1/usage/series */
SG_MUST_USE enum sg_error answer_series(const struct question *q, struct answer *a, struct sg_fault *f);
/* GET /v1/capacity */
SG_MUST_USE enum sg_error answer_capacity(const struct question *q, struct answer *a, struct sg_fault *f);
/* GET /v1/ledger */
SG_MUST_USE enum sg_error answer_ledger(const struct question *q, struct answer *a, struct sg_fault *f);

/* Replaces whatever is in a by status, sentence and code. */
void answer_error(struct answer *a, unsigned status, const char *code, const char *sentence);
/* The same for an answer function's error. */
void answer_fail(struct answer *a, enum sg_error e, const struct sg_fault *f);

/* ---- what several answers need ---- */

struct json_out;
/* Where a team's numbers stand: read before the numbers. */
struct standing {
    struct watermark watermark;
    struct wall_ms heard;
};
/* Reads it, after making sure that the team's shard is not being rebuilt. */
SG_MUST_USE enum sg_error answer_standing(const struct question *q, struct standing *out, struct sg_fault *f);
/* Writes complete_through and gaps (those that touch [from, to)). */
SG_MUST_USE enum sg_error answer_completeness(const struct question *q, const struct standing *s, struct json_out *j,
                                              struct sg_fault *f);
/* Adds the usage of a run's hours that start in [from, to) to sums. OVERFLOW. */
SG_MUST_USE enum sg_error answer_run_price(const struct price_book *book, const struct view_run *run,
                                           struct wall_ms from, struct wall_ms to, struct price_sums *sums);

#endif
