/*
 * planner.h - the buffer of every value and gradient of a pass.
 */
#ifndef SIMILE_ENCODER_PLANNER_H
#define SIMILE_ENCODER_PLANNER_H

#include "net.h"

/* A buffer: an offset in the tape's arena, in floats per image, or one of these. */
enum { AT_NONE = -1, AT_INPUT = -2, AT_OUTPUT = -3, AT_DY = -4, AT_DX = -5 };
typedef int64_t buffer_ref;

struct backward_step {
    int node;
    bool recompute;      /* recompute the node's value into dx */
    buffer_ref x;        /* value of its input */
    buffer_ref residual; /* value of its residual */
    buffer_ref dy;       /* gradient of its value */
    buffer_ref g;        /* norm: dy through the activation */
    buffer_ref dx;       /* gradient of its input */
    buffer_ref sum;      /* dx is then added to this buffer unless it is AT_NONE */
    buffer_ref
        add_g; /* g is then added to this gradient of the residual unless it is AT_NONE */
};

typedef struct {
    /* Of every node: its value is computed where its only reader, a convolution, reads it. */
    bool *inlined;
    buffer_ref *value;    /* of every node, forward; AT_NONE if inlined */
    size_t *saved;        /* of every node: offset of its saved bytes, per image */
    backward_step *steps; /* backward, in order */
    size_t n_steps;
    size_t arena;                 /* floats per image */
    size_t saved_bytes_per_image; /* bytes per image, all nodes */
} net_plan;

SIM_MUST_USE sim_status sim_plan_make(const sim_net *net, bool backward, net_plan *out);
void sim_plan_clear(const sim_net *net, net_plan *p);
size_t sim_plan_bytes(const sim_net *net); /* of the plan itself */

/* For a layer's `plan`: */
const node *sim_plan_node(const planner *p, int i);
buffer_ref sim_plan_acquire(planner *p, size_t floats);
void sim_plan_release(planner *p, buffer_ref at); /* no effect outside the arena */
backward_step *sim_plan_push_step(planner *p, int i);
/* A buffer for a gradient of node i's value; pass it to sim_plan_accumulate. */
buffer_ref sim_plan_acquire_gradient(planner *p, int i);
bool sim_plan_is_inlined(const planner *p, int i);
/* A node's value: saved, or recomputed into *recomputed, which the caller releases.  Of an inlined
 * norm, the value of its input. */
buffer_ref sim_plan_recompute(planner *p, int i, buffer_ref *recomputed);
buffer_ref sim_plan_value(const planner *p, int i);
buffer_ref sim_plan_gradient(const planner *p, int i);
/*
 * Records that a step writes a gradient of node i's value to `at`.  If the value has a
 * gradient already, releases `at` and returns that gradient, to which the step adds; returns
 * AT_NONE otherwise.
 */
buffer_ref sim_plan_accumulate(planner *p, int i, buffer_ref at);

#endif
