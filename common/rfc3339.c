/* Civil dates to days and back: the proleptic Gregorian calendar counted in years that start in March, so that the leap
 * day is the last day of its year and months have a closed form ((153 m + 2) / 5 days before month m). */
#include "common/rfc3339.h"

#include <assert.h>
#include <string.h>

enum { DAYS_PER_ERA = 146097, DAYS_TO_1970 = 719468, YEARS_PER_ERA = 400 };

static int64_t days_of_date(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = year / YEARS_PER_ERA, of_era = year % YEARS_PER_ERA;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * DAYS_PER_ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
}

static void date_of_days(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
    days += DAYS_TO_1970;
    int64_t era = days / DAYS_PER_ERA, of_era = days % DAYS_PER_ERA;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    *day = of_year - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = y + era * YEARS_PER_ERA + (*month <= 2);
}

static void put_digits(char *out, int64_t value, unsigned count)
{
    while (count--) {
        out[count] = (char)('0' + value % 10);
        value /= 10;
    }
}

void rfc3339_format(struct wall_ms t, char out[static RFC3339_BYTES])
{
    int64_t year, month, day, ms = t.v % DAY_MS;
    assert(t.v >= 0 && t.v <= WALL_MS_MAX);
    date_of_days(t.v / DAY_MS, &year, &month, &day);
    memcpy(out, "0000-00-00T00:00:00.000Z", RFC3339_BYTES);
    put_digits(out, year, 4);
    put_digits(out + 5, month, 2);
    put_digits(out + 8, day, 2);
    put_digits(out + 11, ms / HOUR_MS, 2);
    put_digits(out + 14, ms / MINUTE_MS % 60, 2);
    put_digits(out + 17, ms / SECOND_MS % 60, 2);
    put_digits(out + 20, ms % SECOND_MS, 3);
}

struct cursor {
    const char *p, *end;
    bool bad;
};

static int64_t take_digits(struct cursor *c, unsigned count)
{
    int64_t v = 0;
    if (c->bad || c->end - c->p < (ptrdiff_t)count) {
        c->bad = true;
        return 0;
    }
    for (; count--; c->p++) {
        if (*c->p < '0' || *c->p > '9') c->bad = true;
        v = v * 10 + (*c->p - '0');
    }
    return v;
}

static void take(struct cursor *c, const char *any_of)
{
    if (c->bad || c->p == c->end || !*c->p || !strchr(any_of, *c->p))
        c->bad = true;
    else
        c->p++;
}

static int64_t take_fraction_ms(struct cursor *c)
{
    int64_t ms = 0;
    unsigned digits = 0;
    if (c->p == c->end || *c->p != '.') return 0;
    for (c->p++; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, digits++)
        if (digits < 3) ms = ms * 10 + (*c->p - '0');
    if (digits == 0 || digits > 9) c->bad = true;
    for (; digits < 3; digits++) ms *= 10;
    return ms;
}

static int64_t take_offset_ms(struct cursor *c)
{
    if (c->p == c->end) c->bad = true;
    if (c->bad) return 0;
    char sign = *c->p++;
    if (sign == 'Z' || sign == 'z') return 0;
    if (sign != '+' && sign != '-') c->bad = true;
    int64_t hours = take_digits(c, 2);
    take(c, ":");
    int64_t minutes = take_digits(c, 2);
    if (hours > 23 || minutes > 59) c->bad = true;
    int64_t ms = hours * HOUR_MS + minutes * MINUTE_MS;
    return sign == '-' ? -ms : ms;
}

static bool parse_date_time(struct cursor *c, int64_t *out)
{
    static const uint8_t days_in[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year = take_digits(c, 4);
    take(c, "-");
    int64_t month = take_digits(c, 2);
    take(c, "-");
    int64_t day = take_digits(c, 2);
    take(c, "Tt ");
    int64_t hour = take_digits(c, 2);
    take(c, ":");
    int64_t minute = take_digits(c, 2);
    take(c, ":");
    int64_t second = take_digits(c, 2);
    int64_t ms = take_fraction_ms(c);
    int64_t offset = take_offset_ms(c);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (c->bad || c->p != c->end || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59) return false;
    if (day < 1 || day > days_in[month - 1] + (month == 2 && leap)) return false;
    *out = days_of_date(year, month, day) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS + ms -
           offset;
    return true;
}

static bool parse_seconds(const char *text, size_t length, int64_t *out)
{
    int64_t v = 0;
    if (length == 0 || length > 12) return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (text[i] - '0');
    }
    *out = v * SECOND_MS;
    return true;
}

bool rfc3339_parse(const char *text, size_t length, struct wall_ms *out)
{
    struct cursor c = {text, text + length, false};
    int64_t ms;
    if (!parse_seconds(text, length, &ms) && !parse_date_time(&c, &ms)) return false;
    if (ms < 0 || ms > WALL_MS_MAX) return false;
    out->v = ms;
    return true;
}
