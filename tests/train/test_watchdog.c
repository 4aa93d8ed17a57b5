/*
 * test_watchdog.c - who is named, and who is left alone, when ranks stand still.
 *
 * Every rank is a child process that plays a part; what its watchdog says comes back
 * through a pipe.
 *
 * simile-test: timeout 240 alone labels tsan
 */
#include "simile_test.h"

#include "watchdog.h"

#include "simile/beat.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 3, TEXT = 4096 };

static const double hang_s = 2.4;
static char folder[64];

static void pause_s(double seconds)
{
    (void)usleep((useconds_t)(1e6 * seconds));
}

/* ---- a rank ---- */

static void tell(void *ctx, sim_hang event, const char *text)
{
    static const char *const names[] = {
        [SIM_HANG_FEARED] = "FEARED", [SIM_HANG_OVER] = "OVER", [SIM_HANG_SURE] = "SURE"};
    char line[TEXT];
    int n = snprintf(line, sizeof line, "%s %s\n", names[event], text);
    if (write(*(int *)ctx, line, (size_t)n) != n || event == SIM_HANG_SURE)
        _exit(70);
}

static void be(int rank, int fd, void (*play)(int rank))
{
    char host[16];
    sim_watchdog *w = NULL;
    sim_watchdog_options options = {.folder = folder,
                                    .host = host,
                                    .rank = rank,
                                    .size = RANKS,
                                    .hang_s = hang_s,
                                    .tell = tell,
                                    .ctx = &fd};
    (void)snprintf(host, sizeof host, "node%d", rank);
    sim_beat_step(7);
    sim_beat_phase("forward");
    if (sim_watchdog_start(&options, &w) != SIM_OK)
        _exit(1);
    play(rank);
    sim_watchdog_stop(&w);
    _exit(w ? 1 : 0);
}

typedef struct {
    char said[RANKS][TEXT];
    int code[RANKS]; /* of the exit; -1: it had to be killed */
} outcome;

/* The exit code of a child, or -1 when it does not end in time. */
static int code_of(pid_t pid, double patience_s)
{
    int status = 0;
    for (double s = 0; s < patience_s; s += 0.02) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
        pause_s(0.02);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

static void read_all(int fd, char out[TEXT])
{
    size_t used = 0;
    ssize_t n = 0;
    while (used < TEXT - 1 && (n = read(fd, out + used, TEXT - 1 - used)) > 0)
        used += (size_t)n;
    out[used] = '\0';
    (void)close(fd);
}

/* All ranks play; `meddle` may do something to them from outside.  The one that
 * stops itself (-1: none) is killed once the others have ended. */
static outcome perform(void (*play)(int rank), int stopped,
                       void (*meddle)(const pid_t *pids))
{
    outcome o;
    pid_t pids[RANKS];
    int fds[RANKS][2];

    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(pipe(fds[r]), 0);
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r] == 0)
            be(r, fds[r][1], play);
        (void)close(fds[r][1]);
    }
    if (meddle)
        meddle(pids);
    for (int r = 0; r < RANKS; r++)
        if (r != stopped)
            o.code[r] = code_of(pids[r], 10 * hang_s);
    if (stopped >= 0)
        o.code[stopped] = code_of(pids[stopped], 0);
    for (int r = 0; r < RANKS; r++)
        read_all(fds[r][0], o.said[r]);
    return o;
}

static void expect_text(const char *said, const char *text)
{
    if (!strstr(said, text))
        fail_msg("\"%s\" lacks \"%s\"", said, text);
}

static void expect_silence(const outcome *o)
{
    for (int r = 0; r < RANKS; r++)
        if (o->said[r][0] || o->code[r] != 0)
            fail_msg("rank %d, code %d, said: %s", r, o->code[r], o->said[r]);
}

/* ---- the tests ---- */

/* In an exchange that takes so long. */
static void exchange(double seconds)
{
    sim_beat_phase("gradient sum");
    sim_beat_exchange();
    pause_s(seconds);
    sim_beat_exchange();
}

static void one_is_stopped(int rank)
{
    if (rank == 1)
        (void)raise(SIGSTOP);
    exchange(3 * hang_s);
}

static void a_stopped_rank_is_named(void **state)
{
    (void)state;
    const outcome o = perform(one_is_stopped, 1, NULL);
    assert_int_equal(o.code[0], 70);
    assert_int_equal(o.code[1], -1);
    expect_text(o.said[0], "FEARED no rank got anything done for ");
    const char *sure = strstr(o.said[0], "SURE ");
    assert_non_null(sure);
    expect_text(sure, "rank 1 on node1 (pid ");
    expect_text(sure, "is behind: not heard from for ");
    expect_text(sure, "last seen in step 7, forward; ");
    expect_text(sure, "the other 2 ranks wait in step 7, gradient sum");
    assert_null(strstr(sure, "rank 2"));
    assert_null(strstr(o.said[2], "FEARED")); /* one speaks for all */
}

static void the_first_is_stopped(int rank)
{
    if (rank == 0)
        (void)raise(SIGSTOP);
    exchange(3 * hang_s);
}

static void another_speaks_when_the_first_is_stopped(void **state)
{
    (void)state;
    const outcome o = perform(the_first_is_stopped, 0, NULL);
    assert_int_equal(o.code[0], -1);
    assert_int_equal(o.code[1], 70);
    expect_text(o.said[1], "SURE ");
    expect_text(o.said[1], "rank 0 on node0");
}

