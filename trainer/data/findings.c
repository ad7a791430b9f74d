#include "trainer/data/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void rmj_findings_init(struct rmj_findings *findings)
{
    *findings = (struct rmj_findings){.items = calloc(RMJ_FINDINGS_MAX + 1, sizeof(Rmjob__V1__Finding *))};
    RMJ_ASSERT(findings->items != NULL);
}

void rmj_findings_deinit(struct rmj_findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        rmjob__v1__finding__free_unpacked(findings->items[i], NULL);
    }
    free(findings->items);
    *findings = (struct rmj_findings){0};
}

// Messages quote data: control characters and cut or broken UTF-8 must reach neither terminals nor protobuf strings.
static void clean(char *text)
{
    size_t size = strlen(text), at = 0;
    while (at < size) {
        size_t valid = rmj_text_utf8_valid(text + at, size - at);
        for (size_t end = at + valid; at < end; at++) {
            if ((unsigned char)text[at] < ' ' || text[at] == 0x7f) {
                text[at] = '?';
            }
        }
        if (at < size) {
            text[at++] = '?';
        }
    }
}

static void append(struct rmj_findings *findings, const char *field, const char *text, int warning, unsigned exit_code)
{
    Rmjob__V1__Finding *finding = malloc(sizeof *finding);
    RMJ_ASSERT(finding != NULL);
    rmjob__v1__finding__init(finding);
    finding->field = strdup(field);
    finding->message = strdup(text);
    finding->has_warning = finding->has_exit_code = 1;
    finding->warning = warning;
    finding->exit_code = warning ? 0 : exit_code;
    findings->items[findings->count++] = finding;
}

static void add(struct rmj_findings *findings, const char *field, int warning, unsigned exit_code, const char *format,
                va_list arguments)
{
    char text[RMJ_ERROR_MESSAGE_SIZE];
    findings->error_count += !warning;
    if (findings->count == RMJ_FINDINGS_MAX) {
        findings->left_out++;
        return;
    }
    vsnprintf(text, sizeof text, format, arguments);
    clean(text);
    append(findings, field, text, warning, exit_code);
}

void rmj_findings_error(struct rmj_findings *findings, const char *field, unsigned exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(findings, field, 0, exit_code, format, arguments);
    va_end(arguments);
}

void rmj_findings_warn(struct rmj_findings *findings, const char *field, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(findings, field, 1, 0, format, arguments);
    va_end(arguments);
}

enum rmj_status rmj_findings_take(struct rmj_findings *findings, const char *field, unsigned exit_code,
                                  const struct rmj_error *err)
{
    int disk_is_full = err->status == RMJ_FULL && err->origin != NULL && strcmp(err->origin, "errno") == 0;
    if (disk_is_full) { // of this machine: the inputs are sound
        return err->status;
    }
    switch (err->status) {
    case RMJ_INVALID:
    case RMJ_DATA:
    case RMJ_NOT_FOUND:
    case RMJ_DENIED:
    case RMJ_CORRUPT:
    case RMJ_FULL:
        rmj_findings_error(findings, field, exit_code, "%s", err->message);
        return RMJ_OK;
    default:
        return err->status;
    }
}

void rmj_findings_detach(struct rmj_findings *findings, Rmjob__V1__Finding ***items, size_t *count)
{
    if (findings->left_out > 0) {
        char text[80];
        snprintf(text, sizeof text, "%zu more findings are left out", findings->left_out);
        append(findings, "", text, findings->error_count == 0, RMJ_EXIT_DATA);
    }
    *items = findings->items;
    *count = findings->count;
    *findings = (struct rmj_findings){0};
}
