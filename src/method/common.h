/*
 * common.h - the common part of all methods with one online encoder: simclr, siglip, moco,
 * mocov3, nnclr, supervised.
 *
 * A method of this family describes its objects in a method_spec.  Creation, the memory plan
 * and the size of a checkpoint follow from it.  `self` of its row functions is a
 * method_common.
 */
#ifndef SIMILE_METHOD_COMMON_H
#define SIMILE_METHOD_COMMON_H

#include "momentum_encoder.h"
#include "online_encoder.h"
#include "scalar.h"
#include "unit_rows.h"

enum { MAX_ROW_SETS = 2 };

typedef struct {
    sim_model_spec model;
    size_t
        views; /* of an image that pass through the online encoder, without small ones */
    const void *options;
    size_t options_bytes;
    trained_scalars scalars;
    /* Views of each set of unit rows: embeddings; keys or predictions.  0: no such set. */
    size_t row_views[MAX_ROW_SETS];
    bool momentum;            /* has a momentum encoder */
    bool averages_statistics; /* of the momentum encoder; see momentum_encoder.h */
    bool contrast;            /* compares each view with all views (NT-Xent) */
    bool cross;               /* compares the rows of one view with those of another */
    bool cross_entropy;       /* of the logits of the classifier */
    size_t queue_size;        /* rows; 0: no queue */
    size_t work_floats, n_slots;
} method_spec;

typedef struct {
    const sim_comm *comm;
    size_t batch;
    void *options; /* copy of the row's options */
    online_encoder *online;
    momentum_encoder *momentum;       /* or NULL */
    unit_rows rows[MAX_ROW_SETS];     /* rows[0] are the embeddings that are reported */
    sim_contrast *contrast;           /* or NULL */
    sim_cross *cross;                 /* or NULL */
    sim_cross_entropy *cross_entropy; /* or NULL */
    sim_queue *queue;                 /* or NULL */
    float *work;                      /* [work_floats] for the method */
    int64_t *slots;                   /* [n_slots] for the method */
    trained_scalars scalars;
    bool push_pending; /* rows of the last step are pushed if the step is applied */
    bool idle;         /* the last step only filled the queue */
} method_common;

/* ---- functions that follow from a method_spec ---- */

/* As sim_method_row.create, plan and saved_bytes. */
SIM_MUST_USE sim_status sim_common_create(const sim_method_env *env,
                                          const method_spec *spec, void **self);
SIM_MUST_USE sim_status sim_common_plan(const sim_method_env *env,
                                        const method_spec *spec, sim_plan_row rows[32],
                                        size_t *n_rows);
size_t sim_common_saved_bytes(const sim_method_env *env, const method_spec *spec);

/* ---- functions of a row ---- */

/* Fields of a sim_method_row that are equal for all methods of this family. */
#define COMMON_ROW_FIELDS                                                                \
    .destroy = sim_common_destroy, .nets = sim_common_nets,                              \
    .networks = sim_common_networks, .scalars = sim_common_scalars,                      \
    .visit = sim_common_visit, .embeddings = sim_common_embeddings
void sim_common_destroy(void **self);
size_t sim_common_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS]);
const sim_model *sim_common_networks(void *self);
size_t sim_common_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS]);
SIM_MUST_USE sim_status sim_common_visit(void *self, const sim_visitor *v);
sim_embeddings sim_common_embeddings(void *self);

/* Fields of methods with a momentum encoder. */
#define MOMENTUM_ROW_FIELDS                                                              \
    .started = sim_common_started, .momentum_nets = sim_common_momentum_nets
void sim_common_started(void *self);
size_t sim_common_momentum_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                                const char *groups[SIM_MAX_NETS]);

/* Backbone and projector. */
sim_model_spec sim_common_model(const void *options);
/* One part with views 0 and 1. */
size_t sim_common_two_views(const void *options, sim_part parts[SIM_MAX_PARTS]);
/* Forward pass of the online encoder. */
void sim_common_forward(void *self, const sim_method_batch *batch);
/* Backward pass of the online encoder, and gradients of the scalars; zeros after an idle
 * step. */
void sim_common_backward(void *self, const sim_loss_report *report, float *grads);
bool sim_common_idle(void *self);
sim_queue *sim_common_queue(void *self);

/* ---- helpers ---- */

/* The momentum at a fraction of the schedule. */
double sim_common_momentum(const momentum_options *o, double progress);
/* "momentum 0.99, by cosine to 1" */
void sim_common_momentum_about(const momentum_options *o, char *out, size_t out_bytes);
/* Updates the momentum encoder and computes the keys of images x. */
void sim_common_forward_keys(method_common *m, const momentum_options *o, double progress,
                             const float *x);
/* Rows of `views` views over the global batch, as the losses describe them. */
sim_rows_shape sim_common_rows(const sim_method_env *env, size_t views);
/* Warns if a queue of that many rows is larger than an eighth of the data set. */
void sim_common_advise_queue(int64_t queue_size, size_t n_images,
                             const char *consequence);

#endif
