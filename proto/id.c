#include "sandglass/id.h"

/* Looked up per byte of every name of every batch. */
static const bool id_char[256] = {
    ['-'] = true, ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['_'] = true, ['a' ... 'z'] = true,
};

bool id_valid_or_none(const char *s, size_t length)
{
    bool valid = true;
    if (length == 0 || length > ID_BYTES_MAX) return false;
    for (size_t i = 0; i < length; i++) valid &= id_char[(unsigned char)s[i]];
    return valid;
}

bool id_valid(const char *s, size_t length)
{
    return id_valid_or_none(s, length) && !(length == 1 && s[0] == '-');
}
