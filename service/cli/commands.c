// The table of verbs, the table of flags, and the parser that both drive.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/version.h"
#include "service/cli/cli.h"

#define HELP_WIDTH 79
#define VERB_COLUMN 30
#define FLAG_COLUMN 22

const struct rmj_command rmj_commands[] = {
    {"init", "[FILE]", 0, 1, "", rmj_cmd_init, "write a commented spec to start from", "rmjob init > job.yaml"},
    {"validate", "SPEC", 1, 1, "", rmj_cmd_validate, "check a spec and everything it names, without submitting it",
     "rmjob validate job.yaml"},
    {"spec explain", "[FIELD]", 0, 1, "", rmj_cmd_spec_explain, "print what a field of the spec means",
     "rmjob spec explain train.epochs"},
    {"submit", "SPEC", 1, 1, "wait request-id", rmj_cmd_submit, "submit a job; prints its id",
     "rmjob submit job.yaml --wait"},
    {"list", "", 0, 0, "limit", rmj_cmd_list, "list jobs, newest first", "rmjob list --limit 20"},
    {"get", "JOB", 1, 1, "", rmj_cmd_get, "show a job", "rmjob get rm-7f3a2"},
    {"watch", "JOB", 1, 1, "", rmj_cmd_watch, "follow a job to its end; exits as the job did", "rmjob watch rm-7f3a2"},
    {"logs", "JOB", 1, 1, "rank follow", rmj_cmd_logs, "print the logs of a job's processes",
     "rmjob logs rm-7f3a2 --follow"},
    {"explain", "JOB", 1, 1, "", rmj_cmd_explain, "say why a job is where it is, and the mend",
     "rmjob explain rm-7f3a2"},
    {"cancel", "JOB", 1, 1, "reason", rmj_cmd_cancel, "stop a job; its checkpoints stay", "rmjob cancel rm-7f3a2"},
    {"resize", "JOB", 1, 1, "max-ranks min-ranks", rmj_cmd_resize,
     "change how many ranks a job runs on; the result does not depend on it", "rmjob resize rm-7f3a2 --max-ranks 4"},
    {"report", "JOB", 1, 1, "failures html", rmj_cmd_report, "print what was measured, or write it as a page",
     "rmjob report rm-7f3a2 --html report.html"},
    {"gate", "REPORT", 1, 1, "spec policy name", rmj_cmd_gate,
     "decide over a report or a RewardBench 2 score file; exits 3 when it fails",
     "rmjob gate scores.json --spec job.yaml"},
    {"evaluate", "", 0, 0, "scores", rmj_cmd_evaluate, "score a RewardBench 2 score file",
     "rmjob evaluate --scores scores.json --output json"},
    {"policy get", "[PROJECT]", 0, 1, "", rmj_cmd_policy_get, "print a project's floors and limits",
     "rmjob policy get align"},
    {"policy set", "PROJECT [FILE]", 1, 2, "", rmj_cmd_policy_set,
     "set a project's floors and limits, from FILE or stdin", "rmjob policy set align policy.yaml"},
    {"models", "[NAME]", 0, 1, "", rmj_cmd_models, "list published models, their versions and aliases", "rmjob models"},
    {"pull", "NAME[@ALIAS|@VERSION] DIR", 2, 2, "", rmj_cmd_pull,
     "fetch a published model, verified, into a new directory", "rmjob pull support-rm@candidate ./model"},
    {"verify", "DIR", 1, 1, "key", rmj_cmd_verify, "check a model directory against its signature",
     "rmjob verify ./model"},
    {"model verify", "DIR", 1, 1, "batch expected tolerance threads all", rmj_cmd_model_verify,
     "compare a model's numbers with another program's; exits 6 when they differ",
     "rmjob model verify . --batch batch.json --expected expected.safetensors"},
    {"data show", "SPEC", 1, 1, "rows", rmj_cmd_data_show,
     "print rows of a spec's data as the model sees them, token by token", "rmjob data show job.yaml --rows 17"},
    {"doctor", "", 0, 0, "", rmj_cmd_doctor, "check this machine and the service, and say the mend", "rmjob doctor"},
};
const size_t rmj_command_count = RMJ_COUNT(rmj_commands);

