/*
 * method.h - which views, which heads, and what is compared with what.
 *
 * Module: method
 * A method owns its nets (encoder, heads ...) and turns a batch of views into a loss and
 * gradients.  A row of methods.def and one file make one; close variants share a file.
 */
#ifndef SIMILE_METHOD_H
#define SIMILE_METHOD_H

#include "simile/comm.h"
#include "simile/encoder.h"
#include "simile/loss.h"
#include "simile/model.h"
#include "simile/optim.h"

enum {
    SIM_MAX_VIEWS = 8,  /* of an image */
    SIM_MAX_PARTS = 4,  /* of a batch */
    SIM_MAX_NETS = 16,  /* trained ones of a method */
    SIM_MAX_SCALARS = 4 /* trained numbers of a method */
};

/* What a method is made from.  Borrowed for its life: comm, options.  check, plan,
 * saved_bytes and advise read no comm: it may be NULL. */
typedef struct {
    const sim_comm *comm;
    sim_partition partition; /* the rank's share of the blocks: that of comm */
    const sim_encoder_options *encoder;
    const sim_batchnorm_options *batchnorm;
    size_t h, w, c;      /* of a view */
    size_t batch, block; /* images */
    uint32_t seed;
} sim_method_env;

/*
 * Images of a step that pass through a net together: [local block][view][slot].  Slots of
 * a shuffled part are permuted over the whole batch (shuffle BN): the rank that owns a slot
 * draws the view of whichever image stands there, so no image moves.
 */
typedef struct {
    size_t n_views;
    uint32_t views[SIM_MAX_VIEWS]; /* which views of an image, by number */
    bool shuffled;
} sim_part;

/* A step's input. */
typedef struct {
    const float *x;        /* the parts, one after the other */
    const uint32_t *order; /* [batch]: shuffled slot i shows the image of slot order[i];
                              NULL where no part is shuffled */
    const int32_t *labels; /* [batch] by slot; NULL unless the row needs them */
    uint32_t epoch;        /* for draws, with `samples` */
    int64_t samples;       /* images of this epoch done before */
    double progress;       /* of the schedule, 0 to 1 */
} sim_method_batch;

/* Seconds of this rank by phase of a step. */
typedef struct {
    double forward, loss, backward;
} sim_method_times;

/*
 * A trained number of the method itself, such as the logarithm of its temperature.  Its key,
 * where it starts and in whose range it stays, is of the value, or of its exponential.
 */
typedef struct {
    const char *name;
    float *value;
    const char *key; /* logs tell it by this name */
    bool logarithm;  /* the value is the logarithm of what the key sets */
} sim_method_scalar;

/* Embeddings of the last step, [views][local slots][dim]: of unit length but for methods that
 * compare rows of any. */
typedef struct {
    const float *z;
    size_t views, dim;
    bool any_length;
} sim_embeddings;

/* A key of another room that a method wants otherwise than its table says, unless the job
 * tells it. */
typedef struct {
    const char *key, *value; /* "encoder.projector.layers", "1" */
} sim_method_default;

/*
 * Arrays by name for `simile loss`, as methods.md section 8 lists them; the caller answers
 * from a file.  Failures (missing, wrong shape, a zero or non-finite row) name data set and
 * row; every rank asks for the same names in the same order.
 */
typedef struct sim_arrays {
    void *ctx;
    bool (*has)(void *ctx, const char *name);
    /* Dimensions of a float32 or int32 array; fails when it is absent. */
    sim_status (*dims)(void *ctx, const char *name, int n_dims,
                       size_t dims[SIM_MAX_DIMS]);
    /* Rows [lo, lo + n) of the first dimension; `unit`: no row of the last dimension may be
     * zero.  out is the caller's, of the size that dims tells. */
    sim_status (*floats)(void *ctx, const char *name, size_t lo, size_t n, bool unit,
                         float *out);
    sim_status (*ints)(void *ctx, const char *name, size_t lo, size_t n, int32_t *out);
    /* A whole number beside an array; the fallback where it is absent. */
    sim_status (*number)(void *ctx, const char *name, const char *attribute,
                         int64_t fallback, int64_t *out);
    /* Results.  `mine` has global dims and this rank's rows [row_lo, row_hi) of the first,
     * by units of `unit` rows (sim_tree_part over units); no dims: a scalar.  Collective. */
    sim_status (*put)(void *ctx, const sim_tensor *mine, size_t unit);
    /* A number beside a result that was put. */
    sim_status (*put_number)(void *ctx, const char *name, const char *attribute,
                             int64_t value);
} sim_arrays;

