#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE_MAX 2048
#define PART_COUNT_MAX 16

static const char *const level_names[] = {"error", "warn", "info", "debug"};

// Written once by read_setting, read-only afterwards.
static struct {
    enum rmj_log_level level;
    size_t part_count;
    struct {
        char name[24];
        enum rmj_log_level level;
    } parts[PART_COUNT_MAX];
} setting = {.level = RMJ_LOG_INFO};
static pthread_once_t setting_once = PTHREAD_ONCE_INIT;

static int parse_level(const char *text, size_t length, enum rmj_log_level *level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strlen(level_names[i]) == length && strncmp(level_names[i], text, length) == 0) {
            *level = (enum rmj_log_level)i;
            return 1;
        }
    }
    return 0;
}

static void read_setting(void)
{
    const char *text = getenv("RMJOB_LOG");
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ",");
        const char *equals = memchr(text, '=', length);
        if (equals == NULL) {
            parse_level(text, length, &setting.level);
        } else if (setting.part_count < PART_COUNT_MAX && (size_t)(equals - text) < sizeof setting.parts[0].name) {
            size_t name_length = (size_t)(equals - text);
            enum rmj_log_level level;
            if (parse_level(equals + 1, length - name_length - 1, &level)) {
                memcpy(setting.parts[setting.part_count].name, text, name_length);
                setting.parts[setting.part_count++].level = level;
            }
        }
        text += length + (text[length] == ',');
    }
}

int rmj_log_enabled(enum rmj_log_level level, const char *part)
{
    pthread_once(&setting_once, read_setting);
    for (size_t i = 0; i < setting.part_count; i++) {
        if (strcmp(setting.parts[i].name, part) == 0) {
            return level <= setting.parts[i].level;
        }
    }
    return level <= setting.level;
}

void rmj_log(enum rmj_log_level level, const char *part, const char *format, ...)
{
    if (!rmj_log_enabled(level, part)) {
        return;
    }
    char line[LINE_SIZE_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    length += (size_t)snprintf(line + length, sizeof line - length, ".%03ldZ level=%s part=%s ", now.tv_nsec / 1000000,
                               level_names[level], part);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + length, sizeof line - length, format, arguments);
    va_end(arguments);
    length += more > 0 ? (size_t)more : 0;
    if (length > sizeof line - 2) {
        length = sizeof line - 2;
    }
    line[length++] = '\n';
    // A log that cannot be written has nowhere to complain.
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}

const char *rmj_log_quote(char *out, size_t size, const char *text)
{
    size_t used = 0;
    for (; *text != '\0' && used + 5 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[used++] = '\\';
            out[used++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            used += (size_t)snprintf(out + used, size - used, "\\x%02x", c);
        } else {
            out[used++] = (char)c;
        }
    }
    out[used] = '\0';
    return out;
}
