/*
 * method.h - contrastive methods: views, networks, loss and gradients of a step.
 *
 * Module: method
 * A method owns its networks and computes a loss and gradients from a batch of views. Each
 * method is one row of methods.def and one file; variants share a file. src/method/README.md
 * defines the losses.
 */
#ifndef SIMILE_METHOD_H
#define SIMILE_METHOD_H

#include "simile/comm.h"
#include "simile/encoder.h"
#include "simile/loss.h"
#include "simile/model.h"
#include "simile/optim.h"

enum {
    SIM_MAX_VIEWS = 8,       /* of an image, without small ones */
    SIM_MAX_PART_VIEWS = 16, /* of a part */
    SIM_MAX_PARTS = 4,       /* of a batch */
    SIM_MAX_NETS = 16,       /* trained networks of a method */
    SIM_MAX_SCALARS = 4      /* trained scalars of a method */
};

/* Small views of an image (multi-crop): they pass through the trained networks in addition to the other
 * views, but not through the momentum encoder. */
typedef struct {
    size_t n; /* per image; 0: none */
    size_t h, w;
} sim_small_views;

/* What a method is created from. comm, encoder and batchnorm are borrowed for its life. The
 * functions that neither create nor run a method do not use comm: it may be NULL. */
typedef struct {
    const sim_comm *comm;
    sim_partition partition; /* the rank's share of the blocks: that of comm */
    const sim_encoder_options *encoder;
    const sim_batchnorm_options *batchnorm;
    size_t h, w, c; /* of a view */
    sim_small_views small;
    size_t n_classes;    /* of the data set; 0 without labels */
    size_t batch, block; /* images */
    size_t micro_batch;  /* images of a rank that pass at a time; 0: all */
    uint32_t seed;
    sim_gather gather; /* of the rows of other ranks */
} sim_method_env;

/* Blocks of a micro-batch; 0 if micro_batch is at least the share of every rank, so that all blocks
 * of a rank pass together. */
size_t sim_method_micro_blocks(const sim_method_env *env);

/*
 * Images of a step that pass through a network together: [local block][view][slot]. The slots
 * of a shuffled part are permuted over the global batch (shuffle BN). The rank that owns a
 * slot loads the view of the image assigned to it, so no image is exchanged.
 */
typedef struct {
    size_t n_views;
    uint32_t views[SIM_MAX_PART_VIEWS]; /* numbers of the views of an image */
    bool shuffled;
    bool small;          /* the views are small ones, which have numbers of their own */
    size_t image_floats; /* of a view */
    size_t offset;       /* floats of the rank's parts before this one */
} sim_part;

/* A step's input. */
typedef struct {
    const float *x[SIM_MAX_PARTS]; /* of each part; see sim_method_set_input */
    const float *small_x;          /* that of small views; NULL: there is none */
    const uint32_t *order; /* [batch]: shuffled slot i holds the image of slot order[i];
                              NULL if no part is shuffled */
    const int32_t
        *labels; /* [batch] by slot, labels or groups; NULL unless the row needs them */
    uint32_t epoch;  /* with `samples`, the counter of random draws */
    int64_t samples; /* images of this epoch in earlier steps */
    double progress; /* of the schedule, 0 to 1 */
} sim_method_batch;

/* Seconds of this rank by phase of a step; and the part of them in comm, which includes waiting for
 * other ranks and the local part of reductions. */
typedef struct {
    double forward, loss, backward;
    double encoder_comm, loss_comm;
} sim_method_times;

/*
 * A trained scalar, such as the logarithm of the temperature. Its key sets its initial value
 * and its range.
 */
typedef struct {
    const char *name;
    float *value;
    const char *key; /* also its name in logs */
    bool logarithm;  /* *value is the logarithm of what the key sets */
} sim_method_scalar;

/* Embeddings of the last step, [views][local slots][dim]; of unit length unless `any_length`. */
typedef struct {
    const float *z;
    size_t views, dim;
    bool any_length;
} sim_embeddings;

