/* Reads a price book from its file: the shell around price_book_parse(). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/price.h"

enum { FILE_BYTES_MAX = 64 * 1024 };

enum sg_error price_book_load(const char *path, struct price_book *out, struct sg_fault *f)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return sg_fail(f, errno == ENOENT ? SG_ERR_NOT_FOUND : SG_ERR_IO, "price book: cannot be opened: %s",
                       strerror(errno));
    char *text = malloc(FILE_BYTES_MAX);
    size_t length = text ? fread(text, 1, FILE_BYTES_MAX, file) : 0;
    enum sg_error e = SG_OK;
    if (!text)
        e = sg_fail(f, SG_ERR_NOMEM, "price book: no memory");
    else if (ferror(file))
        e = sg_fail(f, SG_ERR_IO, "price book: cannot be read");
    else if (length == FILE_BYTES_MAX)
        e = sg_fail(f, SG_ERR_LIMIT, "price book: longer than %d bytes", FILE_BYTES_MAX - 1);
    else
        e = price_book_parse(text, length, out, f);
    free(text);
    fclose(file);
    return e;
}
