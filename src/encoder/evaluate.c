/*
 * evaluate.c - forward passes with running statistics, in chunks of images.
 */
#include "build.h"
#include "tape.h"

#include "simile/memory.h"

enum { EVALUATION_IMAGES = 64 }; /* per pass, at most */

static const sim_batch_shape evaluation_shape = {
    .n_blocks = 1, .blocks = {0, 1}, .views = 1, .slots = EVALUATION_IMAGES};
static const sim_batchnorm_options one_leaf = {.group = 0};

struct sim_evaluator {
    sim_tape *tape;
};

sim_status sim_evaluator_create(sim_net *net, sim_evaluator **out)
{
    sim_status st = SIM_OK;
    sim_evaluator *e = NULL;

    SIM_TRY(sim_new(&e, "encoder/tape"));
    SIM_TRY(sim_tape_create_with(net, &evaluation_shape, &sim_reducer_local, &one_leaf,
                                 PASS_EVALUATE, &e->tape));
    *out = e;
    e = NULL;
done:
    sim_evaluator_destroy(&e);
    return st;
}

void sim_evaluator_destroy(sim_evaluator **e)
{
    if (!*e)
        return;
    sim_tape_destroy(&(*e)->tape);
    SIM_FREE(*e);
}

void sim_evaluator_run(sim_evaluator *e, size_t n_images, const float *x, float *y)
{
    sim_tape *t = e->tape;
    size_t in = sim_net_input(t->net), out = sim_net_dim(t->net);

    for (size_t at = 0; at < n_images; at += EVALUATION_IMAGES) {
        size_t n = n_images - at < EVALUATION_IMAGES ? n_images - at : EVALUATION_IMAGES;
        t->rank.slots = n;
        sim_net_forward(t, x + at * in, y + at * out);
    }
}

sim_status sim_evaluator_plan(const sim_net_spec *backbone, sim_evaluator_bytes *bytes,
                              sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    sim_net_spec spec = *backbone;
    sim_net *net = NULL;
    tape_bytes tape;

    spec.batchnorm = &one_leaf;
    SIM_TRY(sim_net_backbone_nodes(&spec, &net));
    SIM_TRY(sim_tape_plan(net, &evaluation_shape, PASS_EVALUATE, &tape, workspace));
    *bytes = (sim_evaluator_bytes){.evaluator = sizeof(sim_evaluator) + tape.activations +
                                                tape.panels + tape.sums + tape.structure,
                                   .state = net->n_weights * sizeof(float) +
                                            sim_net_running_bytes(net),
                                   .net = sim_net_structure_bytes(net)};
done:
    sim_net_destroy(&net);
    return st;
}