/* The default of a key of another module with this method. */
typedef struct {
    const char *key, *value; /* "encoder.projector.layers", "1" */
} sim_method_default;

/*
 * Arrays by name for `simile loss`; src/method/README.md lists them. The caller reads them
 * from a file. Errors (missing array, wrong shape, zero or non-finite row) name array and row.
 * Every rank requests the same names in the same order.
 */
typedef struct sim_arrays {
    void *ctx;
    sim_gather gather; /* of the rows of other ranks */
    bool (*has)(void *ctx, const char *name);
    /* Dimensions of a float32 or int32 array. Errors: SIM_E_DATA if it is absent. */
    sim_status (*dims)(void *ctx, const char *name, int n_dims,
                       size_t dims[SIM_MAX_DIMS]);
    /* Rows [lo, lo + n) of the first dimension. `unit`: a zero row of the last dimension is
     * an error. `out` has capacity for n rows of the array's dimensions. */
    sim_status (*floats)(void *ctx, const char *name, size_t lo, size_t n, bool unit,
                         float *out);
    sim_status (*ints)(void *ctx, const char *name, size_t lo, size_t n, int32_t *out);
    /* An integer attribute of an array, or `fallback` if it is absent. */
    sim_status (*number)(void *ctx, const char *name, const char *attribute,
                         int64_t fallback, int64_t *out);
    /* Writes a result. `local` has the global dims and this rank's rows [row_lo, row_hi) of
     * the first, in units of `unit` rows (sim_tree_part over units); without dims it is a
     * scalar. Collective. */
    sim_status (*put)(void *ctx, const sim_tensor *local, size_t unit);
    /* Writes an attribute of a result. */
    sim_status (*put_number)(void *ctx, const char *name, const char *attribute,
                             int64_t value);
} sim_arrays;

/* A row of a memory plan: weights and statistics that are in checkpoints but not trained. */
#define SIM_FROZEN_STATE "frozen weights"

