// Promises of publication: what is visible is whole, signed and what was evaluated; a kill -9 anywhere is made good by
// doing it again; two publishers never get one number; what did not pass leaves nothing.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "proto/text/text_format.h"
#include "service/registry/publish.h"

static char directory[64], store_path[96], key_path[96];
static struct rmj_store *store;
static struct rmj_signing_key *key;
static struct rmj_artifact artifact;

static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};

// Everything a publisher is given, made once.
static char root_hex[RMJ_DIGEST_HEX_SIZE];
static Rmjob__V1__StagedFile files[3];
static Rmjob__V1__StagedFile *file_pointers[3];
static char hexes[3][RMJ_DIGEST_HEX_SIZE];
static Rmjob__V1__EvaluatedRequest delivered;
static Rmjob__V1__EvalReport evaluation;
static Rmjob__V1__GateVerdict verdict;
static Rmjob__V1__JobSpec spec;
static Rmjob__V1__JobReport report;

static void stage(const char *job, int upload)
{
    static char prefix[96];
    snprintf(prefix, sizeof prefix, "staged/%s/g1", job);
    rmjob__v1__evaluated_request__init(&delivered);
    memset(&artifact, 0, sizeof artifact);
    for (size_t i = 0; i < 3; i++) {
        char object[160], text[64];
        struct rmj_digest digest;
        int size = snprintf(text, sizeof text, "the bytes of %s", names[i]);
        snprintf(object, sizeof object, "%s/%s", prefix, names[i]);
        if (upload) {
            assert_int_equal(rmj_store_put(store, object, text, (size_t)size, RMJ_PUT_ANY, NULL, NULL), RMJ_OK);
        }
        rmj_sha256_of(text, (size_t)size, &digest);
        rmj_digest_hex(&digest, hexes[i]);
        assert_int_equal(rmj_artifact_add(&artifact, names[i], (uint64_t)size, &digest, NULL), RMJ_OK);
        rmjob__v1__staged_file__init(&files[i]);
        files[i].path = (char *)(uintptr_t)names[i];
        files[i].has_size = 1;
        files[i].size = (uint64_t)size;
        files[i].sha256 = hexes[i];
        file_pointers[i] = &files[i];
    }
    struct rmj_digest root;
    rmj_artifact_root(&artifact, &root);
    rmj_digest_hex(&root, root_hex);
    rmj_artifact_deinit(&artifact);
    delivered.staged_prefix = prefix;
    delivered.files = file_pointers;
    delivered.n_files = 3;
}

static void make_report(const char *job, int passed)
{
    static char name[] = "a-job";
    rmjob__v1__eval_report__init(&evaluation);
    rmjob__v1__gate_verdict__init(&verdict);
    rmjob__v1__job_spec__init(&spec);
    rmjob__v1__job_report__init(&report);
    spec.name = name;
    evaluation.artifact_digest = root_hex;
    verdict.has_passed = 1;
    verdict.passed = passed;
    report.job = (char *)(uintptr_t)job;
    report.spec = &spec;
    report.evaluation = &evaluation;
    report.verdict = &verdict;
}

static struct rmj_publish_request request_for(void)
{
    return (struct rmj_publish_request){.store = store,
                                        .store_url = store_path,
                                        .report = &report,
                                        .delivered = &delivered,
                                        .key = key,
                                        .name = "support-rm",
                                        .alias = "candidate",
                                        .now_unix_ms = 1700000000000};
}

