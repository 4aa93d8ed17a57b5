/*
 * method.c - functions that follow from a row of the table of methods.
 *
 * In: a row and its options.  Out: a sim_method, its steps, parameters and state.
 * Called by: job, train, eval, cli.
 */
#include "simile/method.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

size_t sim_method_micro_blocks(const sim_method_env *env)
{
    size_t n_blocks = env->batch / env->block, ranks = env->partition.size;
    size_t largest_share = (n_blocks + ranks - 1) / ranks;
    size_t blocks = env->micro_batch / env->block;
    return blocks < largest_share ? blocks : 0;
}

static const char *why_batch_is_held(const sim_method_row *row, const void *options)
{
    return row->holds_batch ? row->holds_batch(options) : NULL;
}

sim_gather sim_method_gather(const sim_method_row *row, const void *options,
                             sim_gather gather)
{
    return why_batch_is_held(row, options) ? SIM_GATHER_ALL : gather;
}

sim_status sim_method_check_gather(const sim_method_row *row, const void *options,
                                   const char *name, sim_gather gather)
{
    sim_status st = SIM_OK;
    const char *why = why_batch_is_held(row, options);

    SIM_CHECK(!why || gather != SIM_GATHER_STREAM, SIM_E_CONFIG,
              "%s: stream is not available for method %s, %s; expected auto or all", name,
              row->name, why);
done:
    return st;
}

static size_t views_of_parts(const sim_part *parts, size_t n)
{
    size_t views = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t v = 0; v < parts[i].n_views; v++)
            views = parts[i].views[v] + 1 > views ? parts[i].views[v] + 1 : views;
    return views;
}

/* The parts with the sizes of their views; returns their number. */
static size_t list_parts(const sim_method_row *row, const sim_method_env *env,
                         const void *options, sim_part parts[SIM_MAX_PARTS])
{
    size_t n = row->parts(options, parts);
    for (size_t i = 0; i < n; i++)
        parts[i].image_floats = env->h * env->w * env->c;
    if (env->small.n == 0)
        return n;
    SIM_ASSERT(n < SIM_MAX_PARTS && env->small.n <= SIM_MAX_PART_VIEWS);
    sim_part small = {.n_views = env->small.n,
                      .small = true,
                      .image_floats = env->small.h * env->small.w * env->c};
    for (uint32_t v = 0; v < small.n_views; v++)
        small.views[v] = v;
    parts[n] = small;
    return n + 1;
}

size_t sim_method_views(const sim_method_row *row, const void *options)
{
    sim_part parts[SIM_MAX_PARTS];
    return views_of_parts(parts, row->parts(options, parts));
}

sim_slot_size sim_method_slot_size(const sim_method_row *row, const sim_method_env *env,
                                   const void *options)
{
    sim_part parts[SIM_MAX_PARTS];
    sim_slot_size size = {0};
    size_t n = list_parts(row, env, options, parts);
    for (size_t i = 0; i < n; i++) {
        size.images += parts[i].n_views;
        size.floats += parts[i].n_views * parts[i].image_floats;
    }
    return size;
}

bool sim_method_by_group(const sim_method_row *row, const void *options)
{
    return row->by_group && row->by_group(options);
}

bool sim_method_shuffles(const sim_method *m)
{
    for (size_t i = 0; i < m->n_parts; i++)
        if (m->parts[i].shuffled)
            return true;
    return false;
}

void sim_method_updated(const sim_method *m)
{
    if (m->row->updated)
        m->row->updated(m->self);
}

sim_queue *sim_method_queue(const sim_method *m)
{
    return m->row->queue ? m->row->queue(m->self) : NULL;
}

/* Trained networks, then those of the momentum encoder. */
static size_t all_nets(const sim_method *m, sim_net *nets[2 * SIM_MAX_NETS],
                       const char *groups[2 * SIM_MAX_NETS])
{
    size_t n = m->row->nets(m->self, nets, groups);
    return m->row->momentum_nets
               ? n + m->row->momentum_nets(m->self, nets + n, groups + n)
               : n;
}