const struct rmj_flag rmj_flags[] = {
    {"server", "ADDRESS",
     "service to talk to: unix:/path or host:port; default: $RMJOB_SERVER, then the socket in $RMJOB_STATE", 1},
    {"project", "NAME", "project, where a verb needs one (default: default)", 1},
    {"output", "text|json", "form of the result (default: text)", 1},
    {"timeout", "DURATION", "give up after this long, for instance 90s; exit 124", 1},
    {"no-input", NULL, "never ask", 1},
    {"help", NULL, "print this", 1},
    {"version", NULL, "print the version", 1},
    {"wait", NULL, "follow the job to its end and exit as it did", 0},
    {"request-id", "ID", "the same id again returns the same job instead of a second one", 0},
    {"limit", "N", "most rows (default 50)", 0},
    {"rank", "NAME", "one process only", 0},
    {"follow", NULL, "go on printing until the job ends", 0},
    {"reason", "TEXT", "why, for the record", 0},
    {"max-ranks", "N", "most ranks", 0},
    {"min-ranks", "N", "fewest ranks", 0},
    {"failures", "CATEGORY", "also list the rows of this category that earned no full credit", 0},
    {"html", "FILE", "also write the report with its pictures as one page for a browser", 0},
    {"spec", "FILE", "thresholds from the gate section of this spec", 0},
    {"policy", "FILE", "floors from this policy", 0},
    {"name", "NAME", "name of the model in the table", 0},
    {"scores", "FILE", "score file of RewardBench 2 (- for stdin)", 0},
    {"batch", "FILE", "pairs of token ids, losses and the optimizer (batch.json)", 0},
    {"expected", "FILE", "what the other program computed (expected.safetensors)", 0},
    {"tolerance", "X",
     "largest ||ours - theirs|| / ||theirs|| (default 1e-5); ten times that for parameters after the steps, a hundred "
     "for scores and losses after one",
     0},
    {"threads", "N", "threads (default: one a core); the result does not depend on it", 0},
    {"all", NULL, "print every comparison, not only the worst of each group", 0},
    {"rows", "LIST", "rows of the first training file, or of a named one: 17, or 3-5,heldout.jsonl:9", 0},
    {"key", "FILE", "public key (PEM); default: the key pinned from the service", 0},
};
const size_t rmj_flag_count = RMJ_COUNT(rmj_flags);

static const struct rmj_flag *find_flag(const char *name, size_t length)
{
    for (size_t i = 0; i < rmj_flag_count; i++) {
        if (strlen(rmj_flags[i].name) == length && strncmp(rmj_flags[i].name, name, length) == 0) {
            return &rmj_flags[i];
        }
    }
    return NULL;
}

// Whether the space-separated list has the word.
static int has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; *at != '\0';) {
        size_t n = strcspn(at, " ");
        if (n == length && strncmp(at, word, n) == 0) {
            return 1;
        }
        at += n + (at[n] == ' ');
    }
    return 0;
}

// A name in its column, and the text beside it, folded at the width of a usual window.
static void print_entry(FILE *out, const char *head, int column, const char *text)
{
    fprintf(out, "  %-*s ", column, head);
    size_t room = (size_t)(HELP_WIDTH - column - 3);
    for (;;) {
        size_t length = strlen(text);
        if (length > room) {
            for (length = room; length > 0 && text[length] != ' '; length--) {
            }
            length = length == 0 ? strcspn(text, " ") : length;
        }
        fprintf(out, "%.*s\n", (int)length, text);
        text += length;
        if (*text == '\0') {
            return;
        }
        text++;
        fprintf(out, "%*s", column + 3, "");
    }
}

static void print_flags(const char *list, int global, FILE *out)
{
    for (size_t i = 0; i < rmj_flag_count; i++) {
        const struct rmj_flag *flag = &rmj_flags[i];
        if (global ? flag->global : has_word(list, flag->name)) {
            char head[64];
            snprintf(head, sizeof head, "--%s%s%s", flag->name, flag->argument ? " " : "",
                     flag->argument ? flag->argument : "");
            print_entry(out, head, FLAG_COLUMN, flag->help);
        }
    }
}

// Whether the words are "group x".
static int in_group(const char *words, const char *group)
{
    size_t length = strlen(group);
    return strncmp(words, group, length) == 0 && words[length] == ' ';
}

