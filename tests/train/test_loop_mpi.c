/*
 * simile-test: timeout 120
 * test_loop_mpi.c - the training loop on 1 to 4 ranks: a step allocates nothing; a view or
 * gradient that is not finite on one rank makes all ranks skip the step; too many end the run.
 *
 * Forward and backward of the method are wrapped to corrupt a view or a gradient of one rank.
 * mocov2 has a queue and a momentum encoder.
 */
#include "simile_test.h"

#include "small_job.h"
#include "state.h"

#include "simile/file.h"
#include "simile/hash.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>

/* ---- the wrapped method ---- */

static sim_method_row wrapped;

typedef enum { NOTHING, IN_VIEW, IN_GRADIENT, IN_LAST_VIEW } fault_place;

static struct {
    fault_place where;
    int rank;
    int64_t from, to, call; /* calls [from, to) are corrupted; the first is 1 */
} fault;

static float corrupted[2 * BATCH * SIDE * SIDE];

static bool is_faulty_call(void)
{
    return comm->rank == fault.rank && fault.call >= fault.from && fault.call < fault.to;
}

static void forward(void *self, const sim_method_batch *batch)
{
    fault.call++;
    sim_range local = sim_partition_range(sim_comm_partition(comm), BATCH / BLOCK);
    size_t floats = (local.hi - local.lo) * 2 * BLOCK * SIDE * SIDE;
    sim_method_batch seen = *batch;

    if (is_faulty_call() && (fault.where == IN_VIEW || fault.where == IN_LAST_VIEW)) {
        memcpy(corrupted, batch->x[0], floats * sizeof *corrupted);
        corrupted[fault.where == IN_VIEW ? SIDE + 3 : floats - SIDE] = NAN;
        for (size_t i = 0; i < SIM_MAX_PARTS && batch->x[i]; i++)
            seen.x[i] = corrupted + (batch->x[i] - batch->x[0]); /* one after the other */
    }
    sim_methods_find(wrapped.name)->forward(self, &seen);
}

static void backward(void *self, const sim_loss_report *report, float *grads)
{
    sim_methods_find(wrapped.name)->backward(self, report, grads);
    if (is_faulty_call() && fault.where == IN_GRADIENT)
        grads[7] = INFINITY;
}

/* ---- the state after each step ---- */

static struct {
    int64_t skipped;
    uint64_t allocations;
    sim_hash weights, buffers, optimizer;
    sim_hash copies; /* weights of momentum encoders */
    sim_hash queue;  /* local rows */
} seen[STEPS + 1];

static sim_status add_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    sim_hasher_add(ctx, t->data, sim_tensor_count(t) * sim_type_bytes(t->type));
    return SIM_OK;
}

static void add_queue(sim_queue *q, sim_hasher *h)
{
    if (!q)
        return;
    sim_range local = sim_queue_local(q);
    int64_t at[] = {sim_queue_pointer(q), sim_queue_filled(q)};
    sim_hasher_add(h, at, sizeof at);
    sim_hasher_add(h, sim_queue_rows(q),
                   (local.hi - local.lo) * (size_t)job.encoder.projector_dim *
                       sizeof(float));
}

