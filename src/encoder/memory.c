/*
 * memory.c - bytes of networks and their tapes, for `simile plan`.
 *
 * It builds the nodes without weights and plans the passes without a tape.
 */
#include "build.h"
#include "tape.h"

#include "simile/thread.h"

enum {
    WEIGHTS,
    RUNNING,
    FILTERS,
    ACTIVATIONS,
    SUMS,
    GRADIENTS,
    STRUCTURE,
    N_ITEMS,
    WORKSPACE = N_ITEMS, /* rows shared by all nets */
    SCRATCH,
    N_ROWS
};

static sim_status plan_one(const sim_net *net, const sim_batch_shape *shape,
                           pass_kind passes, size_t bytes[N_ITEMS],
                           sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    tape_bytes tape;

    SIM_TRY(sim_tape_plan(net, shape, passes, &tape, workspace));
    bytes[WEIGHTS] += net->n_weights * sizeof(float);
    bytes[RUNNING] += sim_net_running_bytes(net);
    bytes[FILTERS] += tape.panels;
    bytes[ACTIVATIONS] += tape.activations;
    bytes[SUMS] += tape.sums;
    bytes[GRADIENTS] += tape.gradients;
    bytes[STRUCTURE] += sim_net_structure_bytes(net) + tape.structure;
done:
    return st;
}

static void raise_row(sim_plan_row *row, size_t bytes)
{
    if (row->bytes < bytes)
        row->bytes = bytes;
}

void sim_plan_raise(sim_plan_row *rows, size_t n_rows,
                    const sim_workspace_size *workspace)
{
    SIM_ASSERT(n_rows >= N_ROWS);
    raise_row(&rows[WORKSPACE], workspace->shared);
    raise_row(&rows[SCRATCH],
              sim_scratch_capacity(workspace->thread) * (size_t)sim_threads());
}

/* Bytes add up, except for the shared workspace and scratch: the maximum counts. */
static void add_rows(const size_t bytes[N_ITEMS], const sim_workspace_size *workspace,
                     sim_plan_row *rows)
{
    for (size_t i = 0; i < N_ITEMS; i++)
        rows[i].bytes += bytes[i];
    sim_plan_raise(rows, N_ROWS, workspace);
}

static size_t begin_rows(sim_plan_row *rows)
{
    static const char *const items[N_ROWS] = {
        "weights",     "running statistics", "packed filters",
        "activations", "batch-norm sums",    "partial gradients",
        "layers",      "workspace",          "scratch"};
    for (size_t i = 0; i < N_ROWS; i++)
        rows[i] = (sim_plan_row){items[i], 0};
    return N_ROWS;
}

/* Consumes the net. */
static sim_status add_net(sim_net **net, const sim_batch_shape *shape, pass_kind passes,
                          sim_plan_row *rows)
{
    sim_status st = SIM_OK;
    size_t bytes[N_ITEMS] = {0};
    sim_workspace_size workspace = {0};

    SIM_TRY(plan_one(*net, shape, passes, bytes, &workspace));
    add_rows(bytes, &workspace, rows);
done:
    sim_net_destroy(net);
    return st;
}

static sim_status add_heads(const sim_head_spec *heads, size_t n_heads,
                            const sim_batch_shape *shape, pass_kind passes,
                            sim_plan_row *rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    for (size_t i = 0; i < n_heads; i++) {
        SIM_TRY(sim_net_head_nodes(&heads[i], &net));
        SIM_TRY(add_net(&net, shape, passes, rows));
    }
done:
    return st;
}

static sim_status plan_nets(const sim_net_spec *backbone, const sim_head_spec *heads,
                            size_t n_heads, const sim_batch_shape *shape,
                            pass_kind passes, sim_plan_row rows[16], size_t *n_rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    *n_rows = begin_rows(rows);
    SIM_TRY(sim_net_backbone_nodes(backbone, &net));
    SIM_TRY(add_net(&net, shape, passes, rows));
    SIM_TRY(add_heads(heads, n_heads, shape, passes, rows));
done:
    return st;
}

sim_status sim_heads_plan(const sim_head_spec *heads, size_t n_heads,
                          const sim_batch_shape *shape, sim_plan_row rows[16],
                          size_t *n_rows)
{
    *n_rows = begin_rows(rows);
    return add_heads(heads, n_heads, shape, PASS_TRAIN, rows);
}

sim_status sim_head_plan(const sim_head_spec *head, const sim_batch_shape *shape,
                         sim_plan_row *rows, size_t n_rows)
{
    SIM_ASSERT(n_rows >= N_ROWS);
    return add_heads(head, 1, shape, PASS_TRAIN, rows);
}

sim_status sim_context_plan(const sim_context_spec *spec, const sim_batch_shape *shape,
                            sim_plan_row *rows, size_t n_rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    SIM_ASSERT(n_rows >= N_ROWS);
    SIM_TRY(sim_net_context_nodes(spec, &net));
    SIM_TRY(add_net(&net, shape, PASS_TRAIN, rows));
done:
    return st;
}

/* Consumes the net.  owned: bytes of the net itself that are allocated a second time. */
static sim_status add_shared_net(sim_net **net, const sim_batch_shape *shape,
                                 size_t owned, sim_plan_row *rows)
{
    sim_status st = SIM_OK;
    size_t bytes[N_ITEMS] = {0};
    sim_workspace_size workspace = {0};

    SIM_TRY(plan_one(*net, shape, PASS_TRAIN, bytes, &workspace));
    bytes[WEIGHTS] = bytes[RUNNING] = 0;
    bytes[STRUCTURE] -= sim_net_structure_bytes(*net) - owned;
    add_rows(bytes, &workspace, rows);
done:
    sim_net_destroy(net);
    return st;
}

sim_status sim_net_plan_shared(const sim_net_spec *backbone, const sim_head_spec *heads,
                               size_t n_heads, const sim_batch_shape *shape,
                               sim_plan_row *rows, size_t n_rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    SIM_ASSERT(n_rows >= N_ROWS);
    SIM_TRY(sim_net_backbone_nodes(backbone, &net));
    SIM_TRY(add_shared_net(&net, shape, sim_net_structure_bytes(net), rows));
    for (size_t i = 0; i < n_heads; i++) {
        SIM_TRY(sim_net_head_nodes(&heads[i], &net));
        SIM_TRY(add_shared_net(&net, shape, 0, rows));
    }
done:
    return st;
}

sim_status sim_net_plan(const sim_net_spec *backbone, const sim_head_spec *heads,
                        size_t n_heads, const sim_batch_shape *shape,
                        sim_plan_row rows[16], size_t *n_rows)
{
    return plan_nets(backbone, heads, n_heads, shape, PASS_TRAIN, rows, n_rows);
}

sim_status sim_net_plan_forward(const sim_net_spec *backbone, const sim_head_spec *heads,
                                size_t n_heads, const sim_batch_shape *shape,
                                sim_plan_row rows[16], size_t *n_rows)
{
    return plan_nets(backbone, heads, n_heads, shape, PASS_FORWARD, rows, n_rows);
}
