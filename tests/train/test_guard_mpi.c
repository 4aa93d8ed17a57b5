/*
 * simile-test: timeout 120
 * test_guard_mpi.c - the guards of a run on 1 to 4 ranks: a flipped bit in the state of one rank
 * is found, the rank is named and no checkpoint is written; all ranks count the same exchanges.
 *
 * A callback flips the bit.
 */
#include "simile_test.h"

#include "small_job.h"
#include "state.h"

#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>

enum { FLIP_AFTER = 5 };

/* ---- the fault ---- */

typedef enum { NOTHING, WEIGHT, STATISTIC, MOMENTUM, NORMALIZATION, JOB } fault_place;

static struct {
    fault_place where;
    int rank;
    char name[192]; /* of the tensor, on that rank */
} fault;

static struct {
    uint64_t exchanges;
    sim_hash weights;
} seen[STEPS + 1];

/* Flips a bit of the tensor's last number, once. */
static sim_status flip(void *ctx, const char *group, const sim_tensor *t)
{
    const size_t last = (sim_tensor_count(t) - 1) * sizeof(uint32_t);
    uint32_t word;
    (void)ctx;
    if (fault.name[0] || t->type != SIM_F32)
        return SIM_OK;
    (void)snprintf(fault.name, sizeof fault.name, "%s/%s", group, t->name);
    memcpy(&word, (char *)t->data + last, sizeof word);
    word ^= (uint32_t)1 << 20;
    memcpy((char *)t->data + last, &word, sizeof word);
    return SIM_OK;
}

static sim_status add_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    sim_hasher_add(ctx, t->data, sim_tensor_count(t) * sim_type_bytes(t->type));
    return SIM_OK;
}

static sim_status after_step(void *ctx, const sim_train_state *t, sim_stream *stream)
{
    sim_status st = SIM_OK;
    const sim_visitor flipping = {.visit = flip};
    const sim_visitor hashing = {.visit = add_tensor, .ctx = ctx};
    (void)stream;

    if (t->progress.at.step == FLIP_AFTER && comm->rank == fault.rank) {
        if (fault.where == WEIGHT)
            SIM_TRY(sim_method_visit_weights(&t->learner.method, &flipping));
        if (fault.where == STATISTIC)
            SIM_TRY(sim_method_visit_buffers(&t->learner.method, &flipping));
        if (fault.where == MOMENTUM)
            SIM_TRY(sim_optimizer_visit(t->learner.optimizer, &flipping));
        if (fault.where == NORMALIZATION)
            SIM_TRY(sim_augment_visit(t->feed.augment, "inputs", &flipping));
        if (fault.where == JOB) {
            t->env.request->texts->of_all_ranks[0] ^= 1;
            (void)snprintf(fault.name, sizeof fault.name, "inputs/job");
        }
    }
    sim_hasher_reset(ctx);
    SIM_TRY(sim_method_visit_weights(&t->learner.method, &hashing));
    seen[t->progress.at.step].weights = sim_hasher_value(ctx);
    seen[t->progress.at.step].exchanges = sim_heartbeat_now().exchanges;
done:
    return st;
}

static sim_status train(void)
{
    sim_hasher *h = NULL;
    ASSERT_OK(sim_hasher_create(&h));
    const sim_train_callback callback = {.ctx = h, .after_step = after_step};
    static char empty[] = "";
    char keys[] = "batch: 8\n";
    const sim_job_texts texts = {empty, empty, empty, keys};
    const sim_train_request request = {.job = &job,
                                       .texts = &texts,
                                       .build = "test",
                                       .kernels = sim_kernels_name(),
                                       .arithmetic = sim_kernels_arithmetic(),
                                       .stop_after = -1,
                                       .callbacks = &callback,
                                       .n_callbacks = 1};
    memset(seen, 0, sizeof seen);
    fault.name[0] = '\0';
    sim_status st = sim_train(comm, &request);
    sim_hasher_destroy(&h);
    return st;
}

static void make_small(const char *run)
{
    make_job(sim_methods_find("simclr"), run);
    job.encoder.width = 0.0625;
    job.augment.size = 8;
}

/* ---- the tests ---- */

