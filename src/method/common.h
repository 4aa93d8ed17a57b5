/*
 * common.h - what a method of one trained branch is made of, and the functions of its row that
 * are the same for all of them.
 *
 * A method's struct begins with a `base`; then the functions below that take `self` may stand
 * in its row as they are.
 */
#ifndef SIMILE_METHOD_COMMON_H
#define SIMILE_METHOD_COMMON_H

#include "momentum_encoder.h"
#include "online_encoder.h"
#include "scalar.h"

typedef struct {
    online_encoder *encoder;
    momentum_encoder *momentum; /* momentum copy, or NULL */
    sim_queue *queue;           /* or NULL */
    temperature temperature;
    size_t batch;
} method_common;

/* Branch and temperature; the rest stays as it is. */
SIM_MUST_USE sim_status sim_common_create(const sim_method_env *env,
                                          const sim_model_spec *spec, size_t views,
                                          method_common *out);
void sim_common_release(method_common *b);

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

void sim_common_forward(void *self,
                        const sim_method_batch *batch); /* of the branch alone */
/* The branch, then the temperature if it is learned. */
void sim_common_backward(void *self, const sim_loss_report *report, float *grads);

/* ---- the rest of a row ---- */

/* Backbone and projector. */
sim_model_spec sim_common_model(const void *options);
size_t sim_common_two_views(const void *options, sim_part parts[SIM_MAX_PARTS]);
void sim_common_updated(void *self);
void sim_common_started(void *self); /* with a momentum_encoder */
size_t sim_common_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS]);
size_t sim_common_momentum_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                                const char *groups[SIM_MAX_NETS]);
size_t sim_common_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS]);
sim_queue *sim_common_queue(void *self);
SIM_MUST_USE sim_status sim_common_visit(void *self, const sim_visitor *v);

/* The rows that a loss over the batch takes. */
sim_rows_shape sim_common_rows(const sim_method_env *env, size_t views);

#endif