static sim_status note(void *ctx, const sim_train_state *t, sim_stream *stream)
{
    sim_status st = SIM_OK;
    const sim_method *method = sim_train_method(t);
    const sim_visitor v = {.visit = add_tensor, .ctx = ctx};
    sim_net *nets[8];
    const char *groups[8];
    size_t n_copies = 0;
    const int64_t step = sim_train_step(t);
    (void)stream;

    seen[step].skipped = t->progress.at.skipped;
    seen[step].allocations = sim_memory_calls();
    sim_hasher_reset(ctx);
    size_t n = method->row->nets(method->self, nets, groups);
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_net_visit_weights(nets[i], groups[i], &v));
    seen[step].weights = sim_hasher_value(ctx);
    sim_hasher_reset(ctx);
    if (method->row->momentum_nets)
        n_copies = method->row->momentum_nets(method->self, nets + n, groups + n);
    for (size_t i = n; i < n + n_copies; i++)
        SIM_TRY(sim_net_visit_weights(nets[i], groups[i], &v));
    seen[step].copies = sim_hasher_value(ctx);
    sim_hasher_reset(ctx);
    for (size_t i = 0; i < n + n_copies; i++)
        SIM_TRY(sim_net_visit_buffers(nets[i], groups[i], &v));
    seen[step].buffers = sim_hasher_value(ctx);
    sim_hasher_reset(ctx);
    add_queue(sim_method_queue(method), ctx);
    seen[step].queue = sim_hasher_value(ctx);
    sim_hasher_reset(ctx);
    SIM_TRY(sim_optimizer_visit(t->learner.optimizer, &v));
    seen[step].optimizer = sim_hasher_value(ctx);
done:
    return st;
}

/* ---- a job ---- */

static void set_queue(int64_t n_slots)
{
    const sim_option_table *t = wrapped.table;
    for (size_t i = 0; i < t->n_rows; i++)
        if (strcmp(t->rows[i].name, "queue_size") == 0)
            *(int64_t *)(void *)((char *)&job.method_options + t->rows[i].offset) =
                n_slots;
}

static void make_wrapped(const char *method, const char *name)
{
    wrapped = *sim_methods_find(method);
    wrapped.forward = forward;
    wrapped.backward = backward;
    make_job(&wrapped, name);
    set_queue(1000);
}

static sim_status train(void)
{
    sim_hasher *h = NULL;
    ASSERT_OK(sim_hasher_create(&h));
    const sim_train_callback callback = {.ctx = h, .after_step = note};
    static char empty[] = "";
    const sim_job_texts texts = {empty, empty, empty, empty};
    const sim_train_request request = {.job = &job,
                                       .texts = &texts,
                                       .build = "test",
                                       .kernels = sim_kernels_name(),
                                       .arithmetic = sim_kernels_arithmetic(),
                                       .stop_after = -1,
                                       .callbacks = &callback,
                                       .n_callbacks = 1};
    fault.call = 0;
    memset(seen, 0, sizeof seen);
    sim_status st = sim_train(comm, &request);
    sim_hasher_destroy(&h);
    return st;
}

static bool is_same(sim_hash a, sim_hash b)
{
    return a.low == b.low && a.high == b.high;
}

/* ---- the tests ---- */

static void check_allocations(const char *method, int64_t small_views)
{
    make_wrapped(method, small_views ? "small-views" : method);
    job.augment.small_views = small_views;
    fault.where = NOTHING;
    ASSERT_OK(train());
    /* Three steps per epoch: permutations are computed in between. */
    for (int s = 2; s <= STEPS; s++)
        if (seen[s].allocations != seen[1].allocations)
            fail_msg("%s: step %d made %llu allocations", method, s,
                     (unsigned long long)(seen[s].allocations - seen[s - 1].allocations));
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    check_allocations("simclr", 0);
    check_allocations("mocov2", 0);
    check_allocations("nnclr", 2);
}

/* On every rank, step `bad` and no other left the state unchanged. */
static void check_skip(int bad, const char *what)
{
    for (int s = 1; s <= STEPS; s++) {
        sim_hash first = seen[s].weights;
        sim_comm_broadcast(comm, 0, &first, sizeof first);
        if (!is_same(first, seen[s].weights))
            fail_msg("%s: weights differ from rank 0's after step %d", what, s);
        if (seen[s].skipped != (s >= bad))
            fail_msg("%s: %lld steps skipped after step %d", what,
                     (long long)seen[s].skipped, s);
        if (s > 1 && is_same(seen[s].weights, seen[s - 1].weights) != (s == bad))
            fail_msg("%s: step %d, weights", what, s);
        if (s > 1 && is_same(seen[s].buffers, seen[s - 1].buffers) != (s == bad))
            fail_msg("%s: step %d, statistics", what, s);
        bool has_queue = wrapped.queue != NULL,
             has_copies = wrapped.momentum_nets != NULL;
        if (s > 1 &&
            is_same(seen[s].queue, seen[s - 1].queue) != (s == bad || !has_queue))
            fail_msg("%s: step %d, queue", what, s);
        /* the momentum encoder first changes in the second step */
        if (s > 1 &&
            is_same(seen[s].copies, seen[s - 1].copies) != (s == bad || !has_copies))
            fail_msg("%s: step %d, momentum encoders", what, s);
        if (s > 1 && is_same(seen[s].optimizer, seen[s - 1].optimizer) != (s == bad))
            fail_msg("%s: step %d, optimizer", what, s);
    }
}

