// The tables of the command line, the README that shows them, and the parser that they drive: none says what another
// does not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/version.h"
#include "service/cli/cli.h"

#define WORDS_MAX 16
#define README_SIZE_MAX (1u << 20)

static char *readme;

static int load_readme(void **state)
{
    (void)state;
    const char *source = getenv("RMJOB_SOURCE");
    char *path = rmj_fs_join(source == NULL ? "." : source, "README.md");
    struct rmj_buf text;
    rmj_buf_init(&text, README_SIZE_MAX);
    struct rmj_error err = {0};
    enum rmj_status status = rmj_fs_read(path, &text, &err);
    free(path);
    readme = rmj_buf_detach(&text);
    return status == RMJ_OK ? 0 : -1;
}

static int free_readme(void **state)
{
    (void)state;
    free(readme);
    return 0;
}

// Splits at spaces up to a '#', a '`' or the end of the line; words[0] is "rmjob".
static int split(char *line, char **words)
{
    int count = 0;
    line[strcspn(line, "#`\n")] = '\0';
    for (char *word = strtok(line, " "); word != NULL && count < WORDS_MAX - 1; word = strtok(NULL, " ")) {
        if (strcmp(word, "&") != 0) {
            words[count++] = word;
        }
    }
    words[count] = NULL;
    return count;
}

static enum rmj_status parse_line(const char *line, struct rmj_cli *cli, const struct rmj_command **command,
                                  struct rmj_error *err)
{
    static char copy[1024];
    char *words[WORDS_MAX];
    snprintf(copy, sizeof copy, "%s", line);
    int count = split(copy, words);
    *cli = (struct rmj_cli){0};
    *err = (struct rmj_error){0};
    return rmj_cli_parse(cli, count, words, command, err);
}

static void every_row_has_a_summary_and_an_example_that_parses(void **state)
{
    (void)state;
    for (size_t i = 0; i < rmj_command_count; i++) {
        const struct rmj_command *row = &rmj_commands[i];
        assert_true(row->summary != NULL && *row->summary != '\0');
        assert_non_null(row->run);
        char usual[64];
        snprintf(usual, sizeof usual, "rmjob %s", row->words);
        assert_int_equal(strncmp(row->example, usual, strlen(usual)), 0);
        // What a shell would take away.
        char example[256];
        snprintf(example, sizeof example, "%s", row->example);
        example[strcspn(example, ">|")] = '\0';
        struct rmj_cli cli;
        struct rmj_error err;
        const struct rmj_command *command = NULL;
        if (parse_line(example, &cli, &command, &err) != RMJ_OK) {
            fail_msg("%s: %s", row->example, err.message);
        }
        assert_ptr_equal(command, row);
    }
}

static const struct rmj_flag *flag_named(const char *name, size_t length)
{
    for (size_t i = 0; i < rmj_flag_count; i++) {
        if (strlen(rmj_flags[i].name) == length && memcmp(rmj_flags[i].name, name, length) == 0) {
            return &rmj_flags[i];
        }
    }
    return NULL;
}

static void every_flag_of_a_verb_is_in_the_table_and_can_be_set(void **state)
{
    (void)state;
    size_t used[64] = {0};
    assert_true(rmj_flag_count < 64);
    for (size_t i = 0; i < rmj_command_count; i++) {
        for (const char *at = rmj_commands[i].flags; *at != '\0';) {
            size_t length = strcspn(at, " ");
            const struct rmj_flag *flag = flag_named(at, length);
            if (flag == NULL || flag->global) {
                fail_msg("%s lists %.*s, which is no flag of a verb", rmj_commands[i].words, (int)length, at);
                return;
            }
            used[flag - rmj_flags]++;
            at += length + (at[length] == ' ');
        }
    }
    for (size_t i = 0; i < rmj_flag_count; i++) {
        const struct rmj_flag *flag = &rmj_flags[i];
        assert_true(*flag->help != '\0');
        if (!flag->global && used[i] == 0) {
            fail_msg("no verb takes --%s", flag->name);
        }
    }
}