/* A method. `options` is the struct that `table` fills; `self` is created by `create`. */
typedef struct sim_method_row {
    const char *name, *paper;
    const sim_option_table *table; /* section "method", without `name` */
    bool needs_labels;             /* of the images; or groups, see by_group */
    bool takes_small_views;
    bool classifies; /* has a classifier, which can be trained on a frozen encoder */
    const sim_method_default *defaults; /* or NULL */
    size_t n_defaults;

    /* ---- from options ---- */

    /* The networks. */
    sim_model_spec (*model)(const void *options);
    /* Checks options against each other and against the images. May be NULL.
     * Errors: SIM_E_CONFIG. */
    SIM_MUST_USE sim_status (*check)(const sim_method_env *env, const void *options);
    /* Whether images are compared by their groups instead of their labels. NULL: never. */
    bool (*by_group)(const void *options);
    /* Fills views and shuffling of the parts of a step's input; returns their number. */
    size_t (*parts)(const void *options, sim_part parts[SIM_MAX_PARTS]);
    /* Appends the bytes that create takes, by item. Of env->comm only rank and size are
     * read: they may be those of another rank or of a future run. */
    SIM_MUST_USE sim_status (*plan)(const sim_method_env *env, const void *options,
                                    sim_plan_row rows[32], size_t *n_rows);
    /* Bytes of a checkpoint in addition to trained weights and their optimizer state:
     * momentum encoder, queue of all ranks. NULL: none. */
    size_t (*saved_bytes)(const sim_method_env *env, const void *options);
    /* Logs warnings about options that probably have an unwanted effect; n_images of the data
     * set. May be NULL. */
    void (*advise)(const sim_method_env *env, const void *options, size_t n_images);
    /* The momentum of the momentum encoder at a fraction of the schedule.  NULL: it has none. */
    double (*momentum)(const void *options, double progress);
    /* Order of magnitude of the initial gradient of a scalar; 0 if none is trained. */
    double (*scalar_gradient_bound)(const void *options, size_t batch);
    /* Why every rank holds the rows of the global batch, for a message; NULL if they can be streamed.
     * A NULL pointer: they can. */
    const char *(*holds_batch)(const void *options);
    /* The reduction of the loss, such as "mean over anchors". */
    const char *(*reduction)(const void *options);

    /* ---- creation and steps ---- */

    SIM_MUST_USE sim_status (*create)(const sim_method_env *env, const void *options,
                                      void **self);
    void (*destroy)(void **self);
    /* The phases of a step, in this order; see sim_method_forward_backward. Collective. */
    void (*forward)(void *self, const sim_method_batch *batch);
    /* Fills the report and the gradients of all embeddings. A method whose loss contains
     * networks writes their gradients to `grads`. */
    void (*loss)(void *self, const sim_method_batch *batch, sim_loss_report *report,
                 float *grads);
    void (*backward)(void *self, const sim_loss_report *report, float *grads);
    /* See sim_method_updated; pushes the keys of the step to the queue. May be NULL. */
    void (*updated)(void *self);
    /* Called at the start of a new run: initializes the momentum encoder from the trained
     * networks. May be NULL. */
    void (*started)(void *self);
    /* True if the last step only filled a queue: no weight is updated. NULL: never. */
    bool (*idle)(void *self);

    /* ---- state ---- */

    /* All networks except those of the momentum encoder, whether they are trained or frozen. */
    const sim_model *(*networks)(void *self);
    /* Trained networks and their groups, in a fixed order; returns their number. */
    size_t (*nets)(void *self, sim_net *nets[SIM_MAX_NETS],
                   const char *groups[SIM_MAX_NETS]);
    /* Trained scalars; returns their number. */
    size_t (*scalars)(void *self, sim_method_scalar out[SIM_MAX_SCALARS]);
    /* Networks of the momentum encoder. May be NULL. */
    size_t (*momentum_nets)(void *self, sim_net *nets[SIM_MAX_NETS],
                            const char *groups[SIM_MAX_NETS]);
    sim_queue *(*queue)(void *self); /* or NULL */
    /* Visits everything that the next step reads except the optimizer state: /weights,
     * /momentum, /queue. */
    SIM_MUST_USE sim_status (*visit)(void *self, const sim_visitor *v);
    sim_embeddings (*embeddings)(void *self);
    /* A line for the log, such as "510 negatives per anchor, mean over 512 anchors". The
     * caller frees it. */
    SIM_MUST_USE sim_status (*about)(void *self, char **text);

    /* ---- simile loss ---- */

    /* Computes loss and gradients of given embeddings. Collective. */
    SIM_MUST_USE sim_status (*compute)(const sim_comm *c, const void *options,
                                       const sim_arrays *arrays, double *loss);
} sim_method_row;

size_t sim_methods_count(void);
const sim_method_row *sim_methods_at(size_t i);
/* NULL if there is no row of that name. */
const sim_method_row *sim_methods_find(const char *name);
/* "simclr|infonce|..." */
const char *sim_methods_names(void);

typedef struct sim_method {
    const sim_method_row *row;
    void *self;
    size_t gradient_floats; /* trained floats */
    size_t node_floats;     /* of a node of gradients; see sim_method_forward_backward */
    size_t n_blocks, slots; /* of the batch; of a block */
    sim_range blocks;       /* this rank's */
    sim_part parts[SIM_MAX_PARTS];
    size_t n_parts;
    size_t n_images, x_floats; /* of all parts, on this rank */
} sim_method;

SIM_MUST_USE sim_status sim_method_create(const sim_method_row *row,
                                          const sim_method_env *env, const void *options,
                                          sim_method *out);
void sim_method_destroy(sim_method *m);

/* Sets the parts of a batch to those of an input x [x_floats], one after the other. */
void sim_method_set_input(const sim_method *m, const float *x, sim_method_batch *batch);

