/*
 * leaves.c - how a batch divides into leaves and groups, and the buffers of sums over them.
 *
 * Batch norm and bias gradients use them.
 */
#include "leaves.h"

#include "simile/memory.h"

#include <string.h>

leaf_shape sim_leaves_of(const sim_batchnorm_options *options, const sim_batch_shape *s)
{
    size_t group = (size_t)options->group;
    bool joint = options->views == SIM_BN_VIEWS_JOINT;
    leaf_shape out = {.blocks = s->blocks.hi - s->blocks.lo,
                      .leaves_per_block =
                          group && group < s->slots ? s->slots / group : 1,
                      .sets = joint ? 1 : s->views,
                      .pieces = joint ? s->views : 1,
                      .groups = group ? s->n_blocks * s->slots / group : 1,
                      .one_group = group == 0};
    out.leaves = out.blocks * out.sets * out.leaves_per_block;
    out.leaves_per_group = s->n_blocks * out.leaves_per_block / out.groups;
    return out;
}

sim_range sim_leaves_groups(const leaf_shape *s, sim_range blocks)
{
    size_t lo = blocks.lo * s->leaves_per_block, hi = blocks.hi * s->leaves_per_block;
    SIM_ASSERT(lo % s->leaves_per_group == 0 && hi % s->leaves_per_group == 0);
    return (sim_range){lo / s->leaves_per_group, hi / s->leaves_per_group};
}

size_t sim_micro_batches(const sim_batch_shape *rank)
{
    size_t n = rank->blocks.hi - rank->blocks.lo, size = rank->micro_blocks;
    return size ? (n + size - 1) / size : 1;
}

sim_batch_shape sim_micro_batch(const sim_batch_shape *rank, size_t k)
{
    sim_batch_shape out = *rank;
    size_t size = rank->micro_blocks;

    if (size == 0)
        return out;
    out.blocks.lo += k * size;
    if (out.blocks.hi - out.blocks.lo > size)
        out.blocks.hi = out.blocks.lo + size;
    return out;
}

/* The largest height of the tree stack over the blocks of a micro-batch. */
static size_t stack_depth(const sim_batch_shape *rank)
{
    size_t most = 0;
    for (size_t k = 0; k < sim_micro_batches(rank); k++) {
        size_t depth = sim_tree_depth(rank->n_blocks, sim_micro_batch(rank, k).blocks);
        most = depth > most ? depth : most;
    }
    return most;
}

sim_status sim_leaves_check(const sim_net *net, const sim_batchnorm_options *options,
                            const sim_batch_shape *s)
{
    sim_status st = SIM_OK;
    size_t group = (size_t)options->group, batch = s->n_blocks * s->slots;
    size_t images =
        (group ? group : batch) * (options->views == SIM_BN_VIEWS_JOINT ? s->views : 1);

    SIM_CHECK(group == 0 || group % s->slots == 0 || s->slots % group == 0, SIM_E_CONFIG,
              "batchnorm.group: %zu is neither a multiple nor a divisor of the block "
              "size %zu; set batchnorm.group=%zu",
              group, s->slots, s->slots);
    SIM_CHECK(group == 0 || batch % group == 0, SIM_E_CONFIG,
              "batchnorm.group: %zu does not divide the global batch of %zu images; "
              "set batchnorm.group=%zu",
              group, batch, s->slots);
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        if (n->layer->check)
            SIM_TRY(n->layer->check(n, images));
    }
done:
    return st;
}

static size_t widest_of(const sim_net *net)
{
    size_t most = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].c > most)
            most = net->nodes[i].c;
    return most;
}

enum { SUMS_BUFFERS = 7 };

static void list_sums_buffers(batch_sums *r, const sim_net *net,
                              const sim_batch_shape *rank, sim_buffer list[SUMS_BUFFERS])
{
    const leaf_shape *n = &r->shape;
    size_t widest = widest_of(net), sums = n->leaves * 2 * widest;

    list[0] = SIM_BUFFER(r->start, n->leaves * n->pieces);
    list[1] = SIM_BUFFER(r->sums, sums);
    list[2] = SIM_BUFFER(r->to_reduce, sums);
    list[3] = SIM_BUFFER(r->groups, n->groups * n->sets * 2 * widest);
    list[4] = SIM_BUFFER(r->coefficients, 3 * n->leaves * widest);
    list[5] = SIM_BUFFER(r->partials, stack_depth(rank) * 2 * widest);
    list[6] = SIM_BUFFER(r->leaf, n->blocks * rank->views * rank->slots);
}

size_t sim_batch_sums_bytes(const sim_net *net, const sim_batchnorm_options *options,
                            const sim_batch_shape *rank)
{
    const sim_batch_shape largest = sim_micro_batch(rank, 0);
    batch_sums none = {.shape = sim_leaves_of(options, &largest)};
    sim_buffer list[SUMS_BUFFERS];

    list_sums_buffers(&none, net, rank, list);
    return sim_buffers_bytes(list, SUMS_BUFFERS);
}

/* Images are [block][view][slot], leaves [block][set][leaf of the block]. */
static void set_leaf_of_images(batch_sums *r, const sim_batch_shape *s)
{
    const leaf_shape *n = &r->shape;
    size_t per_leaf = s->slots / n->leaves_per_block;

    for (size_t i = 0; i < sim_batch_images(s); i++) {
        size_t slot = i % s->slots, view = i / s->slots % s->views;
        size_t block = i / s->slots / s->views, set = n->sets == 1 ? 0 : view;
        r->leaf[i] =
            (uint32_t)((block * n->sets + set) * n->leaves_per_block + slot / per_leaf);
    }
}

sim_status sim_batch_sums_create(const sim_net *net, const sim_batchnorm_options *options,
                                 const sim_batch_shape *rank, batch_sums *out)
{
    sim_status st = SIM_OK;
    const sim_batch_shape largest = sim_micro_batch(rank, 0);
    sim_buffer list[SUMS_BUFFERS];

    out->shape = sim_leaves_of(options, &largest);
    list_sums_buffers(out, net, rank, list);
    SIM_TRY(sim_buffers_create(list, SUMS_BUFFERS, "encoder/norm"));
    set_leaf_of_images(out, &largest);
done:
    return st;
}

void sim_batch_sums_destroy(const sim_net *net, const sim_batch_shape *rank,
                            batch_sums *s)
{
    sim_buffer list[SUMS_BUFFERS];

    list_sums_buffers(s, net, rank, list);
    sim_buffers_destroy(list, SUMS_BUFFERS);
}

void sim_batch_sums_reduce(const batch_sums *s, const sim_batch_shape *shape, size_t n,
                           const double *of_block, float *grads, size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t have = sim_tree_nodes(shape->n_blocks, shape->blocks, nodes);
    sim_tree_stack f;

    sim_tree_stack_begin(&f, n, shape->n_blocks, shape->blocks, s->partials);
    for (size_t b = 0; b < s->shape.blocks; b++) {
        float *slot = sim_tree_stack_top(&f);
        for (size_t i = 0; i < n; i++)
            slot[i] = (float)of_block[b * n + i];
        sim_tree_stack_push(&f);
    }
    for (size_t j = 0; j < have; j++)
        memcpy(grads + j * node_stride, s->partials + j * n, n * sizeof *grads);
}