// Every flag, given to a verb that takes it, with a value of its kind.
static void every_flag_parses_with_a_value_of_its_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < rmj_command_count; i++) {
        for (size_t k = 0; k < rmj_flag_count; k++) {
            const struct rmj_flag *flag = &rmj_flags[k];
            char list[128], word[64], line[256];
            snprintf(list, sizeof list, " %s ", rmj_commands[i].flags);
            snprintf(word, sizeof word, " %s ", flag->name);
            if ((!flag->global && strstr(list, word) == NULL) || strcmp(flag->name, "help") == 0 ||
                strcmp(flag->name, "version") == 0) {
                continue;
            }
            const char *value = flag->argument == NULL                     ? ""
                                : strcmp(flag->argument, "N") == 0         ? "3"
                                : strcmp(flag->argument, "DURATION") == 0  ? "90s"
                                : strcmp(flag->argument, "text|json") == 0 ? "json"
                                                                           : "x";
            snprintf(line, sizeof line, "rmjob --%s %s %s a b c d", flag->name, value, rmj_commands[i].words);
            // No more arguments than the verb takes.
            for (int spare = 4 - rmj_commands[i].positional_max; spare > 0; spare--) {
                *strrchr(line, ' ') = '\0';
            }
            struct rmj_cli cli;
            struct rmj_error err;
            const struct rmj_command *command = NULL;
            if (parse_line(line, &cli, &command, &err) != RMJ_OK) {
                fail_msg("%s: %s", line, err.message);
            }
            assert_ptr_equal(command, &rmj_commands[i]);
        }
    }
}

static int readme_names(const char *words)
{
    // As a command ("rmjob get"), or in a list of verbs ("also: get, list").
    size_t length = strlen(words);
    for (const char *at = strstr(readme, words); at != NULL; at = strstr(at + 1, words)) {
        int begins = at > readme && strchr(" `", at[-1]) != NULL;
        int ends = strchr(" ,`\n", at[length]) != NULL;
        if (begins && ends) {
            return 1;
        }
    }
    return 0;
}

static void the_readme_shows_every_verb(void **state)
{
    (void)state;
    for (size_t i = 0; i < rmj_command_count; i++) {
        if (!readme_names(rmj_commands[i].words)) {
            fail_msg("README.md does not show `rmjob %s`", rmj_commands[i].words);
        }
    }
}

static void every_command_in_the_readme_parses(void **state)
{
    (void)state;
    size_t found = 0;
    for (const char *at = strstr(readme, "rmjob "); at != NULL; at = strstr(at + 1, "rmjob ")) {
        // A command begins a line of a block or a `code` word.
        if (at > readme && at[-1] != '\n' && at[-1] != '`') {
            continue;
        }
        if (strncmp(at, "rmjob trains", 12) == 0) {
            continue; // the first sentence
        }
        struct rmj_cli cli;
        struct rmj_error err;
        const struct rmj_command *command = NULL;
        char line[512];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        if (parse_line(line, &cli, &command, &err) != RMJ_OK) {
            fail_msg("README.md: %s: %s", line, err.message);
        }
        found++;
    }
    assert_true(found >= 10);
}

static void the_readmes_exit_codes_are_the_programs(void **state)
{
    (void)state;
    static const struct {
        enum rmj_status status;
        const char *words;
    } said[] = {
        {RMJ_OK, "done"},   {RMJ_INTERNAL, "internal"},           {RMJ_INVALID, "usage or spec"},
        {RMJ_GATE, "gate"}, {RMJ_UNREACHABLE, "unreachable"},     {RMJ_DENIED, "refused access"},
        {RMJ_DATA, "data"}, {RMJ_IO, "infrastructure or budget"}, {RMJ_TIMEOUT, "timeout"},
    };
    const char *line = strstr(readme, "Exit codes:");
    assert_non_null(line);
    for (size_t i = 0; i < RMJ_COUNT(said); i++) {
        char text[64];
        snprintf(text, sizeof text, "%d %s", rmj_status_exit_code(said[i].status), said[i].words);
        const char *at = strstr(line, text);
        if (at == NULL || at > line + strcspn(line, "\n")) {
            fail_msg("README.md does not say: %s", text);
        }
    }
}

