/*
 * step_hash.h - hashes of what a step of a method computes and leaves.
 */
#ifndef SIMILE_TEST_STEP_HASH_H
#define SIMILE_TEST_STEP_HASH_H

#include "method_cases.h"

/* Hashes of what a step computes and leaves, equal on all ranks. */
typedef struct {
    sim_hash report, gradient, state;
    int64_t rows; /* sum over the rows of sharded tensors of 32 bits of their hash */
} step_hash;

typedef struct {
    sim_hasher *whole;
    int64_t rows;
} state_hasher;

static inline void hash_rows(const sim_tensor *t, int64_t *sum)
{
    size_t n = sim_tensor_row_bytes(t);
    for (size_t i = t->row_lo; i < t->row_hi; i++) {
        const sim_hash parts[] = {
            sim_hash_bytes(&i, sizeof i),
            sim_hash_bytes((const char *)t->data + (i - t->row_lo) * n, n)};
        *sum += (int64_t)(sim_hash_bytes(parts, sizeof parts).low & UINT32_MAX);
    }
}

static inline sim_status hash_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    state_hasher *h = ctx;
    sim_hasher_add(h->whole, group, strlen(group));
    sim_hasher_add(h->whole, t->name, strlen(t->name));
    if (t->sharded)
        hash_rows(t, &h->rows);
    else
        sim_hasher_add(h->whole, t->data, sim_tensor_count(t) * sim_type_bytes(t->type));
    return SIM_OK;
}

/* What a checkpoint stores, and the running statistics of all networks. */
static inline void hash_state(const trainer *t, step_hash *out)
{
    state_hasher h = {.rows = 0};
    const sim_visitor v = {.visit = hash_tensor, .ctx = &h};

    ASSERT_OK(sim_hasher_create(&h.whole));
    ASSERT_OK(t->method.row->visit(t->method.self, &v));
    ASSERT_OK(sim_method_visit_buffers(&t->method, &v));
    sim_comm_sum_i64(t->comm, &h.rows, 1);
    out->state = sim_hasher_value(h.whole);
    out->rows = h.rows;
    sim_hasher_destroy(&h.whole);
}

static inline step_hash run_step(trainer *t, uint32_t step)
{
    step_hash h = {.rows = 0};
    trainer_gradient(t, step);
    h.report = sim_hash_bytes(&t->report, sizeof t->report);
    h.gradient = sim_hash_bytes(t->grads, t->method.gradient_floats * sizeof *t->grads);
    trainer_update(t);
    hash_state(t, &h);
    return h;
}

/* What differs, or NULL. */
static inline const char *step_hash_difference(const step_hash *a, const step_hash *b)
{
    return !sim_hash_equal(a->report, b->report)       ? "loss report"
           : !sim_hash_equal(a->gradient, b->gradient) ? "gradient"
           : !sim_hash_equal(a->state, b->state)       ? "state"
           : a->rows != b->rows                        ? "queue"
                                                       : NULL;
}

#endif
