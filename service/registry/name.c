#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/registry/publish.h"

#define NAME_LENGTH_MAX 63

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int rmj_name_valid(const char *name)
{
    if (name == NULL || !is_letter(name[0])) {
        return 0;
    }
    size_t length = 0;
    for (; name[length] != '\0'; length++) {
        char c = name[length];
        if (length >= NAME_LENGTH_MAX || !(is_letter(c) || (c >= '0' && c <= '9') || strchr("-_.", c) != NULL)) {
            return 0;
        }
    }
    return strstr(name, "..") == NULL;
}

enum rmj_status rmj_model_reference_parse(const char *text, struct rmj_model_reference *reference,
                                          struct rmj_error *err)
{
    memset(reference, 0, sizeof *reference);
    const char *at = text == NULL ? NULL : strchr(text, '@');
    size_t length = text == NULL ? 0 : at == NULL ? strlen(text) : (size_t)(at - text);
    if (length == 0 || length >= sizeof reference->name) {
        return rmj_fail(err, RMJ_INVALID, "a model is named as name, name@alias or name@version");
    }
    memcpy(reference->name, text, length);
    if (!rmj_name_valid(reference->name)) {
        return rmj_fail(err, RMJ_INVALID,
                        "%.80s is no model name: a letter, then letters, digits, '-', '_' or '.', at most 63",
                        reference->name);
    }
    if (at == NULL) {
        return RMJ_OK;
    }
    char *end;
    const char *digits = at[1] == 'v' && at[2] >= '0' && at[2] <= '9' ? at + 2 : at + 1;
    unsigned long number = digits[0] >= '0' && digits[0] <= '9' ? strtoul(digits, &end, 10) : 0;
    if (number > 0 && *end == '\0' && number <= RMJ_PUBLISH_VERSIONS_MAX) {
        reference->version = (uint32_t)number;
        return RMJ_OK;
    }
    if (!rmj_name_valid(at + 1)) {
        return rmj_fail(err, RMJ_INVALID, "%.80s: after '@' comes an alias or a version number", text);
    }
    snprintf(reference->alias, sizeof reference->alias, "%s", at + 1);
    return RMJ_OK;
}
