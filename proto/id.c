#include "sandglass/id.h"

static bool id_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

bool id_valid_or_none(const char *s, size_t length)
{
    if (length == 0 || length > ID_BYTES_MAX) return false;
    for (size_t i = 0; i < length; i++)
        if (!id_char((unsigned char)s[i])) return false;
    return true;
}

bool id_valid(const char *s, size_t length)
{
    return id_valid_or_none(s, length) && !(length == 1 && s[0] == '-');
}