static void one_has_lost_its_way(int rank)
{
    if (rank != 2) {
        exchange(3 * hang_s);
        return;
    }
    sim_beat_phase("waiting for data");
    pause_s(3 * hang_s);
}

static void a_rank_that_lives_but_is_behind_is_named_with_its_phase(void **state)
{
    (void)state;
    const outcome o = perform(one_has_lost_its_way, -1, NULL);
    assert_int_equal(o.code[0], 70);
    const char *sure = strstr(o.said[0], "SURE ");
    assert_non_null(sure);
    expect_text(sure, "rank 2 on node2 (pid ");
    expect_text(sure, "is behind: step 7, waiting for data; the other 2 ranks wait in ");
}

static void all_wait(int rank)
{
    (void)rank;
    exchange(3 * hang_s);
}

static void nobody_is_named_when_all_wait_in_one_exchange(void **state)
{
    (void)state;
    const outcome o = perform(all_wait, -1, NULL);
    assert_int_equal(o.code[0], 70);
    expect_text(o.said[0], "all ranks wait for each other in step 7, gradient sum");
    assert_null(strstr(o.said[0], "behind"));
}

static void one_is_slow(int rank)
{
    if (rank != 1) {
        exchange(3 * hang_s);
        return;
    }
    for (int i = 0; i < 30; i++) {
        pause_s(hang_s / 10);
        sim_beat();
    }
}

static void a_slow_rank_is_waited_for(void **state)
{
    (void)state;
    const outcome o = perform(one_is_slow, -1, NULL);
    expect_silence(&o);
}

static void all_are_short(int rank)
{
    (void)rank;
    exchange(0.8 * hang_s);
    for (int i = 0; i < 10; i++) {
        pause_s(hang_s / 20);
        sim_beat();
    }
}

static void a_fear_that_was_wrong_is_taken_back(void **state)
{
    (void)state;
    const outcome o = perform(all_are_short, -1, NULL);
    const char *feared = strstr(o.said[0], "FEARED");
    assert_non_null(feared);
    expect_text(feared, "OVER ");
    for (int r = 0; r < RANKS; r++) {
        assert_null(strstr(o.said[r], "SURE"));
        assert_int_equal(o.code[r], 0);
    }
}

/* Quiet for 0.7 of the limit, in short sleeps: a long one would be over after a stop. */
static void all_are_quiet(int rank)
{
    (void)rank;
    sim_beat_exchange();
    for (int i = 0; i < 14; i++)
        pause_s(hang_s / 20);
    sim_beat_exchange();
}

static void suspend_all(const pid_t *pids)
{
    pause_s(0.45 * hang_s); /* by now they watch each other */
    for (int r = 0; r < RANKS; r++)
        (void)kill(pids[r], SIGSTOP);
    pause_s(1.5 * hang_s);
    for (int r = 0; r < RANKS; r++)
        (void)kill(pids[r], SIGCONT);
}

static void a_job_that_was_suspended_as_a_whole_goes_on(void **state)
{
    (void)state;
    const outcome o = perform(all_are_quiet, -1, suspend_all);
    for (int r = 0; r < RANKS; r++) {
        assert_null(strstr(o.said[r], "SURE"));
        assert_int_equal(o.code[r], 0);
    }
}

static void a_muted_thread_does_not_beat(void **state)
{
    (void)state;
    sim_beats before = sim_beats_now();
    sim_beat();
    sim_beat_exchange();
    sim_beats after = sim_beats_now();
    assert_int_equal(after.beats - before.beats, 2);
    assert_int_equal(after.place - before.place, 1);
    pid_t child = fork(); /* the mute is for the thread's life */
    if (child == 0) {
        sim_beat_mute();
        sim_beat();
        _exit(sim_beats_now().beats == after.beats ? 0 : 1);
    }
    assert_int_equal(code_of(child, 10), 0);
}

static void without_its_folder_it_does_not_start(void **state)
{
    (void)state;
    sim_watchdog *w = NULL;
    const sim_watchdog_options options = {.folder = "/nowhere/heartbeat",
                                          .host = "node0",
                                          .size = 1,
                                          .hang_s = 1,
                                          .tell = tell};
    ASSERT_REFUSED(sim_watchdog_start(&options, &w), SIM_E_CREATE,
                   "/nowhere/heartbeat/rank-0: cannot be opened");
    assert_null(w);
    sim_watchdog_stop(&w); /* accepts NULL */
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/simile-watchdog-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stopped_rank_is_named),
        cmocka_unit_test(another_speaks_when_the_first_is_stopped),
        cmocka_unit_test(a_rank_that_lives_but_is_behind_is_named_with_its_phase),
        cmocka_unit_test(nobody_is_named_when_all_wait_in_one_exchange),
        cmocka_unit_test(a_slow_rank_is_waited_for),
        cmocka_unit_test(a_fear_that_was_wrong_is_taken_back),
        cmocka_unit_test(a_job_that_was_suspended_as_a_whole_goes_on),
        cmocka_unit_test(a_muted_thread_does_not_beat),
        cmocka_unit_test(without_its_folder_it_does_not_start),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
