/*
 * model.c - the networks of a job or checkpoint: shapes, creation, names.
 *
 * images (or patches) -> backbone -> projector -> predictor; or -> context (CPC); or -> classifier.
 * Called by method, which trains them, and by eval, which opens them from a checkpoint.
 */
#include "simile/model.h"

#include "simile/memory.h"

#include <stdio.h>

/* Numbers of the heads in the random draws of their weights. */
enum { PROJECTOR_SALT, PREDICTOR_SALT, CLASSIFIER_SALT };

static const char *const group_names[SIM_MODEL_NETS] = {
    "encoder", "projector", "predictor", "context", "classifier"};

const char *sim_model_group(int net)
{
    SIM_ASSERT(net >= 0 && net < SIM_MODEL_NETS);
    return group_names[net];
}

/* ---- shapes ---- */

static sim_head_spec projector_spec(const sim_model_spec *spec, const sim_net_spec *b)
{
    const sim_encoder_options *e = b->encoder;
    size_t in = sim_backbone_dim(e);
    bool standard = spec->heads == SIM_HEADS_STANDARD;
    return (sim_head_spec){.in = in,
                           .hidden =
                               e->projector_hidden ? (size_t)e->projector_hidden : in,
                           .dim = (size_t)e->projector_dim,
                           .layers = e->projector_layers,
                           .bn = e->projector_bn,
                           .last_bn = e->projector_last_bn,
                           .last_affine = standard,
                           .no_bias = !standard,
                           .activation = e->activation,
                           .batchnorm = b->batchnorm,
                           .seed = b->seed,
                           .salt = PROJECTOR_SALT};
}

/* Linear-BN-activation-Linear, with as many outputs as inputs. */
static sim_head_spec predictor_spec(const sim_model_spec *spec, const sim_net_spec *b)
{
    size_t dim = (size_t)b->encoder->projector_dim;
    return (sim_head_spec){.in = dim,
                           .hidden = spec->predictor_hidden,
                           .dim = dim,
                           .layers = 2,
                           .bn = true,
                           .no_bias = spec->heads == SIM_HEADS_MOCOV3,
                           .activation = b->encoder->activation,
                           .batchnorm = b->batchnorm,
                           .seed = b->seed,
                           .salt = PREDICTOR_SALT};
}

static sim_head_spec classifier_spec(const sim_model_spec *spec, const sim_net_spec *b)
{
    return (sim_head_spec){.in = sim_backbone_dim(b->encoder),
                           .dim = spec->classes,
                           .layers = 1,
                           .initial = spec->initial,
                           .batchnorm = b->batchnorm,
                           .seed = b->seed,
                           .salt = CLASSIFIER_SALT};
}

sim_status sim_model_lay_out(const sim_model_spec *spec, const sim_net_spec *image,
                             sim_model_layout *out)
{
    sim_status st = SIM_OK;
    const sim_encoder_options *e = image->encoder;

    SIM_TRY(sim_patches_of(spec->grid, image->h, image->w, image->c, &out->patches));
    out->has[SIM_BACKBONE] = true;
    out->has[SIM_PROJECTOR] = spec->projector;
    out->has[SIM_PREDICTOR] = spec->predictor_hidden > 0;
    out->has[SIM_CONTEXT] = spec->context;
    out->has[SIM_CLASSIFIER] = spec->classes > 0;
    out->batchnorm = *image->batchnorm;
    if (spec->grid)
        out->batchnorm.group *= (int64_t)(spec->grid * spec->grid);
    out->backbone = *image;
    out->backbone.batchnorm = &out->batchnorm;
    out->backbone.h = out->patches.patch_h;
    out->backbone.w = out->patches.patch_w;
    out->projector = projector_spec(spec, &out->backbone);
    out->predictor = predictor_spec(spec, &out->backbone);
    out->classifier = classifier_spec(spec, &out->backbone);
    out->context = (sim_context_spec){.grid = spec->grid,
                                      .dim = spec->projector ? (size_t)e->projector_dim
                                                             : sim_backbone_dim(e),
                                      .activation = e->activation,
                                      .seed = image->seed};
done:
    return st;
}

/* ---- networks ---- */

const sim_head_spec *sim_model_head(const sim_model_layout *layout, int net)
{
    SIM_ASSERT(net == SIM_PROJECTOR || net == SIM_PREDICTOR || net == SIM_CLASSIFIER);
    return net == SIM_PROJECTOR   ? &layout->projector
           : net == SIM_PREDICTOR ? &layout->predictor
                                  : &layout->classifier;
}

static sim_status create_net(const sim_model_layout *layout, int net, sim_net **out)
{
    if (net == SIM_BACKBONE)
        return sim_backbone_create(&layout->backbone, out);
    if (net == SIM_CONTEXT)
        return sim_context_create(&layout->context, out);
    return sim_head_create(sim_model_head(layout, net), out);
}

sim_status sim_model_create(const sim_model_layout *layout, unsigned nets, sim_model *out)
{
    sim_status st = SIM_OK;
    sim_model m = {.net = {NULL}};

    for (int i = 0; i < SIM_MODEL_NETS; i++)
        if (layout->has[i] && (nets & 1U << i))
            SIM_TRY(create_net(layout, i, &m.net[i]));
    *out = m;
    m = (sim_model){.net = {NULL}};
done:
    sim_model_destroy(&m);
    return st;
}

void sim_model_destroy(sim_model *m)
{
    for (int i = 0; i < SIM_MODEL_NETS; i++)
        sim_net_destroy(&m->net[i]);
}

sim_status sim_model_visit(const sim_model *m, const char *prefix, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    char path[64];

    for (int i = 0; i < SIM_MODEL_NETS; i++) {
        if (!m->net[i])
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", prefix, group_names[i]);
        SIM_TRY(sim_net_visit(m->net[i], path, v));
    }
done:
    return st;
}

typedef struct {
    sim_model model;
    const char *prefix;
} stored_model;

static sim_status visit_stored(void *object, const sim_visitor *v)
{
    const stored_model *s = object;
    return sim_model_visit(&s->model, s->prefix, v);
}

sim_status sim_model_open(const sim_checkpoint *k, const sim_model_layout *layout,
                          unsigned nets, const char *prefix, sim_model *out)
{
    sim_status st = SIM_OK;
    stored_model s = {.prefix = prefix};
    const sim_state_source source = {visit_stored, &s};

    SIM_TRY(sim_model_create(layout, nets, &s.model));
    SIM_TRY(sim_checkpoint_load(k, &source, 1));
    *out = s.model;
    s.model = (sim_model){.net = {NULL}};
done:
    sim_model_destroy(&s.model);
    return st;
}
