// The directory of a preparation is held by one process at a time, outlives it, and is there again for the next one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "trainer/run/work.h"

static char base[64];

static int make_base(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/rmjob-test-work-XXXXXX");
    return mkdtemp(base) == NULL || setenv("TMPDIR", base, 1) != 0;
}

static int remove_base(void **state)
{
    (void)state;
    return rmj_fs_remove_tree(base, NULL) != RMJ_OK;
}

// A child that holds the directory until it is told to end by its pipe, and removes it then if asked to.
static pid_t hold_elsewhere(const char *uid, int removes, int *end)
{
    int ready[2], told[2];
    char byte, path[256];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(told[1]);
        int fd = rmj_work_hold(uid, path, sizeof path, 0, NULL);
        int good = fd >= 0 && write(ready[1], "r", 1) == 1 && read(told[0], &byte, 1) == 0;
        good = good && (!removes || rmj_fs_remove_tree(path, NULL) == RMJ_OK);
        _exit(!good);
    }
    close(told[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *end = told[1];
    return child;
}

static void another_one_is_waited_for(void **state)
{
    (void)state;
    for (int removes = 0; removes < 2; removes++) {
        char path[256];
        int end, code;
        struct rmj_error err = {0};
        pid_t child = hold_elsewhere("job/1", removes, &end);
        assert_int_equal(rmj_work_hold("job/1", path, sizeof path, 0, &err), -1);
        assert_int_equal(err.status, RMJ_AGAIN);
        assert_non_null(strstr(err.message, "another process prepares this job in "));
        close(end);
        int fd = rmj_work_hold("job/1", path, sizeof path, 30000, &err);
        assert_true(fd >= 0);
        assert_true(rmj_fs_exists(path)); // also when the other one removed it while we waited
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_int_equal(code, 0);
        close(fd);
    }
}

static void what_nobody_came_back_for_goes(void **state)
{
    (void)state;
    char old[256], held[256], fresh[256], next[256];
    struct utimbuf long_ago = {.actime = time(NULL) - 100000, .modtime = time(NULL) - 100000};
    int fd = rmj_work_hold("old", old, sizeof old, 0, NULL), live = rmj_work_hold("held", held, sizeof held, 0, NULL);
    close(rmj_work_hold("fresh", fresh, sizeof fresh, 0, NULL));
    close(fd);
    assert_int_equal(utime(old, &long_ago), 0);
    assert_int_equal(utime(held, &long_ago), 0);
    fd = rmj_work_hold("next", next, sizeof next, 0, NULL);
    assert_true(fd >= 0 && live >= 0);
    assert_false(rmj_fs_exists(old));
    assert_true(rmj_fs_exists(held));
    assert_true(rmj_fs_exists(fresh));
    close(fd);
    close(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_one_is_waited_for),
        cmocka_unit_test(what_nobody_came_back_for_goes),
    };
    return cmocka_run_group_tests_name("work", tests, make_base, remove_base);
}
