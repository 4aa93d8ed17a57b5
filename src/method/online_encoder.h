/*
 * online_encoder.h - an encoder with its heads: the nets, tapes and buffers of one kind of pass.
 *
 * images -> backbone -> projector -> maybe a predictor.  What differs between methods is what
 * they compare.
 */
#ifndef SIMILE_METHOD_ONLINE_ENCODER_H
#define SIMILE_METHOD_ONLINE_ENCODER_H

#include "simile/method.h"

typedef struct {
    sim_batch_shape shape;
    sim_reducer reducer;
    size_t n_nets; /* the first of them, without gaps */
    sim_model model;
    sim_tape *tape[SIM_MODEL_NETS];
    float *out[SIM_MODEL_NETS];  /* [images][dim] of each net, by block */
    float *dout[SIM_MODEL_NETS]; /* their gradients */
} online_encoder;

SIM_MUST_USE sim_status sim_online_create(const sim_method_env *env,
                                          const sim_model_spec *spec, size_t views,
                                          online_encoder **out);
void sim_online_destroy(online_encoder **b);
/* Adds what create takes to the rows of a plan. */
SIM_MUST_USE sim_status sim_online_plan(const sim_method_env *env,
                                        const sim_model_spec *spec, size_t views,
                                        sim_plan_row rows[32], size_t *n_rows);

void sim_plan_add(sim_plan_row rows[32], size_t *n_rows, const char *item, size_t bytes);
/* What a loss asks for of scratch comes after the layers: the larger of the two stays. */
void sim_online_plan_scratch(size_t bytes_of_thread, sim_plan_row *rows, size_t n_rows);
/* The same of a loss over tiles of d dimensions. */
void sim_online_plan_loss(size_t d, sim_plan_row *rows, size_t n_rows);

size_t sim_online_dim(const online_encoder *b, int net);
size_t sim_online_parameters(const online_encoder *b);
/* The networks of a row for views of env's size. */
SIM_MUST_USE sim_status sim_online_lay_out(const sim_method_env *env,
                                           const sim_model_spec *spec,
                                           sim_model_layout *out);
/* The shape of a batch of `views` views, for the rank of env. */
sim_batch_shape sim_online_shape(const sim_method_env *env, size_t views);

/* x [local block][view][slot] images; fills out[]. */
void sim_online_forward(online_encoder *b, const float *x);
/* From dout of the last net down; gradients of all nets, one after the other. */
void sim_online_backward(online_encoder *b, float *grads, size_t stride);
/* After the weights changed. */
void sim_online_updated(online_encoder *b);

/* Names its nets; their number. */
size_t sim_online_nets(const online_encoder *b, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS]);
/* Visits weights and statistics. */
SIM_MUST_USE sim_status sim_online_visit(online_encoder *b, const sim_visitor *v);

/* ---- rows of unit length, view by view, as the losses take them ---- */

typedef struct {
    size_t n, d;     /* rows of this rank over all views */
    float *raw;      /* [view][block][slot][d] */
    float *z, *norm; /* of unit length; the lengths of raw */
    float *dz;       /* gradient with respect to z */
} unit_rows;

SIM_MUST_USE sim_status sim_unit_rows_create(const sim_batch_shape *s, size_t d,
                                             unit_rows *out);
void sim_unit_rows_release(unit_rows *r);
size_t sim_unit_rows_bytes(const sim_batch_shape *s, size_t d);
void sim_unit_rows_load(unit_rows *r, const sim_batch_shape *s, const float *by_block);
/* dz through the normalisation, by block; raw is overwritten. */
void sim_unit_rows_store_gradient(unit_rows *r, const sim_batch_shape *s,
                                  float *by_block);

#endif
