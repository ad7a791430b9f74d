// Templates that print today's date, made to print one day.
//
// The engines that render a template elsewhere give it a function strftime_now. A macro of that name, at the head of
// the template, takes its place in all of them: what was trained on and what a consumer renders next year is one text.
// The head is one line that renders to nothing:
//
//   {#- strftime_now says 2024-07-26, the day this model was trained with -#}{%- macro strftime_now(format) -%}{{-
//   format | replace('%d', '26') ... -}}{%- endmacro %}
//
// Its newline is eaten by trim_blocks, so the template begins at the beginning of a line as it did.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trainer/data/template_internal.h"

#define TEMPLATE_SIZE_MAX ((size_t)2 << 20)

static const char head[] = "{#- strftime_now says ";
static const char tail[] = "{%- endmacro %}\n";
// Stands for a per cent sign that is meant, while the others are replaced; of the private use area.
static const char percent[] = "\xee\x80\xa5";

static int days_of_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static int parse_date(const char *date, struct tm *day)
{
    *day = (struct tm){0};
    for (size_t i = 0; i < 10; i++) {
        int dash = i == 4 || i == 7;
        if (dash ? date[i] != '-' : date[i] < '0' || date[i] > '9') {
            return 0;
        }
    }
    int year = (int)strtol(date, NULL, 10), month = (int)strtol(date + 5, NULL, 10);
    int number = (int)strtol(date + 8, NULL, 10);
    if (year < 1900 || month < 1 || month > 12 || number < 1 || number > days_of_month(year, month)) {
        return 0;
    }
    day->tm_year = year - 1900;
    day->tm_mon = month - 1;
    day->tm_mday = number;
    return timegm(day) != (time_t)-1; // fills the days of week and year
}

int rmj_template_date_valid(const char *date)
{
    struct tm day;
    return strlen(date) == 10 && parse_date(date, &day);
}

int rmj_template_frozen_date(const char *text, char date[11])
{
    struct tm day;
    if (strncmp(text, head, sizeof head - 1) != 0 || strlen(text + sizeof head - 1) < 10 ||
        !parse_date(text + sizeof head - 1, &day) || strstr(text, tail) == NULL) {
        return 0;
    }
    memcpy(date, text + sizeof head - 1, 10);
    date[10] = '\0';
    return 1;
}

// What each directive says of midnight of that day, in the C locale; '-' drops a leading zero as glibc does.
static void write_replacements(struct rmj_buf *out, const struct tm *day)
{
    static const char *const directives[] = {"%-d", "%-m", "%-y", "%-j", "%-H", "%-I", "%-M", "%-S", "%Y", "%y",
                                             "%m",  "%d",  "%e",  "%b",  "%h",  "%B",  "%a",  "%A",  "%j", "%u",
                                             "%w",  "%U",  "%W",  "%V",  "%G",  "%g",  "%C",  "%F",  "%D", "%x",
                                             "%X",  "%c",  "%T",  "%R",  "%r",  "%H",  "%I",  "%M",  "%S", "%p"};
    rmj_buf_printf(out, "{{- format | replace('%%%%', '%s')", percent);
    for (size_t i = 0; i < RMJ_COUNT(directives); i++) {
        char said[64];
        said[0] = '\0';
        RMJ_ASSERT(strftime(said, sizeof said, directives[i], day) > 0);
        rmj_buf_printf(out, " | replace('%s', '%s')", directives[i], said);
    }
    rmj_buf_printf(out,
                   " | replace('%%f', '000000') | replace('%%Z', '') | replace('%%z', '') | replace('%s', '%%') -}}",
                   percent);
}

enum rmj_status rmj_template_freeze(const char *text, const char *date, char **frozen, struct rmj_error *err)
{
    struct tm day;
    char earlier[11];
    struct rmj_buf out;
    RMJ_ASSERT(parse_date(date, &day));
    if (rmj_template_frozen_date(text, earlier)) {
        text = strstr(text, tail) + sizeof tail - 1;
    }
    rmj_buf_init(&out, TEMPLATE_SIZE_MAX);
    rmj_buf_printf(&out, "%s%s, the day this model was trained with -#}{%%- macro strftime_now(format) -%%}", head,
                   date);
    write_replacements(&out, &day);
    rmj_buf_puts(&out, tail);
    rmj_buf_puts(&out, text);
    enum rmj_status status = rmj_buf_check(&out, err);
    *frozen = status == RMJ_OK ? rmj_buf_detach(&out) : NULL;
    rmj_buf_deinit(&out);
    return status;
}

size_t rmj_template_date_line(const char *text)
{
    static const char name[] = "strftime_now";
    for (const char *at = strstr(text, name); at != NULL; at = strstr(at + 1, name)) {
        const char *after = at + sizeof name - 1;
        after += strspn(after, " \t\n");
        if (*after == '(') {
            size_t line = 1;
            for (const char *c = text; c < at; c++) {
                line += *c == '\n';
            }
            return line;
        }
    }
    return 0;
}
