/*
 * replica.c - checks that all ranks hold the same weights, job and normalization of images.
 *
 * Every rank computes the same update, so its weights, statistics and optimizer state have
 * the same bits on all ranks; a difference means a memory or processor error.  The hashes
 * of all ranks are compared, and the error message lists the ranks outside the majority.
 * Called by the loop every guard.check_steps, and before each checkpoint.
 */
#include "state.h"

#include "simile/heartbeat.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

/* The hash of one rank. */
typedef struct {
    sim_hash hash;
    char host[64];
} rank_hash;

struct sim_replica {
    const sim_comm *comm;
    const sim_run *run;           /* for error messages */
    const sim_train_state *state; /* what is compared */
    sim_hasher *hasher;
    rank_hash *of;        /* [ranks], of the last comparison that differed */
    rank_hash *whole;     /* [ranks], of the whole state */
    int64_t checked_step; /* -1: none yet */
    char first[192];      /* tensor that differs, "" when none was found (yet) */
};

sim_status sim_replica_create(const sim_train_state *t, sim_replica **out)
{
    sim_status st = SIM_OK;
    const sim_comm *c = t->env.comm;
    sim_replica *r = NULL;

    SIM_TRY(sim_new(&r, "train/replica"));
    r->comm = c;
    r->run = &t->env.run;
    r->state = t;
    r->checked_step = -1;
    SIM_TRY(sim_hasher_create(&r->hasher));
    SIM_TRY(sim_alloc(&r->of, (size_t)c->size, "train/replica"));
    SIM_TRY(sim_alloc(&r->whole, (size_t)c->size, "train/replica"));
    *out = r;
    r = NULL;
done:
    sim_replica_destroy(&r);
    return st;
}

void sim_replica_destroy(sim_replica **out)
{
    sim_replica *r = *out;
    if (!r)
        return;
    sim_hasher_destroy(&r->hasher);
    sim_free(r->of);
    sim_free(r->whole);
    sim_free(r);
    *out = NULL;
}

/* ---- hashes ---- */

/* Gathers the hashes of what was added; true if they are equal. */
static bool compare_hashes(sim_replica *r)
{
    size_t size = (size_t)r->comm->size, rank = (size_t)r->comm->rank;

    r->of[rank].hash = sim_hasher_value(r->hasher);
    (void)snprintf(r->of[rank].host, sizeof r->of[rank].host, "%.63s", r->comm->host);
    sim_comm_gather_rows(r->comm, size, 1, size, sizeof *r->of, r->of + rank, r->of);
    for (size_t i = 1; i < size; i++)
        if (!sim_hash_equal(r->of[i].hash, r->of[0].hash))
            return false;
    return true;
}

static sim_status add_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_replica *r = ctx;
    (void)group;
    if (!t->sharded)
        sim_hasher_add(r->hasher, t->data, sim_tensor_count(t) * sim_type_bytes(t->type));
    sim_heartbeat_tick();
    return SIM_OK;
}

/* Stores the name and the hashes of the first tensor that differs. */
static sim_status find_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_replica *r = ctx;
    if (t->sharded || r->first[0])
        return SIM_OK;
    sim_hasher_reset(r->hasher);
    SIM_IGNORE(add_tensor(ctx, group, t));
    if (!compare_hashes(r))
        (void)snprintf(r->first, sizeof r->first, "%s/%s", group, t->name);
    return SIM_OK;
}

/* What a step reads beside the images. */
static sim_status visit_inputs(const sim_train_state *t, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    char *job = t->env.request->texts->of_all_ranks;
    const sim_tensor text = {
        .name = "job", .type = SIM_U8, .n_dims = 1, .dims = {strlen(job)}, .data = job};

    SIM_TRY(v->visit(v->ctx, "inputs", &text));
    SIM_TRY(sim_augment_visit(t->feed.augment, "inputs", v));
done:
    return st;
}