static size_t scalars_of(const sim_method *m, sim_method_scalar out[SIM_MAX_SCALARS])
{
    return m->row->scalars(m->self, out);
}

static void count_gradient(sim_method *m, bool has_small_views)
{
    sim_net *nets[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    size_t n = m->row->nets(m->self, nets, groups), of_nets = 0;
    for (size_t i = 0; i < n; i++)
        of_nets += sim_net_parameters(nets[i]);
    m->gradient_floats = of_nets + scalars_of(m, scalars);
    m->node_floats = m->gradient_floats + (has_small_views ? of_nets : 0);
}

/* "simclr, infonce, ..." */
static void format_small_view_methods(char *out, size_t out_bytes)
{
    size_t used = 0;
    for (size_t i = 0; i < sim_methods_count(); i++) {
        const sim_method_row *row = sim_methods_at(i);
        if (!row->takes_small_views || used >= out_bytes)
            continue;
        int n =
            snprintf(out + used, out_bytes - used, "%s%s", used ? ", " : "", row->name);
        used += n > 0 ? (size_t)n : 0;
    }
}

sim_status sim_method_check(const sim_method_row *row, const sim_method_env *env,
                            const void *options)
{
    sim_status st = SIM_OK;
    char methods[256] = "";

    format_small_view_methods(methods, sizeof methods);
    SIM_CHECK(
        env->small.n == 0 || row->takes_small_views, SIM_E_CONFIG,
        "augment.small_views: method %s has no small views; expected 0, or one of the "
        "methods %s",
        row->name, methods);
    if (row->check)
        SIM_TRY(row->check(env, options));
done:
    return st;
}

/* Places the parts of the rank one after the other. */
static void place_parts(sim_method *m)
{
    const size_t slots = (m->blocks.hi - m->blocks.lo) * m->slots;
    for (size_t i = 0; i < m->n_parts; i++) {
        sim_part *p = &m->parts[i];
        p->offset = m->x_floats;
        m->n_images += slots * p->n_views;
        m->x_floats += slots * p->n_views * p->image_floats;
    }
}

sim_status sim_method_create(const sim_method_row *row, const sim_method_env *env,
                             const void *options, sim_method *out)
{
    sim_status st = SIM_OK;
    sim_method m = {.row = row, .n_blocks = env->batch / env->block, .slots = env->block};

    SIM_TRY(sim_method_check(row, env, options));
    SIM_TRY(row->create(env, options, &m.self));
    m.blocks = sim_partition_range(env->partition, m.n_blocks);
    m.n_parts = list_parts(row, env, options, m.parts);
    place_parts(&m);
    count_gradient(&m, env->small.n > 0);
    *out = m;
done:
    return st;
}

void sim_method_destroy(sim_method *m)
{
    if (m->self)
        m->row->destroy(&m->self);
    *m = (sim_method){0};
}

void sim_method_set_input(const sim_method *m, const float *x, sim_method_batch *batch)
{
    for (size_t i = 0; i < m->n_parts; i++) {
        batch->x[i] = x + m->parts[i].offset;
        if (m->parts[i].small)
            batch->small_x = batch->x[i];
    }
}

size_t sim_method_gradient_capacity(const sim_method *m, sim_partition p)
{
    return sim_comm_sum_leaves_capacity(p, m->n_blocks, m->node_floats);
}

void sim_method_sum_gradients(const sim_method *m, const sim_comm *c, float *grads)
{
    sim_comm_sum_leaves(c, m->n_blocks, m->node_floats, grads);
    sim_add(m->node_floats - m->gradient_floats, grads + m->gradient_floats, grads);
}

void sim_method_forward_backward(const sim_method *m, const sim_method_batch *batch,
                                 float *grads, sim_loss_report *report,
                                 sim_method_times *times)
{
    double t0 = sim_clock_s(), c0 = sim_comm_seconds();
    m->row->forward(m->self, batch);
    double t1 = sim_clock_s(), c1 = sim_comm_seconds();
    m->row->loss(m->self, batch, report, grads);
    double t2 = sim_clock_s(), c2 = sim_comm_seconds();
    m->row->backward(m->self, report, grads);
    double t3 = sim_clock_s(), c3 = sim_comm_seconds();
    times->forward += t1 - t0;
    times->loss += t2 - t1;
    times->backward += t3 - t2;
    times->encoder_comm += c1 - c0 + c3 - c2;
    times->loss_comm += c2 - c1;
}

static size_t list_parameters(sim_net *net, const char *group, size_t base,
                              sim_parameter *list)
{
    float *weights = sim_net_weights(net);
    size_t n = sim_net_tensors(net);
    for (size_t i = 0; i < n; i++) {
        const sim_net_tensor *t = sim_net_tensor_at(net, i);
        list[i] = (sim_parameter){.group = group,
                                  .name = t->name,
                                  .weights = weights + t->offset,
                                  .count = t->count,
                                  .n_dims = t->n_dims,
                                  .offset = base + t->offset,
                                  .bn_or_bias = t->bn_or_bias};
        memcpy(list[i].dims, t->dims, sizeof list[i].dims);
    }
    return n;
}

/* Scalars are excluded from weight decay and LARS, as biases are. */
static sim_parameter scalar_parameter(const sim_method_scalar *s, size_t offset)
{
    return (sim_parameter){.group = "method",
                           .name = s->name,
                           .weights = s->value,
                           .count = 1,
                           .n_dims = 1,
                           .dims = {1},
                           .offset = offset,
                           .bn_or_bias = true};
}

sim_status sim_method_parameters(const sim_method *m, sim_parameter **out, size_t *n)
{
    sim_status st = SIM_OK;
    sim_net *nets[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    sim_parameter *list = NULL;
    size_t n_nets = m->row->nets(m->self, nets, groups);
    size_t total = scalars_of(m, scalars), n_scalars = total, base = 0;

    for (size_t i = 0; i < n_nets; i++)
        total += sim_net_tensors(nets[i]);
    SIM_TRY(sim_alloc(&list, total, "method/parameters"));
    *n = 0;
    for (size_t i = 0; i < n_nets; i++) {
        *n += list_parameters(nets[i], groups[i], base, list + *n);
        base += sim_net_parameters(nets[i]);
    }
    for (size_t i = 0; i < n_scalars; i++)
        list[(*n)++] = scalar_parameter(&scalars[i], base + i);
    *out = list;
done:
    return st;
}

static const sim_option *option_of_scalar(const sim_method *m, const sim_method_scalar *s)
{
    const sim_option_table *table = m->row->table;
    size_t i = 0;
    while (i < table->n_rows && strcmp(table->rows[i].name, s->key) != 0)
        i++;
    SIM_ASSERT(i < table->n_rows);
    return &table->rows[i];
}

/* The range of the key of a scalar, as limits of the stored value. */
typedef struct {
    float min, max;
} scalar_range;

static scalar_range range_of_scalar(const sim_method *m, const sim_method_scalar *s)
{
    const sim_option *key = option_of_scalar(m, s);
    return (scalar_range){(float)(s->logarithm ? sim_ln(key->min) : key->min),
                          (float)(s->logarithm ? sim_ln(key->max) : key->max)};
}

void sim_method_clip_scalars(const sim_method *m)
{
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    size_t n = scalars_of(m, scalars);
    for (size_t i = 0; i < n; i++) {
        const sim_method_scalar *s = &scalars[i];
        const scalar_range r = range_of_scalar(m, s);
        *s->value = *s->value < r.min ? r.min : *s->value > r.max ? r.max : *s->value;
    }
}

sim_status sim_method_check_scalars(const sim_method *m, const char *path)
{
    sim_status st = SIM_OK;
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    size_t n = scalars_of(m, scalars);

    for (size_t i = 0; i < n; i++) {
        const sim_method_scalar *s = &scalars[i];
        const scalar_range r = range_of_scalar(m, s);
        SIM_CHECK(*s->value >= r.min && *s->value <= r.max, SIM_E_DATA,
                  "%s: /weights/method/%s has the value %.9g, expected %.9g to %.9g, the "
                  "range of method.%s",
                  path, s->name, (double)*s->value, (double)r.min, (double)r.max, s->key);
    }
done:
    return st;
}

size_t sim_method_numbers(const sim_method *m, sim_method_number out[SIM_MAX_SCALARS])
{
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    size_t n = scalars_of(m, scalars);
    for (size_t i = 0; i < n; i++) {
        double value = (double)*scalars[i].value;
        out[i] = (sim_method_number){
            scalars[i].key, scalars[i].logarithm ? sim_exp_double(value) : value};
    }
    return n;
}

sim_status sim_method_visit_buffers(const sim_method *m, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    sim_net *nets[2 * SIM_MAX_NETS];
    const char *groups[2 * SIM_MAX_NETS];
    size_t n = all_nets(m, nets, groups);

    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_net_visit_buffers(nets[i], groups[i], v));
done:
    return st;
}

sim_status sim_method_visit_forward_state(const sim_method *m, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    sim_net *nets[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    size_t n = m->row->momentum_nets ? m->row->momentum_nets(m->self, nets, groups) : 0;

    SIM_TRY(sim_method_visit_buffers(m, v));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_net_visit_weights(nets[i], groups[i], v));
done:
    return st;
}

sim_status sim_method_visit_weights(const sim_method *m, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    sim_net *nets[2 * SIM_MAX_NETS];
    const char *groups[2 * SIM_MAX_NETS];
    sim_method_scalar scalars[SIM_MAX_SCALARS];
    size_t n = all_nets(m, nets, groups), n_scalars = scalars_of(m, scalars);

    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_net_visit_weights(nets[i], groups[i], v));
    for (size_t i = 0; i < n_scalars; i++)
        SIM_TRY(sim_visit_f32(v, "method", scalars[i].name, 1, scalars[i].value));
done:
    return st;
}

