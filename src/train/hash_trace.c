/*
 * hash_trace.c - `--trace-hash`: one line "step stage hex" per stage and step.
 *
 * Hashes cover the global order, so equal runs have equal files on any number of ranks, and
 * the first differing line is the stage that differs: input z loss grad weights bn queue.
 * A resumed run removes the lines after its checkpoint and continues.
 */
#include "state.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads the step of a line "step stage hex"; -1 if it has another form. */
static int64_t step_of_line(const char *line, size_t n)
{
    char text[96], stage[32], hex[34];
    long long step = -1;
    int used = 0;

    if (n >= sizeof text)
        return -1;
    memcpy(text, line, n);
    text[n] = '\0';
    bool is = strlen(text) == n && text[0] >= '0' && text[0] <= '9' &&
              sscanf(text, "%18lld %31s %33[0-9a-f]%n", &step, stage, hex, &used) == 3;
    return is && (size_t)used == n && strlen(hex) == 32 ? (int64_t)step : -1;
}

/* Keeps the complete lines of steps up to `step`.  A file with a line of another form is kept
 * under another name. */
static sim_status remove_later_lines(const char *path, int64_t step)
{
    sim_status st = SIM_OK;
    char *text = NULL, problem[96] = "";
    size_t n_bytes = 0, keep = 0, number = 0;

    if (!sim_path_exists(path))
        goto done;
    SIM_TRY(sim_file_load(path, (size_t)1 << 30, &text, &n_bytes));
    for (const char *line = text, *end;
         (end = memchr(line, '\n', n_bytes - (size_t)(line - text))) != NULL;
         line = end + 1) {
        int64_t at = step_of_line(line, (size_t)(end - line));
        number++;
        if (at < 0)
            (void)snprintf(problem, sizeof problem, "line %zu is not a line of a trace",
                           number);
        if (at < 0 || at > step)
            break;
        keep = (size_t)(end + 1 - text);
    }
    if (n_bytes > 0 && number == 0)
        (void)snprintf(problem, sizeof problem, "not a trace");
    if (problem[0])
        SIM_TRY(sim_run_set_aside(path, problem, NULL));
    const sim_piece piece = {text, keep};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_free(text);
    return st;
}

sim_status sim_hash_trace_open(const sim_train_env *env, const sim_learner *learner,
                               int64_t step, sim_hash_trace *out)
{
    sim_status st = SIM_OK;

    *out = (sim_hash_trace){.comm = env->comm,
                            .learner = learner,
                            .is_enabled = env->request->trace_hash,
                            .fd = -1};
    if (!out->is_enabled || env->comm->rank != 0)
        goto done;
    SIM_TRY(sim_run_path(&env->run, "trace-hash.txt", out->path, sizeof out->path));
    SIM_TRY(remove_later_lines(out->path, step));
    SIM_TRY(sim_file_open_append(out->path, &out->fd));
done:
    return st;
}

sim_status sim_hash_trace_close(sim_hash_trace *h)
{
    return sim_file_close(&h->fd, h->path);
}

static sim_status write_hash(const sim_hash_trace *h, int64_t step, const char *stage,
                             sim_hash hash)
{
    sim_status st = SIM_OK;
    char hex[33], line[96];

    if (h->comm->rank != 0)
        goto done;
    sim_hash_hex(hash, hex);
    (void)snprintf(line, sizeof line, "%lld %s %s\n", (long long)step, stage, hex);
    SIM_TRY(sim_file_append(h->fd, h->path, line));
done:
    return st;
}

/* One part of a hashed value: [local block][n_bytes]. */
typedef struct {
    const char *data;
    size_t n_bytes; /* per block */
} block_piece;