static sim_status visit_state(sim_replica *r,
                              sim_status (*see)(void *, const char *, const sim_tensor *))
{
    sim_status st = SIM_OK;
    const sim_visitor v = {.visit = see, .ctx = r};
    const sim_learner *l = &r->state->learner;
    SIM_TRY(visit_inputs(r->state, &v));
    SIM_TRY(l->method.row->visit(l->method.self, &v));
    SIM_TRY(sim_optimizer_visit(l->optimizer, &v));
done:
    return st;
}

/* ---- which ranks differ ---- */

static size_t count_like(const sim_replica *r, size_t of)
{
    size_t n = 0;
    for (size_t i = 0; i < (size_t)r->comm->size; i++)
        n += sim_hash_equal(r->of[i].hash, r->of[of].hash);
    return n;
}

/* Returns the size of the largest group of equal ranks, 0 if two are as large; *member is one of
 * them. */
static size_t majority(const sim_replica *r, size_t *member)
{
    size_t most = 0;
    bool tie = false;
    for (size_t i = 0; i < (size_t)r->comm->size; i++) {
        size_t n = count_like(r, i);
        if (n > most) {
            most = n;
            tie = false;
            *member = i;
        } else if (n == most && !sim_hash_equal(r->of[i].hash, r->of[*member].hash)) {
            tie = true;
        }
    }
    return tie ? 0 : most;
}

/* "rank 2 on node7, rank 5 on node9": all ranks, or those that differ from `right`. */
static void list_ranks(const sim_replica *r, bool all, size_t right, char *out,
                       size_t out_bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < (size_t)r->comm->size && used < out_bytes; i++) {
        if (!all && sim_hash_equal(r->of[i].hash, r->of[right].hash))
            continue;
        int n = snprintf(out + used, out_bytes - used, "%srank %zu on %s",
                         used ? ", " : "", i, r->of[i].host);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* Sets r->first to the first tensor that differs, and r->of to its hashes.  If no tensor
 * differs, a hash was wrong and not the memory; r->of is then of the whole state. */
static sim_status find_first(sim_replica *r)
{
    sim_status st = SIM_OK;
    const size_t n_bytes = (size_t)r->comm->size * sizeof *r->of;

    memcpy(r->whole, r->of, n_bytes);
    SIM_TRY(visit_state(r, find_tensor));
    if (r->first[0])
        goto done;
    memcpy(r->of, r->whole, n_bytes);
    (void)snprintf(r->first, sizeof r->first, "no tensor when rehashed");
done:
    return st;
}

static sim_status report_differing_ranks(const sim_replica *r, int64_t step)
{
    sim_status st = SIM_OK;
    char ranks[1024];
    size_t right = 0, n = majority(r, &right);

    list_ranks(r, n == 0, right, ranks, sizeof ranks);
    if (n == 0)
        SIM_FAIL(SIM_E_BUG,
                 "%s: states differ after step %lld, first in %s, without a majority; "
                 "suspect a memory or processor error.  The last checkpoint in "
                 "%s/checkpoints is good: run the same command again, on other hosts if "
                 "the error repeats",
                 ranks, (long long)step, r->first, r->run->path);
    SIM_FAIL(
        SIM_E_BUG,
        "%s: state differs from the other %zu rank%s after step %lld, first in %s; "
        "suspect a memory or processor error there.  The last checkpoint in "
        "%s/checkpoints is good: run the same command again, without that host if the "
        "error repeats",
        ranks, n, n == 1 ? "" : "s", (long long)step, r->first, r->run->path);
done:
    return st;
}

sim_status sim_replica_check(sim_replica *r, int64_t step)
{
    sim_status st = SIM_OK;

    if (r->comm->size == 1 || r->checked_step == step)
        goto done;
    sim_heartbeat_phase("comparing weights");
    r->first[0] = '\0';
    sim_hasher_reset(r->hasher);
    SIM_TRY(visit_state(r, add_tensor));
    if (!compare_hashes(r)) {
        SIM_TRY(find_first(r));
        SIM_TRY(report_differing_ranks(r, step));
    }
    r->checked_step = step;
done:
    return st;
}