/* Floats of the gradients of a step, before and while they are summed over ranks. */
size_t sim_method_gradient_capacity(const sim_method *m, sim_partition p);
/*
 * Runs forward, loss and backward of a step; adds their seconds to `times`.
 *   grads [nodes of the blocks][node_floats]: networks, then scalars, then networks by small views,
 *         overwritten
 * Collective.
 */
void sim_method_forward_backward(const sim_method *m, const sim_method_batch *batch,
                                 float *grads, sim_loss_report *report,
                                 sim_method_times *times);

/* Sums these gradients over the nodes of all ranks, and then over both sizes of views, into grads
 * [gradient_floats]. Collective. */
void sim_method_sum_gradients(const sim_method *m, const sim_comm *c, float *grads);

/* After an update or a load of the weights, not after a skipped step. */
void sim_method_updated(const sim_method *m);

/* `gather`, or SIM_GATHER_ALL if the method cannot stream rows. */
sim_gather sim_method_gather(const sim_method_row *row, const void *options,
                             sim_gather gather);
/* Errors: SIM_E_CONFIG if `gather`, set by the key or option `name`, demands what the method cannot. */
SIM_MUST_USE sim_status sim_method_check_gather(const sim_method_row *row,
                                                const void *options, const char *name,
                                                sim_gather gather);
/* Errors: SIM_E_CONFIG if the method cannot be created with these options and this env. */
SIM_MUST_USE sim_status sim_method_check(const sim_method_row *row,
                                         const sim_method_env *env, const void *options);
/* Number of views of an image, without small ones: 1 + the largest number in the parts. */
size_t sim_method_views(const sim_method_row *row, const void *options);
/* Images and their floats per slot, over all parts. Of env only the shapes of views are read. */
typedef struct {
    size_t images, floats;
} sim_slot_size;
sim_slot_size sim_method_slot_size(const sim_method_row *row, const sim_method_env *env,
                                   const void *options);
bool sim_method_shuffles(const sim_method *m);
/* Whether the row compares images by their groups. */
bool sim_method_by_group(const sim_method_row *row, const void *options);
sim_queue *sim_method_queue(const sim_method *m); /* or NULL */

/* Trained tensors with their offsets in the gradients (networks, then scalars). The caller
 * frees the array. */
SIM_MUST_USE sim_status sim_method_parameters(const sim_method *m, sim_parameter **out,
                                              size_t *n);

/* Clips trained scalars to the range of their keys after an update, as CLIP does (Radford et
 * al. 2021, arXiv 2103.00020, section 2.5). */
void sim_method_clip_scalars(const sim_method *m);
/* Checks that trained scalars loaded from the file `path` are in that range.  Errors: SIM_E_DATA. */
SIM_MUST_USE sim_status sim_method_check_scalars(const sim_method *m, const char *path);
/* A trained scalar in the unit of its key: the temperature, not its logarithm. */
typedef struct {
    const char *name;
    double value;
} sim_method_number;
/* Returns their number. */
size_t sim_method_numbers(const sim_method *m, sim_method_number out[SIM_MAX_SCALARS]);

/* Visits running statistics, including those of the momentum encoder. */
SIM_MUST_USE sim_status sim_method_visit_buffers(const sim_method *m,
                                                 const sim_visitor *v);
/* Visits what a step changes before its gradient is checked: running statistics, and the weights
 * of the momentum encoder. */
SIM_MUST_USE sim_status sim_method_visit_forward_state(const sim_method *m,
                                                       const sim_visitor *v);
/* Visits trained weights and scalars, and the weights of the momentum encoder. */
SIM_MUST_USE sim_status sim_method_visit_weights(const sim_method *m,
                                                 const sim_visitor *v);

/* Copies local rows of d floats from [block][view][slot] to [view][block][slot], and back. */
void sim_rows_by_view(const sim_batch_shape *s, size_t d, const float *by_block,
                      float *by_view);
void sim_rows_by_block(const sim_batch_shape *s, size_t d, const float *by_view,
                       float *by_block);

/* Reduces batch statistics over all ranks; `comm` is borrowed. */
sim_reducer sim_reducer_of(const sim_comm *comm);

#endif
