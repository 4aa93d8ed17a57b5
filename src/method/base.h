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
#include "scalar.h"
#include "target.h"

typedef struct {
    branch *encoder;
    target *target;   /* momentum copy, or NULL */
    sim_queue *queue; /* or NULL */
    temperature temperature;
    size_t batch;
} base;

/* Branch and temperature; the rest stays as it is. */
SIM_MUST_USE sim_status base_create(const sim_method_env *env, const branch_spec *spec,
                                    base *out);
void base_release(base *b);

/* ---- a step ---- */

/* Its three parts, each timed: passes; the comparison, which fills the report and dout of what
 * was compared; gradients of all that is trained. */
typedef struct {
    void (*forward)(void *self, const sim_method_batch *batch);
    void (*compare)(void *self, const sim_method_batch *batch, sim_loss_report *report);
    void (*backward)(void *self, const sim_loss_report *report, float *grads);
} step_parts;
void step_run(const step_parts *parts, void *self, const sim_method_batch *batch,
              float *grads, sim_loss_report *report, sim_method_times *times);

void base_forward(void *self, const sim_method_batch *batch); /* of the branch alone */
/* The branch, then the temperature if it is learned. */
void base_backward(void *self, const sim_loss_report *report, float *grads);

/* ---- the rest of a row ---- */

size_t base_two_views(const void *options, sim_part parts[SIM_MAX_PARTS]);
void base_updated(void *self);
void base_begun(void *self); /* with a target */
size_t base_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                 const char *groups[SIM_MAX_NETS]);
size_t base_companions(void *self, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS]);
size_t base_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS]);
sim_queue *base_queue(void *self);
SIM_MUST_USE sim_status base_visit(void *self, const sim_visitor *v);

/* The rows that a loss over the batch takes. */
sim_rows_shape base_rows(const sim_method_env *env, size_t views);

#endif