static int is_group(const char *word)
{
    for (size_t i = 0; word != NULL && i < rmj_command_count; i++) {
        if (in_group(rmj_commands[i].words, word)) {
            return 1;
        }
    }
    return 0;
}

static void print_verbs(const char *group, FILE *out)
{
    for (size_t i = 0; i < rmj_command_count; i++) {
        if (group == NULL || in_group(rmj_commands[i].words, group)) {
            char head[64];
            snprintf(head, sizeof head, "%s %s", rmj_commands[i].words, rmj_commands[i].arguments);
            print_entry(out, head, VERB_COLUMN, rmj_commands[i].summary);
        }
    }
}

static void print_group_help(const char *group, FILE *out)
{
    fprintf(out, "usage: rmjob %s VERB [arguments] [flags]\n\n", group);
    print_verbs(group, out);
    fprintf(out, "\n`rmjob %s VERB --help` prints the flags of a verb\n", group);
}

void rmj_cli_help(const struct rmj_command *command, FILE *out)
{
    if (command != NULL) {
        fprintf(out, "usage: rmjob %s%s%s [flags]\n\n%s\n\n", command->words, *command->arguments ? " " : "",
                command->arguments, command->summary);
        if (*command->flags != '\0') {
            fprintf(out, "flags:\n");
            print_flags(command->flags, 0, out);
            fprintf(out, "\n");
        }
        fprintf(out, "global flags:\n");
        print_flags("", 1, out);
        fprintf(out, "\nexample:\n  %s\n", command->example);
        return;
    }
    fprintf(out, "rmjob trains, judges and publishes reward models.\n\nusage: rmjob VERB [arguments] [flags]\n\n");
    print_verbs(NULL, out);
    fprintf(out, "\nglobal flags (`rmjob VERB --help` prints those of the verb):\n");
    print_flags("", 1, out);
    fprintf(out, "\nexit codes: 0 done, 1 internal, 2 usage or spec, 3 gate, 4 unreachable,\n"
                 "            5 refused access, 6 data, 7 infrastructure or budget, 124 timeout\n");
}

static enum rmj_status parse_count(const char *flag, const char *value, long *number, struct rmj_error *err)
{
    char *end;
    errno = 0;
    *number = strtol(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0 || *number < 1 || *number > 100000) {
        return rmj_fail(err, RMJ_INVALID, "--%s is '%s'; it must be a whole number of 1 or more", flag, value);
    }
    return RMJ_OK;
}

static enum rmj_status set_flag(struct rmj_cli *cli, const char *name, const char *value, struct rmj_error *err)
{
    const struct {
        const char *name;
        const char **target;
    } texts[] = {
        {"server", &cli->server},
        {"project", &cli->project},
        {"request-id", &cli->request_id},
        {"rank", &cli->rank},
        {"reason", &cli->reason},
        {"failures", &cli->failures},
        {"spec", &cli->spec},
        {"policy", &cli->policy},
        {"name", &cli->name},
        {"scores", &cli->scores},
        {"key", &cli->key},
        {"batch", &cli->batch},
        {"expected", &cli->expected},
        {"tolerance", &cli->tolerance},
        {"html", &cli->html},
        {"rows", &cli->rows},
    };
    const struct {
        const char *name;
        int *target;
    } switches[] = {{"wait", &cli->wait}, {"follow", &cli->follow}, {"no-input", &cli->no_input}, {"all", &cli->all}};
    const struct {
        const char *name;
        long *target;
    } counts[] = {{"limit", &cli->limit},
                  {"max-ranks", &cli->ranks_max},
                  {"min-ranks", &cli->ranks_min},
                  {"threads", &cli->threads}};
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        if (strcmp(texts[i].name, name) == 0) {
            *texts[i].target = value;
            return RMJ_OK;
        }
    }
    for (size_t i = 0; i < RMJ_COUNT(switches); i++) {
        if (strcmp(switches[i].name, name) == 0) {
            *switches[i].target = 1;
            return RMJ_OK;
        }
    }
    for (size_t i = 0; i < RMJ_COUNT(counts); i++) {
        if (strcmp(counts[i].name, name) == 0) {
            return parse_count(name, value, counts[i].target, err);
        }
    }
    if (strcmp(name, "output") == 0) {
        cli->json = strcmp(value, "json") == 0;
        if (!cli->json && strcmp(value, "text") != 0) {
            return rmj_fail(err, RMJ_INVALID, "--output is '%s'; it must be text or json", value);
        }
        return RMJ_OK;
    }
    RMJ_ASSERT(strcmp(name, "timeout") == 0);
    if (!rmj_text_parse_duration(value, &cli->timeout_ms) || cli->timeout_ms == 0) {
        return rmj_fail(err, RMJ_INVALID, "--timeout is '%s'; write a duration such as 90s, 30m or 2h", value);
    }
    return RMJ_OK;
}

