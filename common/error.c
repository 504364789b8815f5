#include "sandglass/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT(name, text) text,
static const char *const texts[] = {"ok", SG_ERRORS(TEXT)};
#undef TEXT
#define NAME(name, text) #name,
static const char *const names[] = {"OK", SG_ERRORS(NAME)};
#undef NAME

const char *sg_error_name(enum sg_error e)
{
    assert((unsigned)e < SG_ERROR_COUNT);
    return names[e];
}

const char *sg_error_text(enum sg_error e)
{
    assert((unsigned)e < SG_ERROR_COUNT);
    return texts[e];
}

enum sg_error sg_fail(struct sg_fault *f, enum sg_error code, const char *format, ...)
{
    va_list args;
    assert(code != SG_OK);
    if (!f) return code;
    f->code = code;
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    return code;
}

enum sg_error sg_wrap(struct sg_fault *f, const char *format, ...)
{
    char context[SG_FAULT_BYTES], inner[SG_FAULT_BYTES];
    va_list args;
    if (!f) return SG_ERR_STATE;
    memcpy(inner, f->text, sizeof inner);
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    /* the context is kept whole, the end of the sentence is what is cut */
    size_t n = strlen(context), left;
    if (n > sizeof f->text - 3) n = sizeof f->text - 3;
    memcpy(f->text, context, n);
    memcpy(f->text + n, ": ", 3);
    left = sizeof f->text - (n + 2) - 1;
    strncat(f->text, inner, left);
    return f->code;
}
