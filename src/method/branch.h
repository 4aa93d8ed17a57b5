/*
 * branch.h - an encoder with its heads: the nets, tapes and buffers of one kind of pass.
 *
 * images -> backbone -> projector -> maybe a predictor.  What differs between methods is what
 * they compare.
 */
#ifndef SIMILE_METHOD_BRANCH_H
#define SIMILE_METHOD_BRANCH_H

#include "simile/method.h"

enum { BACKBONE, PROJECTOR, PREDICTOR, BRANCH_NETS };

/* What a branch is made of. */
typedef struct {
    size_t views;     /* that pass together */
    size_t predictor; /* hidden width of Linear-BN-activation-Linear, from the projector's
                         dimensions to as many; 0: there is none */
    bool bare_ends; /* heads as MoCo v3's: the projector's last BN has no scale and shift,
                         no linear layer a bias */
} branch_spec;

typedef struct {
    sim_batch_shape shape;
    sim_folder folder;
    size_t n_nets; /* the first of them */
    sim_net *net[BRANCH_NETS];
    sim_tape *tape[BRANCH_NETS];
    float *out[BRANCH_NETS];  /* [images][dim] of each net, by block */
    float *dout[BRANCH_NETS]; /* their gradients */
} branch;

SIM_MUST_USE sim_status branch_create(const sim_method_env *env, const branch_spec *spec,
                                      branch **out);
void branch_destroy(branch **b);
/* Adds what create takes to the rows of a plan. */
SIM_MUST_USE sim_status branch_plan(const sim_method_env *env, const branch_spec *spec,
                                    size_t ranks, size_t rank, sim_plan_row rows[32],
                                    size_t *n_rows);

/* What a loss asks for of scratch comes after the layers: the larger of the two stays. */
void branch_plan_scratch(size_t bytes_of_thread, sim_plan_row *rows, size_t n_rows);
/* The same of a loss over tiles of d dimensions. */
void branch_plan_loss(size_t d, sim_plan_row *rows, size_t n_rows);

size_t branch_dim(const branch *b, int net);
size_t branch_parameters(const branch *b);
/* What its nets are. */
sim_net_spec branch_backbone_spec(const sim_method_env *env);
sim_head_spec branch_projector_spec(const sim_method_env *env, const branch_spec *spec);
/* The shape of a batch of `views` views, for the rank of env. */
sim_batch_shape branch_shape(const sim_method_env *env, size_t views);

/* x [local block][view][slot] images; fills out[]. */
void branch_forward(branch *b, const float *x);
/* From dout of the last net down; gradients of all nets, one after the other. */
void branch_backward(branch *b, float *grads, size_t stride);
/* After the weights changed. */
void branch_updated(branch *b);

/* Names its nets; their number. */
size_t branch_nets(const branch *b, sim_net *nets[SIM_MAX_NETS],
                   const char *groups[SIM_MAX_NETS]);
/* Visits weights and statistics. */
SIM_MUST_USE sim_status branch_visit(branch *b, const sim_visitor *v);

/* ---- rows of unit length, view by view, as the losses take them ---- */

typedef struct {
    size_t n, d;     /* rows of this rank over all views */
    float *raw;      /* [view][block][slot][d] */
    float *z, *norm; /* of unit length; the lengths of raw */
    float *dz;       /* gradient with respect to z */
} unit_rows;

SIM_MUST_USE sim_status unit_rows_create(const sim_batch_shape *s, size_t d,
                                         unit_rows *out);
void unit_rows_release(unit_rows *r);
size_t unit_rows_bytes(const sim_batch_shape *s, size_t d);
void unit_rows_take(unit_rows *r, const sim_batch_shape *s, const float *by_block);
/* dz through the normalisation, by block; raw is overwritten. */
void unit_rows_give(unit_rows *r, const sim_batch_shape *s, float *by_block);

/* ---- trained numbers ---- */

/* Puts the gradient of scalar `at` of the arena into the node that holds leaf 0, and zeros
 * into the others, so that the tree's sum is the value itself. */
void scalar_gradient(const sim_batch_shape *s, double value, size_t at, float *grads,
                     size_t stride);

/* What keys allow, most of rows of unit length. */
#define LEAST_TEMPERATURE 0.005
#define MOST_TEMPERATURE  10.0

/* A softmax temperature that may be learned, as exp of a trained logarithm, in the bounds
 * that the key has. */
typedef struct {
    bool learned;
    double fixed, most;
    float log;
} temperature;
temperature temperature_begin(double value, double most, bool learned);
double temperature_value(const temperature *t);
size_t temperature_scalars(temperature *t, sim_method_scalar out[SIM_MAX_SCALARS]);
SIM_MUST_USE sim_status temperature_visit(temperature *t, const sim_visitor *v);
/* The order of the gradient of its logarithm, the start's and no less than 1: how far a
 * positive is from the mean of negatives, over T; 0 where it is not learned. */
double temperature_pull(bool learned, double value, double apart);
/* Of unit rows of an encoder that has just begun (measured at T 0.005 to 0.05: 0.06 to 0.13). */
#define UNIT_ROWS_APART 0.12
/* "temperature 0.2", "temperature learned from 0.2". */
void temperature_about(const temperature *t, char *out, size_t out_bytes);

#endif
