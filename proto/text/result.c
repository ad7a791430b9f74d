#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "proto/text/node.h"

struct position {
    char *field;
    int line, column;
};

struct rmj_text_result {
    struct rmj_text_error errors[RMJ_TEXT_ERRORS_MAX];
    size_t error_count;
    struct position *positions;
    size_t position_count, position_capacity;
};

struct rmj_text_result *rmj_text_result_create(void)
{
    return rmj_text_allocate(1, sizeof(struct rmj_text_result));
}

void rmj_text_result_clear(struct rmj_text_result *result)
{
    for (size_t i = 0; i < result->position_count; i++) {
        free(result->positions[i].field);
    }
    free(result->positions);
    *result = (struct rmj_text_result){0};
}

void rmj_text_result_destroy(struct rmj_text_result *result)
{
    if (result != NULL) {
        rmj_text_result_clear(result);
        free(result);
    }
}

size_t rmj_text_error_count(const struct rmj_text_result *result)
{
    return result->error_count;
}

const struct rmj_text_error *rmj_text_error_at(const struct rmj_text_result *result, size_t index)
{
    RMJ_ASSERT(index < result->error_count);
    return &result->errors[index];
}

void rmj_text_report(struct rmj_text_result *result, int line, int column, const char *field, const char *format, ...)
{
    if (result->error_count == RMJ_TEXT_ERRORS_MAX) {
        return; // fifty are enough to work on
    }
    struct rmj_text_error *error = &result->errors[result->error_count++];
    error->line = line;
    error->column = column;
    snprintf(error->field, sizeof error->field, "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    // A cut must not leave half a character.
    error->message[rmj_text_utf8_valid(error->message, strlen(error->message))] = '\0';
    error->field[rmj_text_utf8_valid(error->field, strlen(error->field))] = '\0';
}

void rmj_text_result_sort(struct rmj_text_result *result)
{
    for (size_t i = 1; i < result->error_count; i++) {
        struct rmj_text_error moved = result->errors[i];
        size_t k = i;
        for (; k > 0 && (result->errors[k - 1].line > moved.line ||
                         (result->errors[k - 1].line == moved.line && result->errors[k - 1].column > moved.column));
             k--) {
            result->errors[k] = result->errors[k - 1];
        }
        result->errors[k] = moved;
    }
}

void rmj_text_remember(struct rmj_text_result *result, const char *field, int line, int column)
{
    if (result->position_count == RMJ_TEXT_POSITIONS_MAX) {
        return; // the parent's position serves
    }
    if (result->position_count == result->position_capacity) {
        result->position_capacity = result->position_capacity == 0 ? 64 : 2 * result->position_capacity;
        result->positions = realloc(result->positions, result->position_capacity * sizeof *result->positions);
        RMJ_ASSERT(result->positions != NULL);
    }
    char *name = strdup(field);
    RMJ_ASSERT(name != NULL);
    result->positions[result->position_count++] = (struct position){name, line, column};
}

int rmj_text_position(const struct rmj_text_result *result, const char *field, int *line, int *column)
{
    char path[RMJ_TEXT_PATH_MAX];
    snprintf(path, sizeof path, "%s", field);
    for (;;) {
        for (size_t i = 0; i < result->position_count; i++) {
            if (strcmp(result->positions[i].field, path) == 0) {
                *line = result->positions[i].line;
                *column = result->positions[i].column;
                return 1;
            }
        }
        char *cut = path + strlen(path);
        while (cut > path && *cut != '.' && *cut != '[') {
            cut--;
        }
        if (cut == path) {
            return 0;
        }
        *cut = '\0';
    }
}

void rmj_text_locate(const char *text, size_t offset, int *line, int *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < offset; i++) {
        if (text[i] == '\n') {
            (*line)++;
            *column = 1;
        } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
            (*column)++;
        }
    }
}
