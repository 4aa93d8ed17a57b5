/*
 * norm.c - batch norm over groups of the global batch, exactly.
 *
 * A leaf is min(block, group) slots of one view (joint: of all views).  Leaves give moments
 * or sums in double; the folder joins them over the whole group, wherever its blocks are;
 * from there everything is local.  DESIGN.md section 4; Ioffe and Szegedy 2015,
 * arXiv 1502.03167.
 */
#include "net.h"

#include "simile/memory.h"

#include <math.h>
#include <string.h>

static const double epsilon = 1e-5, momentum = 0.1;

static bool is_joint(const sim_net *net)
{
    return net->batchnorm.views == 1;
}

/* Leaves of a block and view: one, or several where groups are smaller than a block. */
static size_t subs_of(const sim_net *net, size_t slots)
{
    size_t group = (size_t)net->batchnorm.group;
    return group && group < slots ? slots / group : 1;
}

/* Sets of statistics beside each other in a leaf's vector: a view each. */
static size_t sets_of(const sim_tape *t)
{
    return is_joint(t->net) ? 1 : t->shape.views;
}

static size_t widest_of(const sim_net *net)
{
    size_t most = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].c > most)
            most = net->nodes[i].c;
    return most;
}

/* Floats of coefficients that the nodes of a net keep for one leaf. */
static size_t kept_floats(const sim_net *net)
{
    size_t n = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].kind == NODE_NORM)
            n += 4 * net->nodes[i].c;
    return n;
}

static size_t groups_of(const sim_net *net, const sim_batch_shape *s)
{
    size_t group = (size_t)net->batchnorm.group;
    return group ? s->n_blocks * s->slots / group : 1;
}

static size_t stack_of(const sim_batch_shape *s)
{
    return sim_tree_depth(s->n_blocks, s->blocks);
}

size_t norm_bytes(const sim_net *net, const sim_batch_shape *s)
{
    size_t blocks = s->blocks.hi - s->blocks.lo, widest = widest_of(net);
    size_t subs = subs_of(net, s->slots), sets = is_joint(net) ? 1 : s->views;
    size_t leaves = blocks * subs * sets;
    return leaves * kept_floats(net) * sizeof(float) + /* kept coefficients */
           2 * leaves * 2 * widest * sizeof(double) +  /* sums, fold */
           groups_of(net, s) * sets * 2 * widest * sizeof(double) +
           3 * leaves * widest * sizeof(float) + /* backward */
           stack_of(s) * 2 * widest * sizeof(float);
}

sim_status norm_prepare(sim_tape *t)
{
    sim_status st = SIM_OK;
    const sim_net *net = t->net;
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo,
           group = (size_t)net->batchnorm.group;
    size_t sets = sets_of(t);

    t->subs = subs_of(net, t->shape.slots);
    t->n_leaves = blocks * t->subs * sets;
    t->n_pieces = is_joint(net) ? t->shape.views : 1;
    t->n_groups = groups_of(net, &t->shape);
    t->leaves_per_group = group == 0 ? 0 : t->subs > 1 ? 1 : group / t->shape.slots;
    t->leaves_in_group =
        group == 0 ? (double)t->shape.n_blocks : (double)t->leaves_per_group;
    t->widest = widest_of(net);
    SIM_TRY(sim_alloc(&t->norms, (size_t)net->n_nodes, "encoder/norm"));
    SIM_TRY(sim_alloc(&t->start, t->n_leaves * t->n_pieces, "encoder/norm"));
    SIM_TRY(sim_alloc(&t->sums, t->n_leaves * 2 * t->widest, "encoder/norm"));
    SIM_TRY(sim_alloc(&t->fold, t->n_leaves * 2 * t->widest, "encoder/norm"));
    SIM_TRY(sim_alloc(&t->groups, t->n_groups * sets * 2 * t->widest, "encoder/norm"));
    SIM_TRY(sim_alloc(&t->coefficients, 3 * t->n_leaves * t->widest, "encoder/norm"));
    SIM_TRY(sim_alloc(&t->partials, stack_of(&t->shape) * 2 * t->widest, "encoder/norm"));
    for (int i = 0; i < net->n_nodes; i++) {
        size_t n = t->n_leaves * net->nodes[i].c;
        norm_state *s = &t->norms[i];
        if (net->nodes[i].kind != NODE_NORM)
            continue;
        SIM_TRY(sim_alloc(&s->scale, 4 * n, "encoder/norm"));
        s->shift = s->scale + n;
        s->mean = s->shift + n;
        s->inverse = s->mean + n;
    }
done:
    return st;
}

void norm_release(sim_tape *t)
{
    for (int i = 0; t->norms && i < t->net->n_nodes; i++)
        sim_free(t->norms[i].scale);
    sim_free(t->norms);
    sim_free(t->start);
    sim_free(t->sums);
    sim_free(t->fold);
    sim_free(t->groups);
    sim_free(t->coefficients);
    sim_free(t->partials);
}