static void wrong_command_lines_are_refused_with_the_mend(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"rmjob sbmit x", "'sbmit' is not a verb; did you mean 'submit'?"},
        {"rmjob frobnicate", "'frobnicate' is not a verb; see `rmjob --help`"},
        {"rmjob policy", "'policy' is not a verb; it is `rmjob policy get` or `rmjob policy set`"},
        {"rmjob policy put", "'policy put' is not a verb; it is `rmjob policy get` or `rmjob policy set`"},
        {"rmjob spec", "'spec' is not a verb; it is `rmjob spec explain`"},
        {"rmjob help sbmit", "did you mean 'submit'?"},
        {"rmjob submit a.yaml --wiat", "rmjob submit has no flag --wiat; did you mean --wait?"},
        {"rmjob list --wait", "rmjob list has no flag --wait"},
        {"rmjob list --limit", "--limit needs N"},
        {"rmjob list --limit --project", "--limit needs N, and '--project' looks like a flag"},
        {"rmjob list --limit 0", "--limit is '0'; it must be a whole number of 1 or more"},
        {"rmjob list --limit 3x", "--limit is '3x'"},
        {"rmjob list --limit=", "--limit is ''"},
        {"rmjob list --limit 99999999999999999999", "--limit is '99999999999999999999'"},
        {"rmjob list --output yaml", "--output is 'yaml'; it must be text or json"},
        {"rmjob list --timeout soon", "--timeout is 'soon'; write a duration such as 90s, 30m or 2h"},
        {"rmjob list --timeout 0s", "--timeout is '0s'"},
        {"rmjob list --no-input=yes", "--no-input takes no value"},
        {"rmjob list -l", "'-l' is not a flag; flags are written --name"},
        {"rmjob list all", "'all' is one argument too many; usage: rmjob list"},
        {"rmjob pull a b c", "'c' is one argument too many; usage: rmjob pull NAME[@ALIAS|@VERSION] DIR"},
        {"rmjob get", "an argument is missing; usage: rmjob get JOB"},
        {"rmjob pull a", "an argument is missing; usage: rmjob pull"},
        {"rmjob get -- --output json", "'json' is one argument too many"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct rmj_cli cli;
        struct rmj_error err;
        const struct rmj_command *command = NULL;
        assert_int_equal(parse_line(cases[i].line, &cli, &command, &err), RMJ_INVALID);
        assert_null(command);
        if (strstr(err.message, cases[i].message) == NULL) {
            fail_msg("%s: said '%s', not '%s'", cases[i].line, err.message, cases[i].message);
        }
    }
}

static void flags_may_stand_anywhere_and_be_joined(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "rmjob --server unix:/s --wait --output json --timeout 2s submit a.yaml",
        "rmjob submit a.yaml --server=unix:/s --wait --output=json --timeout=2s",
        "rmjob submit --output text --wait --server unix:/s --output json --timeout 2s -- a.yaml",
    };
    for (size_t i = 0; i < RMJ_COUNT(lines); i++) {
        struct rmj_cli cli;
        struct rmj_error err;
        const struct rmj_command *command = NULL;
        if (parse_line(lines[i], &cli, &command, &err) != RMJ_OK) {
            fail_msg("%s: %s", lines[i], err.message);
        }
        assert_string_equal(command->words, "submit");
        assert_string_equal(cli.positional[0], "a.yaml");
        assert_int_equal(cli.positional_count, 1);
        assert_string_equal(cli.server, "unix:/s");
        assert_true(cli.wait && cli.json);
        assert_int_equal(cli.timeout_ms, 2000);
    }
    struct rmj_cli cli;
    struct rmj_error err;
    const struct rmj_command *command = NULL;
    // Behind `--` and as `-` (standard input) everything is an argument; =VALUE may look like a flag.
    assert_int_equal(parse_line("rmjob verify -- --odd", &cli, &command, &err), RMJ_OK);
    assert_string_equal(cli.positional[0], "--odd");
    assert_int_equal(parse_line("rmjob validate -", &cli, &command, &err), RMJ_OK);
    assert_string_equal(cli.positional[0], "-");
    assert_int_equal(parse_line("rmjob cancel a --reason=--why", &cli, &command, &err), RMJ_OK);
    assert_string_equal(cli.reason, "--why");
}

// Of a verb; NULL: the whole page.
static char *help_of(const struct rmj_command *command)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    rmj_cli_help(command, out);
    fclose(out);
    return text;
}

static void help_pages_fit_a_usual_window_and_name_everything(void **state)
{
    (void)state;
    char *whole = help_of(NULL);
    for (size_t i = 0; i <= rmj_command_count; i++) {
        const struct rmj_command *command = i < rmj_command_count ? &rmj_commands[i] : NULL;
        char *page = help_of(command);
        for (const char *line = page; *line != '\0'; line += strcspn(line, "\n") + 1) {
            if (strcspn(line, "\n") >= 80) {
                fail_msg("help of %s: too wide: %.*s", command == NULL ? "rmjob" : command->words,
                         (int)strcspn(line, "\n"), line);
            }
        }
        if (command != NULL) {
            assert_non_null(strstr(whole, command->words));
            assert_non_null(strstr(page, command->example));
        }
        free(page);
    }
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_a_summary_and_an_example_that_parses),
        cmocka_unit_test(every_flag_of_a_verb_is_in_the_table_and_can_be_set),
        cmocka_unit_test(every_flag_parses_with_a_value_of_its_kind),
        cmocka_unit_test(the_readme_shows_every_verb),
        cmocka_unit_test(every_command_in_the_readme_parses),
        cmocka_unit_test(the_readmes_exit_codes_are_the_programs),
        cmocka_unit_test(wrong_command_lines_are_refused_with_the_mend),
        cmocka_unit_test(flags_may_stand_anywhere_and_be_joined),
        cmocka_unit_test(help_pages_fit_a_usual_window_and_name_everything),
    };
    return cmocka_run_group_tests(tests, load_readme, free_readme);
}