/* Writes the hash of the blocks' hashes in global order. */
static sim_status write_blocks(const sim_hash_trace *h, int64_t step, const char *stage,
                               const block_piece *pieces, size_t n)
{
    sim_status st = SIM_OK;
    const sim_method *m = &h->learner->method;
    sim_hash *all = NULL;
    sim_hasher *hasher = NULL;

    if (sim_alloc(&all, m->n_blocks, "train/hash_trace") != SIM_OK ||
        sim_hasher_create(&hasher) != SIM_OK)
        sim_comm_abort(SIM_E_IO); /* the other ranks wait in the gather */
    for (size_t b = m->blocks.lo; b < m->blocks.hi; b++) {
        sim_hasher_reset(hasher);
        for (size_t i = 0; i < n; i++)
            sim_hasher_add(hasher,
                           pieces[i].data + (b - m->blocks.lo) * pieces[i].n_bytes,
                           pieces[i].n_bytes);
        all[b] = sim_hasher_value(hasher);
    }
    sim_comm_gather_rows(h->comm, m->n_blocks, 1, m->n_blocks, sizeof *all,
                         all + m->blocks.lo, all);
    SIM_TRY(write_hash(h, step, stage, sim_hash_bytes(all, m->n_blocks * sizeof *all)));
done:
    sim_hasher_destroy(&hasher);
    sim_free(all);
    return st;
}

sim_status sim_hash_trace_input(const sim_hash_trace *h, int64_t step, const float *x)
{
    const sim_method *m = &h->learner->method;
    block_piece pieces[SIM_MAX_PARTS];

    if (!h->is_enabled)
        return SIM_OK;
    for (size_t p = 0; p < m->n_parts; p++) {
        const sim_part *part = &m->parts[p];
        pieces[p] =
            (block_piece){(const char *)(x + part->offset),
                          part->n_views * m->slots * part->image_floats * sizeof *x};
    }
    return write_blocks(h, step, "input", pieces, m->n_parts);
}

static sim_status write_embeddings(const sim_hash_trace *h, int64_t step)
{
    sim_status st = SIM_OK;
    const sim_method *m = &h->learner->method;
    const sim_embeddings e = m->row->embeddings(m->self);
    const sim_batch_shape s = {.n_blocks = m->n_blocks,
                               .blocks = m->blocks,
                               .views = e.views,
                               .slots = m->slots};
    float *by_block = NULL;

    if (sim_alloc(&by_block, sim_batch_images(&s) * e.dim, "train/hash_trace") != SIM_OK)
        sim_comm_abort(SIM_E_IO);
    sim_rows_by_block(&s, e.dim, e.z, by_block);
    const block_piece piece = {(const char *)by_block,
                               e.views * m->slots * e.dim * sizeof(float)};
    SIM_TRY(write_blocks(h, step, "z", &piece, 1));
done:
    sim_free(by_block);
    return st;
}

sim_status sim_hash_trace_loss(const sim_hash_trace *h, int64_t step, double loss)
{
    sim_status st = SIM_OK;
    const sim_learner *l = h->learner;

    if (!h->is_enabled)
        goto done;
    SIM_TRY(write_embeddings(h, step));
    SIM_TRY(write_hash(h, step, "loss", sim_hash_bytes(&loss, sizeof loss)));
    SIM_TRY(write_hash(
        h, step, "grad",
        sim_hash_bytes(l->grads, l->method.gradient_floats * sizeof *l->grads)));
done:
    return st;
}

static sim_status add_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    sim_hasher_add(ctx, t->data, sim_tensor_count(t) * sim_type_bytes(t->type));
    return SIM_OK;
}

static sim_status write_queue(const sim_hash_trace *h, int64_t step)
{
    sim_status st = SIM_OK;
    sim_queue *q = sim_method_queue(&h->learner->method);
    sim_hash hash;

    if (!q)
        goto done;
    SIM_TRY(sim_queue_hash(q, &hash));
    SIM_TRY(write_hash(h, step, "queue", hash));
done:
    return st;
}

sim_status sim_hash_trace_update(const sim_hash_trace *h, int64_t step)
{
    sim_status st = SIM_OK;
    sim_hasher *hasher = NULL;

    if (!h->is_enabled)
        goto done;
    SIM_TRY(sim_hasher_create(&hasher));
    const sim_visitor v = {.visit = add_tensor, .ctx = hasher};
    SIM_TRY(sim_method_visit_weights(&h->learner->method, &v));
    SIM_TRY(write_hash(h, step, "weights", sim_hasher_value(hasher)));
    sim_hasher_reset(hasher);
    SIM_TRY(sim_method_visit_buffers(&h->learner->method, &v));
    SIM_TRY(write_hash(h, step, "bn", sim_hasher_value(hasher)));
    SIM_TRY(write_queue(h, step));
done:
    sim_hasher_destroy(&hasher);
    return st;
}