static void check_message(const char *text)
{
    if (!strstr(sim_error_message(), text))
        fail_msg("\"%s\" does not contain \"%s\"", sim_error_message(), text);
}

/* Of several ranks the differing one is named, of two both. */
static void check_names(int after)
{
    char text[1024];

    if (comm->size == 2)
        (void)snprintf(text, sizeof text,
                       "rank 0 on %s, rank 1 on %s: states differ after step "
                       "%d, ",
                       comm->host, comm->host, after);
    else
        (void)snprintf(
            text, sizeof text,
            "rank %d on %s: state differs from the other %d ranks after step %d, ",
            fault.rank, comm->host, comm->size - 1, after);
    assert_ptr_equal(strstr(sim_error_message(), text), sim_error_message());
    check_message("/checkpoints is good");
    sim_comm_broadcast(comm, fault.rank, fault.name, sizeof fault.name);
    check_message("first in ");
    check_message(fault.name);
}

static int64_t newest(void)
{
    sim_checkpoint *k = NULL;
    ASSERT_OK(sim_checkpoint_newest(comm, job.train.run, &k));
    int64_t step = sim_checkpoint_head_of(k)->step;
    sim_checkpoint_close(&k);
    return step;
}

static sim_hash undisturbed; /* weights at the end of a run without a fault */

static void train_undisturbed(void)
{
    make_small("undisturbed");
    fault.where = NOTHING;
    ASSERT_OK(train());
    undisturbed = seen[STEPS].weights;
}

/* With the fault, the run ends after step `found`, and its newest checkpoint is of step `left`.
 * Without it, the next start ends with the weights of an undisturbed run. */
static void check_fault(const char *run, int64_t check_steps, int64_t save_steps,
                        int found, int left)
{
    make_small(run);
    job.train.check_steps = check_steps;
    job.train.checkpoint.every_steps = save_steps;
    if (comm->size == 1) {
        ASSERT_OK(train()); /* no other rank to compare with */
        return;
    }
    assert_int_equal(train(), SIM_E_BUG);
    check_names(found);
    assert_int_equal(newest(), left);
    fault.where = NOTHING;
    ASSERT_OK(train());
    assert_true(sim_hash_equal(undisturbed, seen[STEPS].weights));
}

static void a_flipped_bit_is_found_and_its_rank_named(void **state)
{
    (void)state;
    train_undisturbed();
    for (int r = 0; r<comm->size; r += comm->size> 1 ? comm->size - 1 : 1) {
        char run[32];
        (void)snprintf(run, sizeof run, "weight-%d", r);
        fault.where = WEIGHT;
        fault.rank = r;
        check_fault(run, 4, 0, 8, 0);
    }
}

static void check_last_rank(fault_place where, const char *run)
{
    fault.rank = comm->size - 1;
    fault.where = where;
    check_fault(run, 5, 0, FLIP_AFTER, 0);
}

static void batch_norm_and_optimizer_state_are_compared(void **state)
{
    (void)state;
    check_last_rank(STATISTIC, "statistic");
    check_last_rank(MOMENTUM, "momentum");
}

static void normalization_and_job_are_compared(void **state)
{
    (void)state;
    check_last_rank(NORMALIZATION, "normalization");
    check_last_rank(JOB, "job");
}

static void no_checkpoint_of_a_differing_state_is_written(void **state)
{
    (void)state;
    fault.rank = comm->size - 1;
    fault.where = WEIGHT;
    check_fault("save", 0, 3, 6, 3);
    fault.where = WEIGHT;
    check_fault("last", 0, 0, STEPS, 0);
}

/* ---- collapse ---- */

static double embedding_std_reported; /* of 1/sqrt(d); from step 5 on */
static int64_t calls;

static void report_narrow_embeddings(void *self, const sim_method_batch *batch,
                                     sim_loss_report *report, float *grads)
{
    const sim_method_row *row = sim_methods_find("simclr");
    row->loss(self, batch, report, grads);
    if (++calls >= 5)
        report->embedding_std =
            embedding_std_reported / sqrt((double)row->embeddings(self).dim);
}

