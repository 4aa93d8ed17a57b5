/*
 * method.h - which views, which heads, and what is compared with what.
 *
 * Room: method
 * A method owns its nets (encoder, heads ...) and turns a batch of views into a loss and
 * gradients.  A row of methods.def and one file make one; close variants share a file.
 */
#ifndef SIMILE_METHOD_H
#define SIMILE_METHOD_H

#include "simile/comm.h"
#include "simile/encoder.h"
#include "simile/loss.h"
#include "simile/optim.h"

/* What a method is made from.  Borrowed for its life: comm, options. */
typedef struct {
    const sim_comm *comm;
    const sim_encoder_options *encoder;
    const sim_batchnorm_options *batchnorm;
    size_t h, w, c;      /* of a view */
    size_t batch, block; /* images */
    uint32_t seed;
} sim_method_env;

/* Seconds of this rank by phase of a step. */
typedef struct {
    double forward, loss, backward;
} sim_method_times;

/* How train sees any method: a row's functions get the row's own struct. */
typedef struct sim_method_row {
    const char *name, *paper;
    const sim_option_table *table; /* section "method", without `name` */
    bool needs_labels;

    /* Views of an image; options are filled by the row's table. */
    size_t (*views)(const void *options);
    SIM_MUST_USE sim_status (*create)(const sim_method_env *env, const void *options,
                                      void **self);
    void (*destroy)(void **self);

    /*
     * x [local block][view][slot][h][w][c].  Writes gradients of this rank's maximal tree
     * nodes to grads + j * sim_method_gradient_floats.  Collective.
     */
    void (*forward_backward)(void *self, const float *x, float *grads,
                             sim_loss_report *report, sim_method_times *times);
    /* After the optimizer changed the weights, or they were loaded. */
    void (*updated)(void *self);

    /* The nets that are trained, in a fixed order with their groups; at most 8. */
    size_t (*nets)(void *self, sim_net *nets[8], const char *groups[8]);
    /* Everything the next step needs but the optimizer: under /weights, /momentum ... */
    SIM_MUST_USE sim_status (*visit)(void *self, const sim_visitor *v);
    /* Unit embeddings of the last step, [views][local slots][dim], for the ladder. */
    const float *(*embeddings)(void *self, size_t *views, size_t *rows, size_t *dim);
    /* "510 negatives per anchor, mean over 512 anchors" for the header.  Caller's. */
    SIM_MUST_USE sim_status (*about)(void *self, char **text);
    /* The loss that `simile loss` computes with these options. */
    void (*loss_options)(const void *options, sim_ntxent_options *out);
    /* Bytes per rank that create takes, by item; rows used. */
    SIM_MUST_USE sim_status (*plan)(const sim_method_env *env, const void *options,
                                    size_t ranks, size_t rank, sim_plan_row rows[32],
                                    size_t *n_rows);
} sim_method_row;

size_t sim_methods_count(void);
const sim_method_row *sim_methods_at(size_t i);
/* NULL when there is none of that name. */
const sim_method_row *sim_methods_find(const char *name);
/* "simclr|infonce|..." */
const char *sim_methods_names(void);

typedef struct sim_method {
    const sim_method_row *row;
    void *self;
    size_t gradient_floats;
    sim_batch_shape shape;
} sim_method;

SIM_MUST_USE sim_status sim_method_create(const sim_method_row *row,
                                          const sim_method_env *env, const void *options,
                                          sim_method *out);
void sim_method_destroy(sim_method *m);

/* Trainable tensors with their offsets in the gradient arena (nets one after the other).
 * The array is the caller's. */
SIM_MUST_USE sim_status sim_method_parameters(const sim_method *m, sim_parameter **out,
                                              size_t *n);

/* BN running statistics only. */
SIM_MUST_USE sim_status sim_method_visit_buffers(const sim_method *m,
                                                 const sim_visitor *v);

/* Moves this rank's rows from [block][view][slot] to [view][block][slot] and back. */
void sim_rows_by_view(const sim_batch_shape *s, size_t d, const float *by_block,
                      float *by_view);
void sim_rows_by_block(const sim_batch_shape *s, size_t d, const float *by_view,
                       float *by_block);

/* The folder of batch norm over all ranks. */
sim_folder sim_folder_of(const sim_comm *comm);

#endif
