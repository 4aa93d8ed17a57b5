/*
 * test_compare_mpi.c - comparison of texts and files over 1 to 4 ranks.
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <unistd.h>

static const sim_comm *comm;

static const char common[] = "batch: 32\nmethod.name: simclr\nseed: 1\n";

/* Compares `other` on one rank with `common` on all others. */
static sim_status compare_on(int rank, const char *other)
{
    return sim_comm_compare(comm, SIM_E_CONFIG, "job.yaml",
                            comm->rank == rank ? other : common, "run the same job");
}

static void equal_texts_pass(void **state)
{
    (void)state;
    ASSERT_OK(compare_on(-1, ""));
    ASSERT_OK(sim_comm_compare(comm, SIM_E_CONFIG, "nothing", "", "rule"));
}

/* The first line that differs, the lowest rank, and the rule are in the message of every rank. */
static void first_difference_is_reported(void **state)
{
    static const struct {
        const char *text, *own, *of_rank_0;
    } cases[] = {{"batch: 32\nmethod.name: dcl\nseed: 2\n", "\"method.name: dcl\"",
                  "\"method.name: simclr\""},
                 {"batch: 32\nmethod.name: simclr\nseed: 1\nthreads: 2\n",
                  "\"threads: 2\"", "\"\""},
                 {"batch: 32\nmethod.name: simclr\n", "\"\"", "\"seed: 1\""},
                 {"", "\"\"", "\"batch: 32\""}};

    (void)state;
    for (int rank = 1; rank < comm->size; rank++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            char begin[300];
            (void)snprintf(begin, sizeof begin, "rank %d on %s: job.yaml: ", rank,
                           comm->host);
            assert_int_equal(compare_on(rank, cases[i].text), SIM_E_CONFIG);
            assert_ptr_equal(strstr(sim_error_message(), begin), sim_error_message());
            assert_non_null(strstr(sim_error_message(), cases[i].own));
            assert_non_null(strstr(sim_error_message(), cases[i].of_rank_0));
            assert_non_null(strstr(sim_error_message(), "run the same job"));
            sim_error_clear();
        }
}

/* Rank 0 differs from all others: reported by the lowest of them. */
static void rank_0_is_the_reference(void **state)
{
    (void)state;
    if (comm->size == 1)
        return;
    assert_int_equal(compare_on(0, "batch: 64\n"), SIM_E_CONFIG);
    assert_non_null(strstr(sim_error_message(), "rank 1 on "));
    sim_error_clear();
}

/* A difference in the middle of a long line is shown. */
static void long_lines_are_cut(void **state)
{
    char own[5000];

    (void)state;
    memset(own, 'x', sizeof own - 1);
    own[sizeof own - 1] = '\0';
    own[3000] = comm->rank == 0 ? 'a' : 'b';
    if (comm->size == 1)
        return;
    assert_int_equal(sim_comm_compare(comm, SIM_E_DATA, "text", own, "rule"), SIM_E_DATA);
    assert_non_null(strstr(sim_error_message(), "xbx"));
    assert_non_null(strstr(sim_error_message(), "xax"));
    assert_true(strlen(sim_error_message()) < 800);
    sim_error_clear();
}

static void write_own_file(const char *path, const char *text)
{
    const sim_piece piece = {text, strlen(text)};
    ASSERT_OK(sim_file_replace(path, &piece, 1));
}

static void files_are_compared_by_content(void **state)
{
    char path[64];

    (void)state;
    (void)snprintf(path, sizeof path, "compare-%d.txt", comm->rank);
    write_own_file(path, "equal");
    ASSERT_OK(sim_comm_compare_file(comm, path));
    write_own_file(path, comm->rank == comm->size - 1 ? "equal " : "equal");
    if (comm->size > 1) {
        assert_int_equal(sim_comm_compare_file(comm, path), SIM_E_DATA);
        sim_error_clear();
    }
    (void)unlink(path);
    sim_comm_barrier(comm);
    if (comm->size > 1) {
        assert_int_equal(sim_comm_compare_file(comm, path), SIM_E_INPUT);
        sim_error_clear();
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_texts_pass),
                                       cmocka_unit_test(first_difference_is_reported),
                                       cmocka_unit_test(rank_0_is_the_reference),
                                       cmocka_unit_test(long_lines_are_cut),
                                       cmocka_unit_test(files_are_compared_by_content)};

    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed;
}
