/*
 * base.h - what a method of one trained branch is made of, and the functions of its row that
 * are the same for all of them.
 *
 * A method's struct begins with a `base`; then the functions below that take `self` may stand
 * in its row as they are.
 */
#ifndef SIMILE_METHOD_BASE_H
#define SIMILE_METHOD_BASE_H

#include "branch.h"
#include "momentum_encoder.h"
#include "scalar.h"

typedef struct {
    branch *encoder;
    target *target;   /* momentum copy, or NULL */
    sim_queue *queue; /* or NULL */
    temperature temperature;
    size_t batch;
} base;

/* Branch and temperature; the rest stays as it is. */
SIM_MUST_USE sim_status sim_base_create(const sim_method_env *env,
                                        const sim_model_spec *spec, size_t views,
                                        base *out);
void sim_base_release(base *b);

/* ---- a step ---- */

/* Its three parts, each timed: passes; the comparison, which fills the report and dout of what
 * was compared; gradients of all that is trained. */
typedef struct {
    void (*forward)(void *self, const sim_method_batch *batch);
    void (*compare)(void *self, const sim_method_batch *batch, sim_loss_report *report);
    void (*backward)(void *self, const sim_loss_report *report, float *grads);
} step_parts;
void sim_method_step_run(const step_parts *parts, void *self,
                         const sim_method_batch *batch, float *grads,
                         sim_loss_report *report, sim_method_times *times);

void sim_base_forward(void *self,
                      const sim_method_batch *batch); /* of the branch alone */
/* The branch, then the temperature if it is learned. */
void sim_base_backward(void *self, const sim_loss_report *report, float *grads);

/* ---- the rest of a row ---- */

/* Backbone and projector. */
sim_model_spec sim_base_model(const void *options);
size_t sim_base_two_views(const void *options, sim_part parts[SIM_MAX_PARTS]);
void sim_base_updated(void *self);
void sim_base_started(void *self); /* with a target */
size_t sim_base_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                     const char *groups[SIM_MAX_NETS]);
size_t sim_base_momentum_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                              const char *groups[SIM_MAX_NETS]);
size_t sim_base_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS]);
sim_queue *sim_base_queue(void *self);
SIM_MUST_USE sim_status sim_base_visit(void *self, const sim_visitor *v);

/* The rows that a loss over the batch takes. */
sim_rows_shape sim_base_rows(const sim_method_env *env, size_t views);

#endif