/* How train sees any method: a row's functions get the row's own struct. */
typedef struct sim_method_row {
    const char *name, *paper;
    const sim_option_table *table; /* section "method", without `name` */
    bool needs_labels;
    const sim_method_default *defaults; /* or NULL */
    size_t n_defaults;
    /* Which networks there are. */
    sim_model_spec (*model)(const void *options);

    /* Refuses options that contradict each other or the images, before anything is made or
     * planned.  NULL: none does. */
    SIM_MUST_USE sim_status (*check)(const sim_method_env *env, const void *options);
    /* The parts of a step's input; their number.  Options are filled by the row's table. */
    size_t (*parts)(const void *options, sim_part parts[SIM_MAX_PARTS]);
    SIM_MUST_USE sim_status (*create)(const sim_method_env *env, const void *options,
                                      void **self);
    void (*destroy)(void **self);

    /*
     * Writes gradients of this rank's maximal tree nodes to
     * grads + j * sim_method.gradient_floats: nets first, then scalars.  Collective.
     */
    void (*forward_backward)(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times);
    /* After the optimizer changed the weights, or they were loaded; not after a step that
     * the guard skipped: what a step leaves beside weights becomes lasting here. */
    void (*updated)(void *self);
    /* A run starts afresh with these weights: what begins as their copy.  Or NULL. */
    void (*started)(void *self);
    /* Did the last step only fill a queue?  Then no weight changes.  NULL: never. */
    bool (*idle)(void *self);

    /* What is trained, in a fixed order with their groups; their numbers. */
    size_t (*nets)(void *self, sim_net *nets[SIM_MAX_NETS],
                   const char *groups[SIM_MAX_NETS]);
    size_t (*scalars)(void *self, sim_method_scalar out[SIM_MAX_SCALARS]); /* or NULL */
    /* How large the gradient of a scalar may be at the start, by order; 0: none is trained.
     * Or NULL. */
    double (*scalar_gradient_bound)(const void *options, size_t batch);
    /* Nets that no optimizer changes but that hold statistics: momentum copies.  Or NULL. */
    size_t (*momentum_nets)(void *self, sim_net *nets[SIM_MAX_NETS],
                            const char *groups[SIM_MAX_NETS]);
    sim_queue *(*queue)(void *self); /* or NULL */
    /* Everything the next step needs but the optimizer: under /weights, /momentum ... */
    SIM_MUST_USE sim_status (*visit)(void *self, const sim_visitor *v);
    sim_embeddings (*embeddings)(void *self); /* for the ladder */
    /* "510 negatives per anchor, mean over 512 anchors" for the header.  Caller's. */
    SIM_MUST_USE sim_status (*about)(void *self, char **text);
    /* Bytes that create takes, by item; rows used.  Of the env's comm only rank and size
     * are looked at: they may be another rank's, or of a run to come. */
    SIM_MUST_USE sim_status (*plan)(const sim_method_env *env, const void *options,
                                    sim_plan_row rows[32], size_t *n_rows);
    /* Bytes in a checkpoint beside trained weights and what belongs to them: momentum
     * copies, the whole queue.  NULL: none. */
    size_t (*saved_bytes)(const sim_method_env *env, const void *options);
    /* Warns in the log of what may not be meant; n_images of the data set.  Or NULL. */
    void (*advise)(const sim_method_env *env, const void *options, size_t n_images);
    /* "mean over anchors": what the loss value is. */
    const char *(*reduction)(const void *options);
    /* `simile loss`: loss and gradients on given embeddings.  Collective. */
    SIM_MUST_USE sim_status (*compute)(const sim_comm *c, const void *options,
                                       const sim_arrays *arrays, double *loss);
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
    size_t n_blocks, slots; /* of the batch; of a block */
    sim_range blocks;       /* this rank's */
    sim_part parts[SIM_MAX_PARTS];
    size_t n_parts;
    size_t n_images; /* of all parts, on this rank */
} sim_method;

SIM_MUST_USE sim_status sim_method_create(const sim_method_row *row,
                                          const sim_method_env *env, const void *options,
                                          sim_method *out);
void sim_method_destroy(sim_method *m);

/* Different views of an image that a row wants: 1 + the largest number in its parts. */
size_t sim_method_views(const sim_method_row *row, const void *options);
/* Images of a slot over all parts; at least the views. */
size_t sim_method_images_per_slot(const sim_method_row *row, const void *options);
bool sim_method_shuffles(const sim_method *m);
sim_queue *sim_method_queue(const sim_method *m); /* NULL where there is none */

/* Trainable tensors with their offsets in the gradient arena (nets, then scalars).
 * The array is the caller's. */
SIM_MUST_USE sim_status sim_method_parameters(const sim_method *m, sim_parameter **out,
                                              size_t *n);

/* After an update: trained numbers go back into the range of their keys, as CLIP's scale does
 * (Radford et al. 2021, arXiv 2103.00020, section 2.5). */
void sim_method_bound(const sim_method *m);
/* A trained number as logs tell it: the temperature, not its logarithm. */
typedef struct {
    const char *name;
    double value;
} sim_method_number;
/* Their number. */
size_t sim_method_numbers(const sim_method *m, sim_method_number out[SIM_MAX_SCALARS]);

/* BN running statistics only, of the companions too. */
SIM_MUST_USE sim_status sim_method_visit_buffers(const sim_method *m,
                                                 const sim_visitor *v);
/* All that a pass changes before anyone has judged it: those statistics, and the companions'
 * weights. */
SIM_MUST_USE sim_status sim_method_visit_forward_state(const sim_method *m,
                                                       const sim_visitor *v);
/* What the optimizer changes, and the companions' weights. */
SIM_MUST_USE sim_status sim_method_visit_weights(const sim_method *m,
                                                 const sim_visitor *v);

/* Moves this rank's rows from [block][view][slot] to [view][block][slot] and back. */
void sim_rows_by_view(const sim_batch_shape *s, size_t d, const float *by_block,
                      float *by_view);
void sim_rows_by_block(const sim_batch_shape *s, size_t d, const float *by_view,
                       float *by_block);

/* The folder of batch norm over all ranks. */
sim_reducer sim_reducer_of(const sim_comm *comm);

#endif
