/*
 * online_encoder.h - the trained encoder with its heads: networks, tapes and outputs.
 *
 * images -> backbone -> projector -> predictor, or -> classifier; those that the model has.
 * With encoder.freeze the backbone is evaluated with its running statistics and not trained.
 */
#ifndef SIMILE_METHOD_ONLINE_ENCODER_H
#define SIMILE_METHOD_ONLINE_ENCODER_H

#include "unit_rows.h"

/* Views of one size, which pass through the networks together. */
typedef struct {
    sim_batch_shape shape;
    sim_net *
        backbone; /* for views of this size; that of another group shares weights with the model's */
    sim_tape *tape[SIM_MODEL_NETS]; /* by network; NULL if frozen */
    float *out[SIM_MODEL_NETS];     /* [images][dim] of each network, by block */
    float *dout[SIM_MODEL_NETS];    /* their gradients; NULL if frozen */
} view_group;

enum { LARGE_VIEWS, SMALL_VIEWS, MAX_VIEW_GROUPS };

typedef struct {
    sim_reducer reducer;
    size_t n_nets;
    int chain
        [SIM_MODEL_NETS]; /* [n_nets] networks, each with the output of the one before */
    size_t first_trained; /* 1 if the backbone is frozen, otherwise 0 */
    sim_model model;
    sim_evaluator *frozen; /* of the backbone, or NULL */
    view_group group[MAX_VIEW_GROUPS];
    size_t n_groups;
} online_encoder;

/* `views`: per image, of a pass; those of env->small pass in addition.  Errors: SIM_E_CONFIG as sim_patches_of; SIM_E_IO. */
SIM_MUST_USE sim_status sim_online_create(const sim_method_env *env,
                                          const sim_model_spec *spec, size_t views,
                                          online_encoder **out);
void sim_online_destroy(online_encoder **e);

/* Appends a row to a memory plan. */
void sim_plan_add(sim_plan_row rows[32], size_t *n_rows, const char *item, size_t bytes);
/* Appends the memory that sim_online_create takes. */
SIM_MUST_USE sim_status sim_online_plan(const sim_method_env *env,
                                        const sim_model_spec *spec, size_t views,
                                        sim_plan_row rows[32], size_t *n_rows);
/* Raises the row "scratch" to at least that many bytes per thread. */
void sim_online_plan_scratch(size_t bytes_per_thread, sim_plan_row *rows, size_t n_rows);

/* The networks for views of the size in env; see sim_model_lay_out. */
SIM_MUST_USE sim_status sim_online_lay_out(const sim_method_env *env,
                                           const sim_model_spec *spec,
                                           sim_model_layout *out);
/* The batch of the rank of env, with that many views per image. */
sim_batch_shape sim_online_shape(const sim_method_env *env, size_t views);
size_t sim_online_parameters(const online_encoder *e); /* trained ones */

/* Fills out[] of all groups.  x, small_x: of each group, [local block][view][slot][h][w][c].
 * Collective. */
void sim_online_forward(online_encoder *e, const float *x, const float *small_x);
/* Fills the rows with the outputs of a network, group after group, as many as `r` has, which is the
 * views of the first group or of all. */
void sim_online_load(const online_encoder *e, int net, unit_rows *r);
/* Writes the gradients of all rows to dout[] of a network; r->raw is overwritten. */
void sim_online_store_gradient(online_encoder *e, int net, unit_rows *r);
/* Reads dout[] of the last network, overwrites that of the others; writes the gradients of all
 * trained networks, one after the other, to grads[node][stride]; those of small views begin `small`
 * floats later.  Collective. */
void sim_online_backward(online_encoder *e, float *grads, size_t small, size_t stride);

/* Trained networks and their groups; returns their number. */
size_t sim_online_nets(const online_encoder *e, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS]);
/* Visits weights and running statistics under /weights. */
SIM_MUST_USE sim_status sim_online_visit(online_encoder *e, const sim_visitor *v);

#endif