// Of a verb, of a group of verbs by its first word, or of all.
static void help_with(const struct rmj_command *command, const char *first)
{
    if (command == NULL && is_group(first)) {
        print_group_help(first, stdout);
    } else {
        rmj_cli_help(command, stdout);
    }
}

static const struct rmj_command *find_command(const char *first, const char *second, int *words)
{
    for (size_t i = 0; i < rmj_command_count; i++) {
        const char *name = rmj_commands[i].words;
        const char *space = strchr(name, ' ');
        if (space == NULL && strcmp(name, first) == 0) {
            *words = 1;
            return &rmj_commands[i];
        }
        if (space != NULL && second != NULL && strlen(first) == (size_t)(space - name) &&
            strncmp(name, first, (size_t)(space - name)) == 0 && strcmp(space + 1, second) == 0) {
            *words = 2;
            return &rmj_commands[i];
        }
    }
    return NULL;
}

// The first word of a group of verbs, without one of them behind it.
static enum rmj_status unknown_in_group(const char *group, size_t length, const char *given, struct rmj_error *err)
{
    char verbs[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < rmj_command_count; i++) {
        const char *words = rmj_commands[i].words;
        if (strncmp(words, group, length) == 0 && words[length] == ' ' && used < sizeof verbs) {
            used += (size_t)snprintf(verbs + used, sizeof verbs - used, "%s`rmjob %s`", used > 0 ? " or " : "", words);
        }
    }
    return rmj_fail(err, RMJ_INVALID, "'%s' is not a verb; it is %s", given, verbs);
}

static enum rmj_status unknown_verb(const char *verb, const char *second, struct rmj_error *err)
{
    const char *names[RMJ_COUNT(rmj_commands)];
    char both[128];
    snprintf(both, sizeof both, "%s%s%s", verb, second != NULL ? " " : "", second != NULL ? second : "");
    for (size_t i = 0; i < rmj_command_count; i++) {
        names[i] = rmj_commands[i].words;
        size_t length = strlen(verb);
        if (strncmp(names[i], verb, length) == 0 && names[i][length] == ' ') {
            return unknown_in_group(verb, length, both, err);
        }
    }
    const char *near = rmj_text_nearest(verb, names, rmj_command_count);
    if (near != NULL) {
        return rmj_fail(err, RMJ_INVALID, "'%s' is not a verb; did you mean '%s'?", verb, near);
    }
    return rmj_fail(err, RMJ_INVALID, "'%s' is not a verb; see `rmjob --help`", verb);
}

static enum rmj_status unknown_flag(const struct rmj_command *command, const char *name, struct rmj_error *err)
{
    const char *names[RMJ_COUNT(rmj_flags)];
    size_t count = 0;
    for (size_t i = 0; i < rmj_flag_count; i++) {
        if (rmj_flags[i].global || has_word(command->flags, rmj_flags[i].name)) {
            names[count++] = rmj_flags[i].name;
        }
    }
    const char *near = rmj_text_nearest(name, names, count);
    return rmj_fail(err, RMJ_INVALID, "rmjob %s has no flag --%s%s%s%s", command->words, name,
                    near == NULL ? "" : "; did you mean --", near == NULL ? "" : near, near == NULL ? "" : "?");
}

