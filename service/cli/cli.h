// The command line, inside. Every verb is a row of one table (commands.c), which also makes --help.
//
// stdout carries the result, stderr the talk. Colour and progress only on a terminal.
#ifndef RMJ_SERVICE_CLI_CLI_H
#define RMJ_SERVICE_CLI_CLI_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/registry.pb-c.h"
#include "proto/rpc/client.h"
#include "proto/text/text_format.h"

#define RMJ_CLI_POSITIONAL_MAX 4
#define RMJ_CLI_DEADLINE_MS 30000

// What the flags said. One struct for all verbs: a verb's row says which flags it takes.
struct rmj_cli {
    // global
    const char *server;
    const char *project;
    int json;
    int64_t timeout_ms;
    int no_input;
    // by verb
    int wait, follow;
    const char *spec, *policy, *key, *failures, *scores, *reason, *request_id, *rank, *name;
    const char *batch, *expected, *tolerance, *rows, *html;
    int all;
    long ranks_max, ranks_min, limit, threads;
    const char *positional[RMJ_CLI_POSITIONAL_MAX];
    int positional_count;
    // made when first needed
    struct rmj_rpc_client *client;
    Rmjob__V1__ServerInfo *info;
    int colour_out, colour_err;
};

typedef enum rmj_status (*rmj_cli_run_fn)(struct rmj_cli *cli, struct rmj_error *err);

struct rmj_command {
    const char *words;     // "submit", "policy get"
    const char *arguments; // "SPEC"
    int positional_min, positional_max;
    const char *flags; // space-separated names of rmj_flags
    rmj_cli_run_fn run;
    const char *summary;
    const char *example;
};
extern const struct rmj_command rmj_commands[];
extern const size_t rmj_command_count;

struct rmj_flag {
    const char *name;     // without dashes
    const char *argument; // NULL for a switch
    const char *help;
    int global;
};
extern const struct rmj_flag rmj_flags[];
extern const size_t rmj_flag_count;

// Parses argv into cli and finds the command; RMJ_INVALID with "did you mean". *command NULL with RMJ_OK: help was
// printed.
enum rmj_status rmj_cli_parse(struct rmj_cli *cli, int argc, char **argv, const struct rmj_command **command,
                              struct rmj_error *err);
// command NULL: of all verbs.
void rmj_cli_help(const struct rmj_command *command, FILE *out);

// connect.c
enum rmj_status rmj_cli_connect(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cli_call(struct rmj_cli *cli, const char *method, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *reply_descriptor, ProtobufCMessage **reply,
                             ProtobufCMessage **findings, struct rmj_error *err);
const char *rmj_cli_server_address(const struct rmj_cli *cli);
// Path of the file that keeps the service's public key for this server; free() it.
char *rmj_cli_pin_path(const struct rmj_cli *cli);
// The pinned key, fetched and pinned when it is not there yet.
enum rmj_status rmj_cli_pinned_key(struct rmj_cli *cli, struct rmj_buf *pem, struct rmj_error *err);

// spec_file.c: reads YAML or JSON ("-" is stdin), makes relative local paths absolute against the file's directory.
enum rmj_status rmj_cli_read_file(const char *path, size_t size_max, struct rmj_buf *out, struct rmj_error *err);
enum rmj_status rmj_cli_read_message(const ProtobufCMessageDescriptor *descriptor, const char *path,
                                     ProtobufCMessage **message, struct rmj_text_result *positions,
                                     struct rmj_error *err);
enum rmj_status rmj_cli_read_spec(const char *path, Rmjob__V1__JobSpec **spec, struct rmj_text_result *positions,
                                  struct rmj_error *err);
// What `rmjob init` writes.
const char *rmj_cli_spec_template(void);
// Whether a string field of JobSpec, by its dotted path without indices, is a path; -1 when it is not known.
int rmj_cli_is_path_field(const char *field);
// Prints findings with file:line:column; returns the exit class of the worst error, RMJ_OK when there are only
// warnings.
enum rmj_status rmj_cli_print_findings(const char *file, const struct rmj_text_result *positions,
                                       Rmjob__V1__Finding *const *findings, size_t count, struct rmj_error *err);

// output.c
void rmj_cli_print_json(const ProtobufCMessage *message);
// One JSON object of texts: names and values in turn, up to a NULL name. For results that are no message.
void rmj_cli_print_json_texts(const char *name, ...) __attribute__((sentinel));
const char *rmj_cli_state_name(Rmjob__V1__JobState state);
int rmj_cli_state_is_final(Rmjob__V1__JobState state);
// RMJ_OK, RMJ_GATE, RMJ_DATA, ... with the job's reason as message.
enum rmj_status rmj_cli_state_status(const Rmjob__V1__Job *job, struct rmj_error *err);
void rmj_cli_print_job(const Rmjob__V1__Job *job, FILE *out, int colour);
// What was pinned by digest, as far as it is known; nothing when nothing is.
void rmj_cli_print_pinned(const Rmjob__V1__PlanSummary *pinned, FILE *out);
// Whether it is one of the six categories of RewardBench 2.
int rmj_cli_is_category(const char *name);
void rmj_cli_print_progress(const Rmjob__V1__Job *job, struct rmj_buf *out);
void rmj_cli_format_time(char *out, size_t size, int64_t unix_ms);

// follow.c
// Follows a job to its end on `out`; returns RMJ_OK when it ended well, else as rmj_cli_state_status.
enum rmj_status rmj_cli_follow(struct rmj_cli *cli, const char *job, FILE *out, struct rmj_error *err);

// verbs
enum rmj_status rmj_cmd_init(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_validate(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_spec_explain(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_submit(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_get(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_list(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_watch(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_logs(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_explain(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_cancel(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_resize(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_report(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_gate(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_evaluate(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_policy_get(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_policy_set(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_models(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_pull(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_verify(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_doctor(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_model_verify(struct rmj_cli *cli, struct rmj_error *err);
enum rmj_status rmj_cmd_data_show(struct rmj_cli *cli, struct rmj_error *err);

#endif