/* Rows of every leaf for a node with this many pixels: [block][view][slot] is the order. */
static sim_norm_leaves leaves_of(sim_tape *t, const node *n)
{
    size_t slots = t->shape.slots / t->subs, pixels = n->h * n->w;
    size_t views = t->shape.views, at = 0;
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo;

    for (size_t b = 0; b < blocks; b++)
        for (size_t v = 0; v < (is_joint(t->net) ? 1 : views); v++)
            for (size_t j = 0; j < t->subs; j++)
                for (size_t p = 0; p < t->n_pieces; p++)
                    t->start[at++] =
                        (((b * views + v + p) * t->subs) + j) * slots * pixels;
    return (sim_norm_leaves){.n_leaves = t->n_leaves,
                             .n_pieces = t->n_pieces,
                             .rows = slots * pixels,
                             .c = n->c,
                             .start = t->start};
}

/* The leaf of (block, set, sub). */
static size_t leaf_at(const sim_tape *t, size_t b, size_t set, size_t j)
{
    return (b * sets_of(t) + set) * t->subs + j;
}

/*
 * Joins t->sums [leaf][2][c] over the groups: into t->groups [group][2][set][c].  The
 * folder wants a vector for each (block, sub): [2][set][c].
 */
static void fold_leaves(sim_tape *t, size_t c, sim_merge_fn *merge)
{
    size_t sets = sets_of(t), blocks = t->shape.blocks.hi - t->shape.blocks.lo;
    for (size_t b = 0; b < blocks; b++)
        for (size_t j = 0; j < t->subs; j++)
            for (size_t s = 0; s < sets; s++)
                for (size_t half = 0; half < 2; half++)
                    memcpy(t->fold + (((b * t->subs + j) * 2 + half) * sets + s) * c,
                           t->sums + (leaf_at(t, b, s, j) * 2 + half) * c,
                           c * sizeof *t->fold);
    t->folder.fold(t->folder.ctx, t->shape.n_blocks, t->subs, t->leaves_per_group,
                   2 * sets * c, merge, t->fold, t->groups);
}

/* The group of the local block's sub-leaf j. */
static size_t group_of(const sim_tape *t, size_t b, size_t j)
{
    if (t->leaves_per_group == 0)
        return 0;
    return ((t->shape.blocks.lo + b) * t->subs + j) / t->leaves_per_group;
}

static const double *group_half(const sim_tape *t, size_t group, size_t half, size_t set,
                                size_t c)
{
    return t->groups + ((group * 2 + half) * sets_of(t) + set) * c;
}

static void update_running(sim_tape *t, node *n, double samples)
{
    float *mean = t->net->running + n->running, *variance = mean + n->c;
    double groups = (double)t->n_groups,
           unbiased = samples > 1 ? samples / (samples - 1) : 1;

    for (size_t s = 0; s < sets_of(t); s++) {
        for (size_t i = 0; i < n->c; i++) {
            double m = 0, v = 0;
            for (size_t g = 0; g < t->n_groups; g++) {
                m += group_half(t, g, 0, s, n->c)[i];
                v += group_half(t, g, 1, s, n->c)[i] / t->leaves_in_group;
            }
            mean[i] = (float)((1 - momentum) * (double)mean[i] + momentum * m / groups);
            variance[i] = (float)((1 - momentum) * (double)variance[i] +
                                  momentum * unbiased * v / groups);
        }
        n->batches++;
    }
}

/* scale, shift, mean and inverse deviation of one leaf from mean and biased variance. */
static void set_leaf(const sim_tape *t, const node *n, norm_state *s, size_t leaf,
                     const double *mean, const double *sum, double divide)
{
    const float *gamma = n->affine ? t->net->weights + n->weight : NULL;
    const float *beta = n->affine ? t->net->weights + n->bias : NULL;
    for (size_t i = 0; i < n->c; i++) {
        size_t at = leaf * n->c + i;
        double inverse = 1 / sqrt(sum[i] / divide + epsilon);
        double scale = (gamma ? (double)gamma[i] : 1) * inverse;
        s->inverse[at] = (float)inverse;
        s->mean[at] = (float)mean[i];
        s->scale[at] = (float)scale;
        s->shift[at] = (float)((beta ? (double)beta[i] : 0) - mean[i] * scale);
    }
}

static void batch_statistics(sim_tape *t, int i, const sim_norm_leaves *leaves,
                             const float *x)
{
    node *n = &t->net->nodes[i];
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo;
    double samples = t->leaves_in_group * (double)(leaves->rows * leaves->n_pieces);

    sim_norm_moments(leaves, x, t->sums);
    fold_leaves(t, n->c, sim_merge_moments);
    for (size_t b = 0; b < blocks; b++)
        for (size_t s = 0; s < sets_of(t); s++)
            for (size_t j = 0; j < t->subs; j++) {
                size_t g = group_of(t, b, j);
                set_leaf(t, n, &t->norms[i], leaf_at(t, b, s, j),
                         group_half(t, g, 0, s, n->c), group_half(t, g, 1, s, n->c),
                         t->leaves_in_group);
            }
    update_running(t, n, samples);
}