static void open_all(int upload)
{
    snprintf(store_path, sizeof store_path, "%s/store", directory);
    snprintf(key_path, sizeof key_path, "%s/signing.pem", directory);
    assert_int_equal(rmj_store_open(&store, store_path, 1, NULL, NULL), RMJ_OK);
    assert_int_equal(rmj_signing_key_open(&key, key_path, 1, NULL), RMJ_OK);
    stage("rm-1", upload);
    make_report("rm-1", 1);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rmj-publish-XXXXXX");
    assert_non_null(mkdtemp(directory));
    open_all(1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rmj_store_close(store);
    rmj_signing_key_close(key);
    return rmj_fs_remove_tree(directory, NULL) == RMJ_OK ? 0 : 1;
}

static enum rmj_status publish(uint32_t *number, struct rmj_error *err)
{
    Rmjob__V1__ModelVersion *version = NULL;
    Rmjob__V1__Alias *alias = NULL;
    struct rmj_publish_request request = request_for();
    enum rmj_status status = rmj_registry_publish(&request, &version, &alias, err);
    if (status == RMJ_OK) {
        *number = version->version;
        assert_int_equal(alias->version, version->version);
        rmjob__v1__model_version__free_unpacked(version, NULL);
        rmjob__v1__alias__free_unpacked(alias, NULL);
    }
    return status;
}

static enum rmj_status count_key(void *context, const char *name, uint64_t size, int64_t modified_unix_ms,
                                 struct rmj_error *err)
{
    (void)name;
    (void)size;
    (void)modified_unix_ms;
    (void)err;
    (*(size_t *)context)++;
    return RMJ_OK;
}

static size_t count_below(const char *prefix)
{
    size_t count = 0;
    assert_int_equal(rmj_store_list(store, prefix, count_key, &count, NULL), RMJ_OK);
    return count;
}

// Every version that can be seen is complete, and verifies with the service's public key.
static uint32_t check_visible(void)
{
    uint32_t visible = 0;
    struct rmj_buf pem;
    rmj_buf_init(&pem, 65536);
    assert_int_equal(rmj_signing_key_public_pem(key, &pem, NULL), RMJ_OK);
    for (uint32_t number = 1; number < 6; number++) {
        char object[96], pulled[128];
        struct rmj_buf text;
        struct rmj_error err = {0};
        snprintf(object, sizeof object, "models/support-rm/%u.json", number);
        rmj_buf_init(&text, 1 << 20);
        if (rmj_store_get(store, object, &text, &err) == RMJ_OK) {
            Rmjob__V1__ModelVersion *version = NULL;
            struct rmj_text_result *result = rmj_text_result_create();
            assert_int_equal(rmj_json_parse(&rmjob__v1__model_version__descriptor, object, text.bytes, text.size,
                                            (ProtobufCMessage **)&version, result, &err),
                             RMJ_OK);
            rmj_text_result_destroy(result);
            assert_int_equal(version->n_files, 5);
            snprintf(pulled, sizeof pulled, "%s/store/%s", directory, version->prefix);
            if (rmj_artifact_verify(pulled, rmj_buf_text(&pem), &err) != RMJ_OK) {
                fail_msg("version %u: %s", number, err.message);
            }
            rmjob__v1__model_version__free_unpacked(version, NULL);
            visible++;
        }
        rmj_buf_deinit(&text);
    }
    rmj_buf_deinit(&pem);
    return visible;
}

static void what_passed_is_published_whole_and_signed(void **state)
{
    (void)state;
    uint32_t number = 0;
    struct rmj_error err = {0};
    assert_int_equal(publish(&number, &err), RMJ_OK);
    assert_int_equal(number, 1);
    assert_int_equal(check_visible(), 1);
    // Done again for the same job: the same version.
    assert_int_equal(publish(&number, &err), RMJ_OK);
    assert_int_equal(number, 1);
    // Another job: the next one.
    stage("rm-2", 1);
    make_report("rm-2", 1);
    assert_int_equal(publish(&number, &err), RMJ_OK);
    assert_int_equal(number, 2);
    assert_int_equal(check_visible(), 2);
    assert_int_equal(rmj_registry_unstage(store, "rm-1", &err), RMJ_OK);
    assert_int_equal(count_below("staged/rm-1/"), 0);
    assert_int_equal(count_below("staged/rm-2/"), 3);
    assert_int_equal(rmj_registry_unstage(store, "rm-1", &err), RMJ_OK);
}

static void what_failed_leaves_nothing_under_models(void **state)
{
    (void)state;
    uint32_t number = 0;
    struct rmj_error err = {0};
    verdict.passed = 0;
    assert_int_equal(publish(&number, &err), RMJ_GATE);
    assert_int_equal(count_below("models/"), 0);
}

static void a_staged_byte_that_changed_is_not_published(void **state)
{
    (void)state;
    uint32_t number = 0;
    struct rmj_error err = {0};
    assert_int_equal(rmj_store_put(store, "staged/rm-1/g1/model.safetensors", "the bytes of Model.safetensors", 30,
                                   RMJ_PUT_ANY, NULL, NULL),
                     RMJ_OK);
    assert_int_equal(publish(&number, &err), RMJ_CORRUPT);
    assert_non_null(strstr(err.message, "is not the file that was evaluated"));
    assert_int_equal(check_visible(), 0);
}

static void files_that_are_not_the_evaluated_directory_are_not_published(void **state)
{
    (void)state;
    uint32_t number = 0;
    struct rmj_error err = {0};
    delivered.n_files = 2; // one is left out: every digest holds, the root does not
    assert_int_equal(publish(&number, &err), RMJ_CORRUPT);
    assert_int_equal(check_visible(), 0);
    static char outside[] = "../../outside";
    delivered.n_files = 3;
    files[0].path = outside;
    assert_int_equal(publish(&number, &err), RMJ_CORRUPT);
    assert_non_null(strstr(err.message, "has the path"));
}

static void a_number_that_another_job_claimed_is_left_to_it(void **state)
{
    (void)state;
    uint32_t number = 0;
    struct rmj_error err = {0};
    assert_int_equal(rmj_store_put(store, "models/support-rm/claim/1", "rm-9", 4, RMJ_PUT_ANY, NULL, NULL), RMJ_OK);
    assert_int_equal(publish(&number, &err), RMJ_OK);
    assert_int_equal(number, 2);
}

// A publisher in a child that is killed at the n-th store request or at the commit; 1 when it lived to the end.
static int run_killed(const char *fault)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        // A program of its own: fault points read their setting once a process.
        setenv("RMJOB_FAULT", fault, 1);
        execl("/proc/self/exe", "test_publish", directory, (char *)NULL);
        _exit(9);
    }
    int code;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFEXITED(code) ? WEXITSTATUS(code) == 0 : WTERMSIG(code) == SIGKILL);
    return WIFEXITED(code);
}