/* Copies local rows from block to view order (`to_view`) or back. */
static void permute_rows(const sim_batch_shape *s, size_t d, const float *from, float *to,
                         bool to_view)
{
    size_t n_local = s->blocks.hi - s->blocks.lo;
    size_t run = s->slots * d; /* floats of a (block, view) */
    for (size_t b = 0; b < n_local; b++)
        for (size_t v = 0; v < s->views; v++) {
            size_t by_block = (b * s->views + v) * run;
            size_t by_view = (v * n_local + b) * run;
            if (to_view)
                memcpy(to + by_view, from + by_block, run * sizeof *to);
            else
                memcpy(to + by_block, from + by_view, run * sizeof *to);
        }
}

void sim_rows_by_view(const sim_batch_shape *s, size_t d, const float *by_block,
                      float *by_view)
{
    permute_rows(s, d, by_block, by_view, true);
}

void sim_rows_by_block(const sim_batch_shape *s, size_t d, const float *by_view,
                       float *by_block)
{
    permute_rows(s, d, by_view, by_block, false);
}

static void reduce_over_ranks(void *ctx, size_t n_units, size_t leaves_per_unit,
                              size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                              double *leaves, double *out)
{
    const sim_reduce_shape shape = {.n_units = n_units,
                                    .leaves_per_unit = leaves_per_unit,
                                    .leaves_per_group = leaves_per_group,
                                    .width = width,
                                    .merge = merge};
    sim_comm_reduce_doubles(ctx, &shape, leaves, out);
}

sim_reducer sim_reducer_of(const sim_comm *comm)
{
    return (sim_reducer){.reduce = reduce_over_ranks, .ctx = (void *)(uintptr_t)comm};
}