static void running_statistics(sim_tape *t, int i)
{
    node *n = &t->net->nodes[i];
    const float *mean = t->net->running + n->running;
    for (size_t c = 0; c < n->c; c++) {
        t->sums[c] = (double)mean[c];
        t->sums[n->c + c] = (double)mean[n->c + c];
    }
    for (size_t leaf = 0; leaf < t->n_leaves; leaf++)
        set_leaf(t, n, &t->norms[i], leaf, t->sums, t->sums + n->c, 1);
}

void norm_forward(sim_tape *t, int i, const float *x, const float *residual, float *y)
{
    node *n = &t->net->nodes[i];
    sim_norm_leaves leaves = leaves_of(t, n);
    norm_state *s = &t->norms[i];

    if (t->evaluation)
        running_statistics(t, i);
    else
        batch_statistics(t, i, &leaves, x);
    sim_norm_apply(&leaves, x, s->scale, s->shift, residual, n->act, y);
}

void norm_again(sim_tape *t, int i, const float *x, const float *residual, float *y)
{
    node *n = &t->net->nodes[i];
    sim_norm_leaves leaves = leaves_of(t, n);
    const norm_state *s = &t->norms[i];
    sim_norm_apply(&leaves, x, s->scale, s->shift, residual, n->act, y);
}

void fold_narrow(sim_tape *t, size_t n, const double *of_block, float *grads,
                 size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo;
    size_t have = sim_tree_nodes(t->shape.n_blocks, t->shape.blocks, nodes);
    sim_fold f;

    sim_fold_begin(&f, n, t->shape.n_blocks, t->shape.blocks, t->partials);
    for (size_t b = 0; b < blocks; b++) {
        float *slot = sim_fold_slot(&f);
        for (size_t i = 0; i < n; i++)
            slot[i] = (float)of_block[b * n + i];
        sim_fold_close(&f);
    }
    for (size_t j = 0; j < have; j++)
        memcpy(grads + j * node_stride, t->partials + j * n, n * sizeof *grads);
}

/* Gradients of gamma and beta: a block's leaves in double, then the tree over blocks. */
static void weight_gradients(sim_tape *t, int i, float *grads, size_t node_stride)
{
    const node *n = &t->net->nodes[i];
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo, c = n->c;
    double *of_block = t->fold; /* free by now */

    memset(of_block, 0, blocks * 2 * c * sizeof *of_block);
    for (size_t b = 0; b < blocks; b++)
        for (size_t s = 0; s < sets_of(t); s++)
            for (size_t j = 0; j < t->subs; j++) {
                size_t leaf = leaf_at(t, b, s, j);
                const double *sum = t->sums + leaf * 2 * c;
                const float *inverse = t->norms[i].inverse + leaf * c;
                for (size_t k = 0; k < c; k++) {
                    of_block[b * 2 * c + k] += sum[c + k] * (double)inverse[k];
                    of_block[b * 2 * c + c + k] += sum[k];
                }
            }
    /* gamma and beta stand side by side in the arena. */
    SIM_ASSERT(n->bias == n->weight + c);
    fold_narrow(t, 2 * c, of_block, grads + n->weight, node_stride);
}

/* dx = a g + b x + d: gamma/s (g - mean g - xhat mean(g xhat)), a leaf's coefficients. */
static void set_backward(sim_tape *t, int i, size_t leaf, const double *sum_g,
                         const double *sum_gx, double samples)
{
    const node *n = &t->net->nodes[i];
    const norm_state *s = &t->norms[i];
    size_t all = t->n_leaves * n->c;

    for (size_t c = 0; c < n->c; c++) {
        size_t at = leaf * n->c + c;
        double a = (double)s->scale[at], inverse = (double)s->inverse[at];
        double b = -a * inverse * inverse * sum_gx[c] / samples;
        t->coefficients[at] = (float)a;
        t->coefficients[all + at] = (float)b;
        t->coefficients[2 * all + at] =
            (float)(-a * sum_g[c] / samples - b * (double)s->mean[at]);
    }
}

void norm_backward(sim_tape *t, int i, const float *x, const float *residual,
                   const float *dy, float *g, float *dx, float *grads, size_t node_stride)
{
    node *n = &t->net->nodes[i];
    sim_norm_leaves leaves = leaves_of(t, n);
    const norm_state *s = &t->norms[i];
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo, all = t->n_leaves * n->c;
    double samples = t->leaves_in_group * (double)(leaves.rows * leaves.n_pieces);

    sim_norm_backward_sums(&leaves, x, s->scale, s->shift, s->mean, residual, n->act, dy,
                           g, t->sums);
    fold_leaves(t, n->c, sim_merge_sum);
    for (size_t b = 0; b < blocks; b++)
        for (size_t v = 0; v < sets_of(t); v++)
            for (size_t j = 0; j < t->subs; j++) {
                size_t group = group_of(t, b, j);
                set_backward(t, i, leaf_at(t, b, v, j), group_half(t, group, 0, v, n->c),
                             group_half(t, group, 1, v, n->c), samples);
            }
    if (n->affine)
        weight_gradients(t, i, grads, node_stride);
    sim_norm_backward(&leaves, x, g, t->coefficients, t->coefficients + all,
                      t->coefficients + 2 * all, dx);
}