static enum rmj_status parse_flag(struct rmj_cli *cli, const struct rmj_command *command, char **argv, int argc,
                                  int *at, struct rmj_error *err)
{
    const char *text = argv[*at] + 2;
    size_t length = strcspn(text, "=");
    const struct rmj_flag *flag = find_flag(text, length);
    if (flag == NULL || !(flag->global || has_word(command->flags, flag->name))) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)length, text);
        return unknown_flag(command, name, err);
    }
    const char *value = text[length] == '=' ? text + length + 1 : NULL;
    if (flag->argument == NULL && value != NULL) {
        return rmj_fail(err, RMJ_INVALID, "--%s takes no value", flag->name);
    }
    if (flag->argument != NULL && value == NULL) {
        if (*at + 1 >= argc) {
            return rmj_fail(err, RMJ_INVALID, "--%s needs %s", flag->name, flag->argument);
        }
        value = argv[++*at];
        // More likely forgotten than meant; --flag=--value says that it is meant.
        if (strncmp(value, "--", 2) == 0) {
            return rmj_fail(err, RMJ_INVALID, "--%s needs %s, and '%s' looks like a flag; write --%s=%s if it is meant",
                            flag->name, flag->argument, value, flag->name, value);
        }
    }
    return set_flag(cli, flag->name, value, err);
}

// Global flags may stand before the verb too: the verb is the first word that is neither a flag nor a flag's value.
static int verb_position(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            return i;
        }
        size_t length = strcspn(argv[i] + 2, "=");
        const struct rmj_flag *flag = find_flag(argv[i] + 2, length);
        i += flag != NULL && flag->argument != NULL && argv[i][2 + length] != '=';
    }
    return argc;
}

static int has_argument(int argc, char **argv, const char *flag)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            return 0;
        }
        if (strcmp(argv[i], flag) == 0) {
            return 1;
        }
    }
    return 0;
}

enum rmj_status rmj_cli_parse(struct rmj_cli *cli, int argc, char **argv, const struct rmj_command **out,
                              struct rmj_error *err)
{
    *out = NULL;
    int verb = verb_position(argc, argv);
    const char *second = verb + 1 < argc ? argv[verb + 1] : NULL;
    int words = 0;
    const struct rmj_command *command = verb < argc ? find_command(argv[verb], second, &words) : NULL;
    if (has_argument(argc, argv, "--version")) {
        printf("rmjob %s (protocol %d)\n", RMJ_VERSION, RMJ_PROTOCOL);
        return RMJ_OK;
    }
    if (verb < argc && strcmp(argv[verb], "help") == 0) {
        const char *third = verb + 2 < argc ? argv[verb + 2] : NULL;
        command = second == NULL ? NULL : find_command(second, third, &words);
        if (second != NULL && command == NULL && !is_group(second) && strncmp(second, "--", 2) != 0) {
            return unknown_verb(second, third, err);
        }
        help_with(command, second);
        return RMJ_OK;
    }
    if (has_argument(argc, argv, "--help") || has_argument(argc, argv, "-h")) {
        help_with(command, verb < argc ? argv[verb] : NULL);
        return RMJ_OK;
    }
    if (verb >= argc) {
        rmj_cli_help(NULL, stderr);
        return rmj_fail(err, RMJ_INVALID, "no verb given");
    }
    if (command == NULL) {
        return unknown_verb(argv[verb], second, err);
    }
    int only_positional = 0;
    for (int i = 1; i < argc; i++) {
        if (i >= verb && i < verb + words) {
            continue;
        }
        if (!only_positional && strcmp(argv[i], "--") == 0) {
            only_positional = 1;
        } else if (!only_positional && strncmp(argv[i], "--", 2) == 0) {
            RMJ_TRY(parse_flag(cli, command, argv, argc, &i, err));
        } else if (!only_positional && argv[i][0] == '-' && argv[i][1] != '\0') {
            return rmj_fail(err, RMJ_INVALID, "'%s' is not a flag; flags are written --name", argv[i]);
        } else if (cli->positional_count == command->positional_max) {
            return rmj_fail(err, RMJ_INVALID, "'%s' is one argument too many; usage: rmjob %s %s", argv[i],
                            command->words, command->arguments);
        } else {
            cli->positional[cli->positional_count++] = argv[i];
        }
    }
    if (cli->positional_count < command->positional_min) {
        return rmj_fail(err, RMJ_INVALID, "an argument is missing; usage: rmjob %s %s", command->words,
                        command->arguments);
    }
    *out = command;
    return RMJ_OK;
}