static void kill_9_anywhere_is_made_good_by_the_next_try(void **state)
{
    (void)state;
    static const char *const points[] = {"store.put.before_visible", "publish.commit", "store.open"};
    int kills[RMJ_COUNT(points)] = {0};
    for (size_t p = 0; p < RMJ_COUNT(points); p++) {
        for (int at = 1, ended = 0; !ended; at++) {
            tear_down(NULL);
            set_up(NULL);
            char fault[64];
            snprintf(fault, sizeof fault, "%s@%d=kill", points[p], at);
            ended = run_killed(fault);
            kills[p] += !ended;
            assert_true(check_visible() <= 1);
            uint32_t number = 0;
            struct rmj_error err = {0};
            if (publish(&number, &err) != RMJ_OK) {
                fail_msg("%s: %s", fault, err.message);
            }
            assert_int_equal(number, 1); // the same one, never a second
            assert_int_equal(check_visible(), 1);
            assert_true(at < 100);
        }
    }
    // Claim, three copies, card, lineage, signature, version, alias.
    assert_true(kills[0] >= 6);
    assert_int_equal(kills[1], 1);
}

static void references_are_parsed_or_refused(void **state)
{
    (void)state;
    struct rmj_model_reference reference;
    assert_int_equal(rmj_model_reference_parse("support-rm", &reference, NULL), RMJ_OK);
    assert_int_equal(reference.version, 0);
    assert_int_equal(rmj_model_reference_parse("support-rm@3", &reference, NULL), RMJ_OK);
    assert_int_equal(reference.version, 3);
    assert_int_equal(rmj_model_reference_parse("support-rm@candidate", &reference, NULL), RMJ_OK);
    assert_string_equal(reference.alias, "candidate");
    static const char *const wrong[] = {"", "@x", "a/b", "../x", "a@", "a@-", "a@b/c", "1abc", "a@0", "a@b@c", "a..b"};
    for (size_t i = 0; i < RMJ_COUNT(wrong); i++) {
        assert_int_equal(rmj_model_reference_parse(wrong[i], &reference, NULL), RMJ_INVALID);
    }
    assert_int_equal(rmj_model_reference_parse(NULL, &reference, NULL), RMJ_INVALID);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        uint32_t number = 0;
        struct rmj_error err = {0};
        snprintf(directory, sizeof directory, "%s", argv[1]);
        open_all(0);
        return publish(&number, &err) == RMJ_OK ? 0 : 9;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_passed_is_published_whole_and_signed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_failed_leaves_nothing_under_models, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_staged_byte_that_changed_is_not_published, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_are_not_the_evaluated_directory_are_not_published, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_number_that_another_job_claimed_is_left_to_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kill_9_anywhere_is_made_good_by_the_next_try, set_up, tear_down),
        cmocka_unit_test(references_are_parsed_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
