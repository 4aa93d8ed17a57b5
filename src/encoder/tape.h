/*
 * tape.h - a tape: the buffers of passes over batches of one shape.
 *
 * A pass of the layers covers a micro-batch, which may be all blocks of the rank.  Layers read
 * `shape`, `reducer`, `sums` and `n_images`, which are those of the micro-batch.
 */
#ifndef SIMILE_ENCODER_TAPE_H
#define SIMILE_ENCODER_TAPE_H

#include "leaves.h"
#include "planner.h"

struct sim_tape {
    sim_net *net;
    sim_batchnorm_options batchnorm;
    sim_batch_shape rank;  /* all blocks of the rank */
    sim_batch_shape shape; /* the micro-batch */
    sim_reducer all_ranks; /* the caller's */
    sim_reducer reducer;   /* of the micro-batch */
    net_plan plan;
    batch_sums sums;
    bool backward;
    bool evaluation; /* norms use running statistics */
    size_t n_images;
    float *arena;
    float *panels;     /* packed filters: of one node after another, or of all */
    bool keeps_panels; /* of all: passes of the same weights follow each other */
    bool packs;        /* passes pack the filters of their nodes */
    uint8_t *saved;
    float *state;          /* of all nodes */
    size_t *state_offsets; /* of every node */
    const float *x, *dy;
    float *y, *dx;
    /* Of tapes with rank.micro_blocks: */
    const float *rank_x; /* of the last forward pass: of all blocks */
    float *rank_y;
    size_t micro_batch; /* the one whose activations the tape holds */
    double *moments;  /* of the rank's batch norm groups, until all have passed forward */
    float *gradients; /* tree stack of the nodes of micro-batches, [depth][weights] */
};

/* Passes with other batch norm groups than the net's, or with its running statistics. */
SIM_MUST_USE sim_status sim_tape_create_with(sim_net *net, const sim_batch_shape *rank,
                                             const sim_reducer *reducer,
                                             const sim_batchnorm_options *batchnorm,
                                             pass_kind passes, sim_tape **out);

/* Bytes of a tape's activations; of its packed filters; of its sums over the batch; of the gradients
 * of micro-batches; of the tape's structure. */
typedef struct {
    size_t activations, panels, sums, gradients, structure;
} tape_bytes;
/* Those of a tape with the net's batch norm groups; raises *workspace to what the passes
 * need. */
SIM_MUST_USE sim_status sim_tape_plan(const sim_net *net, const sim_batch_shape *rank,
                                      pass_kind passes, tape_bytes *bytes,
                                      sim_workspace_size *workspace);

/* The next pass covers micro-batch k. */
void sim_tape_select(sim_tape *t, size_t k);
/* Passes of the selected micro-batch; x, y, dy, dx and grads are those of the micro-batch. */
void sim_tape_forward(sim_tape *t, const float *x, float *y);
void sim_tape_backward(sim_tape *t, const float *dy, float *dx, float *grads,
                       size_t node_stride);

const float *sim_tape_read_at(const sim_tape *t, buffer_ref at);
float *sim_tape_write_at(const sim_tape *t, buffer_ref at);
uint8_t *sim_tape_saved(const sim_tape *t, int i);
float *sim_tape_state(const sim_tape *t, int i);
/* Where the forward or backward pass of node i packs its filters. */
float *sim_tape_panels(const sim_tape *t, int i, bool backward);
/* False if the step's dx is that of the net's input and the caller passed NULL. */
bool sim_tape_needs_dx(const sim_tape *t, const backward_step *s);
/* ---- norm.c: passes of a convolution beside a norm ---- */

/* Node i is a norm that is computed where its reader reads it: its output as a convolution's input,
 * of which x is the norm's input. */
sim_conv_input sim_tape_norm_input(const sim_tape *t, int i, const float *x);
/* The node after convolution i is a norm that needs the moments of its output. */
bool sim_tape_wants_moments(const sim_tape *t, int i);
/* Forward of convolution i, whose output y is the input of the norm after it; the moments of y are
 * left in t->sums.sums. */
void sim_tape_conv_moments(sim_tape *t, int i, const float *panels,
                           const sim_conv_input *x, float *y);
/* Gradient of the input of convolution i, which reads through a norm whose input is x: g is the
 * gradient before the activation; its sums are left in t->sums.sums. */
void sim_tape_conv_sums(sim_tape *t, int i, const float *panels, const float *x,
                        const float *dy, float *g);

/* The node that node i reads. */
const node *sim_tape_input_node(const sim_tape *t, int i);

#endif