static sim_status train_narrow(const char *run, double embedding_std, const char *what)
{
    static sim_method_row wrapped;
    wrapped = *sim_methods_find("simclr");
    wrapped.loss = report_narrow_embeddings;
    make_small(run);
    job.method = &wrapped;
    job.train.log_every_steps = 2;
    job.train.checkpoint.every_steps = 2;
    job.train.collapse = sim_choices_find("warn|stop|off", what);
    embedding_std_reported = embedding_std;
    calls = 0;
    fault.where = NOTHING;
    return train();
}

/* Occurrences of the text in the log of the run. */
static int count_in_log(const char *run, const char *text)
{
    char path[128], *log = NULL;
    size_t n_bytes = 0;
    int n = 0;
    sim_comm_barrier(comm);
    (void)snprintf(path, sizeof path, "%s/%s/log.txt", directory, run);
    ASSERT_OK(sim_file_load(path, 1 << 20, &log, &n_bytes));
    for (const char *at = log; (at = strstr(at, text)) != NULL; at++)
        n++;
    sim_free(log);
    return n;
}

static void a_collapse_is_reported_once(void **state)
{
    (void)state;
    ASSERT_OK(train_narrow("narrow", 0.099, "warn"));
    assert_int_equal(count_in_log("narrow", "warning: the embeddings collapsed"), 1);
    assert_int_equal(count_in_log("narrow", "after step 6;"), 1);
    ASSERT_OK(train_narrow("wide", 0.101, "warn"));
    assert_int_equal(count_in_log("wide", "the embeddings collapsed"), 0);
    ASSERT_OK(train_narrow("off", 0.01, "off"));
    assert_int_equal(count_in_log("off", "the embeddings collapsed"), 0);
}

static void a_collapse_ends_the_run_if_requested(void **state)
{
    (void)state;
    ASSERT_REFUSED(train_narrow("end", 0.099, "stop"), SIM_E_BUG,
                   "Checkpoints up to step 4 ");
    assert_int_equal(newest(), 4);
    assert_int_equal(count_in_log("end", "warning: the embeddings"), 0);
}

static void all_ranks_count_the_same_exchanges(void **state)
{
    int64_t least[STEPS + 1], most[STEPS + 1];
    (void)state;
    make_small("count");
    job.train.check_steps = 3;
    job.train.checkpoint.every_steps = 4;
    fault.where = NOTHING;
    ASSERT_OK(train());
    for (int s = 1; s <= STEPS; s++)
        least[s] = most[s] = (int64_t)seen[s].exchanges;
    sim_comm_min_i64(comm, least + 1, STEPS);
    sim_comm_max_i64(comm, most + 1, STEPS);
    for (int s = 1; s <= STEPS; s++) {
        assert_int_equal(least[s], most[s]);
        assert_int_equal(least[s] % 2, 0); /* a callback is not inside an exchange */
        assert_true(s == 1 || least[s] > least[s - 1] || comm->size == 1);
    }
}

static void the_watchdog_removes_its_heartbeats(void **state)
{
    char path[128];
    sim_names names = {0};
    (void)state;
    sim_comm_barrier(comm);
    (void)snprintf(path, sizeof path, "%s/undisturbed/heartbeat", directory);
    ASSERT_OK(sim_directory_list(path, &names));
    assert_int_equal(names.n, 0);
    sim_names_clear(&names);
    make_small("unwatched");
    job.train.hang_seconds = 0;
    ASSERT_OK(train());
    (void)snprintf(path, sizeof path, "%s/unwatched/heartbeat", directory);
    assert_false(sim_path_exists(path));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_is_found_and_its_rank_named),
        cmocka_unit_test(batch_norm_and_optimizer_state_are_compared),
        cmocka_unit_test(normalization_and_job_are_compared),
        cmocka_unit_test(no_checkpoint_of_a_differing_state_is_written),
        cmocka_unit_test(a_collapse_is_reported_once),
        cmocka_unit_test(a_collapse_ends_the_run_if_requested),
        cmocka_unit_test(all_ranks_count_the_same_exchanges),
        cmocka_unit_test(the_watchdog_removes_its_heartbeats),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    sim_comm_end();
    return failed != 0;
}