static void corrupt_step_four(const char *method, int rank, fault_place where)
{
    static const char *const places[] = {"nothing", "view", "gradient", "last-view"};
    char name[64];

    (void)snprintf(name, sizeof name, "%s-%s-%d", method, places[where], rank);
    make_wrapped(method, name);
    fault.where = where;
    fault.rank = rank;
    fault.from = 4;
    fault.to = 5;
    ASSERT_OK(train());
    check_skip(4, name);
}

static void a_value_that_is_not_finite_on_one_rank_is_skipped_by_all(void **state)
{
    (void)state;
    for (int r = 0; r < comm->size; r++)
        for (fault_place where = IN_VIEW; where <= IN_GRADIENT; where++)
            corrupt_step_four("simclr", r, where);
}

static void a_skipped_step_does_not_change_queue_and_momentum_encoder(void **state)
{
    (void)state;
    for (fault_place where = IN_VIEW; where <= IN_LAST_VIEW; where++)
        corrupt_step_four("mocov2", comm->size - 1, where);
    corrupt_step_four("mocov3", comm->size - 1, IN_GRADIENT);
    corrupt_step_four("nnclr", comm->size - 1, IN_GRADIENT);
}

static bool log_names(const char *text)
{
    char path[128], *log = NULL;
    size_t n = 0;
    (void)snprintf(path, sizeof path, "%s/faulty/log.txt", directory);
    ASSERT_OK(sim_file_load(path, 1 << 20, &log, &n));
    bool found = strstr(log, text) != NULL;
    sim_free(log);
    return found;
}

static void too_many_in_a_row_end_the_run_with_a_good_checkpoint(void **state)
{
    sim_checkpoint *k = NULL;
    (void)state;
    make_wrapped("simclr", "faulty");
    job.train.bad_steps = 2;
    job.train.checkpoint.every_steps = 2;
    fault.where = IN_GRADIENT;
    fault.rank = comm->size - 1;
    fault.from = 4;
    fault.to = STEPS + 1;
    ASSERT_REFUSED(train(), SIM_E_BUG,
                   "step 6: the loss or gradient was not finite 3 times");
    assert_int_equal(SIM_E_BUG, 70);
    sim_comm_barrier(comm);
    assert_true(log_names("step 6 skipped") && log_names("samples: "));
    assert_false(log_names("step 7"));
    ASSERT_OK(sim_checkpoint_newest(comm, job.train.run, &k));
    assert_int_equal(sim_checkpoint_head_of(k)->step, 4);
    sim_checkpoint_close(&k);
    fault.where = NOTHING; /* the next start resumes from it */
    ASSERT_OK(train());
    assert_int_equal(seen[4].allocations, 0);
    assert_int_equal(seen[5].skipped, 1);
    assert_int_equal(seen[STEPS].skipped, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(a_value_that_is_not_finite_on_one_rank_is_skipped_by_all),
        cmocka_unit_test(a_skipped_step_does_not_change_queue_and_momentum_encoder),
        cmocka_unit_test(too_many_in_a_row_end_the_run_with_a_good_checkpoint),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    sim_comm_end();
    return failed != 0;
}
