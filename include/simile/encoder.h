/*
 * encoder.h - layers with forward and backward, ResNets, heads, and their memory plan.
 *
 * Module: encoder
 * Independent of MPI: batch norm calls a function that reduces doubles over leaves. A net
 * contains weights and structure; a tape contains the activations of one forward pass, so several
 * passes can use the same weights.
 */
#ifndef SIMILE_ENCODER_H
#define SIMILE_ENCODER_H

#include "simile/kernel.h"
#include "simile/option.h"
#include "simile/tensor.h"
#include "simile/tree.h"

/* ---- options ---- */

/* Values of the options below, in the order of their choices. */
enum { SIM_STEM_CIFAR, SIM_STEM_IMAGENET };
enum { SIM_NET_RELU, SIM_NET_SILU };
enum { SIM_BN_VIEWS_SEPARATE, SIM_BN_VIEWS_JOINT };

/* Section `encoder` of a job. */
typedef struct {
    int arch; /* index of nets.def */
    int stem; /* SIM_STEM_... */
    double width;
    int activation; /* SIM_NET_RELU or SIM_NET_SILU */
    bool zero_init_last_bn;
    bool freeze; /* weights and statistics of the backbone do not change */
    int64_t projector_layers, projector_hidden, projector_dim;
    bool projector_bn, projector_last_bn;
} sim_encoder_options;
extern const sim_option_table sim_encoder_table;

/* Section `batchnorm`. */
typedef struct {
    int64_t group; /* images; 0: the global batch */
    int views;     /* SIM_BN_VIEWS_... */
} sim_batchnorm_options;
extern const sim_option_table sim_batchnorm_table;

/* ---- the batch ---- */

/*
 * The part of the global batch that a pass covers. Images are [block][view][slot]; this
 * rank owns the blocks sim_tree_part(n_blocks, size, rank) = `blocks`.
 */
typedef struct {
    size_t n_blocks; /* in the global batch */
    sim_range blocks;
    size_t views, slots; /* a block has views * slots images */
    /* Blocks that pass through a network at a time, a micro-batch; the last one of a rank may
     * be smaller. 0: all blocks of the rank pass together. Otherwise batch norm groups lie
     * within the micro-batches of one rank, and the value is equal on all ranks. */
    size_t micro_blocks;
} sim_batch_shape;
size_t sim_batch_images(const sim_batch_shape *b); /* on this rank */

/*
 * Reduces leaves of doubles (the contract is that of sim_comm_reduce_doubles, with
 * n_units = n_blocks).
 *   leaves [local block][leaves_per_unit][width], overwritten;  out [n_groups][width]
 */
typedef struct {
    void (*reduce)(void *ctx, size_t n_units, size_t leaves_per_unit,
                   size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                   double *leaves, double *out);
    void *ctx;
} sim_reducer;
/* A reducer for one process that owns every block. */
extern const sim_reducer sim_reducer_local;

/* ---- nets ---- */

typedef struct sim_net sim_net;
typedef struct sim_tape sim_tape;

typedef struct {
    const sim_encoder_options *encoder;
    const sim_batchnorm_options *batchnorm;
    size_t h, w, c; /* of an input image */
    uint32_t seed;
} sim_net_spec;

/*
 * The backbone: image -> features [rows][dim] (after the mean pool). Weights are drawn
 * as torchvision does (kaiming normal, fan out; BN 1 and 0) from `seed`.
 * Names are torchvision's: conv1.weight, bn1.*, layer1.0.conv1.weight ...
 * Errors: SIM_E_CONFIG, for example if the image is too small for the net.
 */
SIM_MUST_USE sim_status sim_backbone_create(const sim_net_spec *spec, sim_net **out);

/*
 * The same backbone for images of another size: it uses the weights and running statistics of
 * `owner`, which must outlive it. Only the size in `spec` differs from that of the owner.
 * Errors: as sim_backbone_create.
 */
SIM_MUST_USE sim_status sim_backbone_share(const sim_net_spec *spec, const sim_net *owner,
                                           sim_net **out);

/* How weights of linear layers are drawn. */
typedef enum {
    SIM_INITIAL_UNIFORM, /* weights and biases within +-gain / sqrt(fan in), as torch.nn.Linear */
    SIM_INITIAL_NORMAL, /* weights from N(0, 0.01), biases 0: MoCo's linear protocol */
    SIM_INITIAL_ZERO
} sim_initial;

/*
 * A head of linear layers from `in` to `dim`, `layers` of them, hidden width `hidden`,
 * optional BN and activation between, optional BN at the end; linear layers have a bias
 * if no BN follows (as in lightly and solo-learn). Names are those of
 * torch.nn.Sequential: 0.weight, 0.bias, 1.weight ...  `salt` separates the draws of a run's heads (0 projector, 1 predictor).
 */
typedef struct {
    size_t in, hidden, dim;
    int64_t layers;
    bool bn, last_bn;
    bool last_affine; /* the last BN has gamma and beta */
    bool no_bias;     /* no layer has a bias */
    int64_t number;   /* index of the first layer in the names */
    sim_initial initial;
    double gain; /* factor on the initial weights; 0 means 1 */
    int activation;
    const sim_batchnorm_options *batchnorm;
    uint32_t seed, salt;
} sim_head_spec;
SIM_MUST_USE sim_status sim_head_create(const sim_head_spec *spec, sim_net **out);

/*
 * The context network of CPC: a grid of features [grid][grid][dim] per image -> the same shape.
 * `layers` residual blocks (0: 4) of a 3 x 3 convolution with bias over rows y - 2 .. y
 * and an activation; then a 1 x 1 convolution without bias. The output at row y depends on
 * rows 0 .. y only. The last row, whose context is not used for prediction, enters
 * its own output through the residuals only.
 * One row of a pass is a whole grid: sim_net_input and sim_net_dim are grid * grid * dim.
 * Convolutions are named by number: 0.weight [dim][dim][3][3], 0.bias
 * ... ; that of 1 x 1 is `layers`.weight. Kaiming normal (fan out) from `seed`, biases zero.
 * Paper: arXiv 1807.03748, section 3.2.
 */
typedef struct {
    size_t grid, dim;
    int64_t layers;
    int activation; /* SIM_NET_RELU or SIM_NET_SILU */
    uint32_t seed;
} sim_context_spec;
SIM_MUST_USE sim_status sim_context_create(const sim_context_spec *spec, sim_net **out);

/* A tensor of a file; of more than SIM_MAX_DIMS dims, only the first ones are stored. */
typedef struct {
    const char *name; /* in the network: "conv1.weight" */
    int n_dims;
    size_t dims[SIM_MAX_DIMS];
} sim_named_shape;
/*
 * Finds the backbone whose tensors, other than num_batches_tracked, are exactly the given ones.
 *   path      of the file, for messages
 *   width     encoder.width, or 0: by the shapes
 *   out       arch, stem and width; other options are zero
 *   channels  of an image
 * Errors: SIM_E_DATA naming tensors that are missing, of another shape, or unknown.
 */
SIM_MUST_USE sim_status sim_backbone_recognize(const char *path,
                                               const sim_named_shape *tensors, size_t n,
                                               double width, sim_encoder_options *out,
                                               size_t *channels);

void sim_net_destroy(sim_net **net);
size_t sim_backbone_dim(const sim_encoder_options *encoder); /* without creating it */
size_t sim_net_dim(const sim_net *net);                      /* floats per output row */
size_t sim_net_input(const sim_net *net);                    /* floats per input row */
size_t sim_net_parameters(const sim_net *net);               /* trainable floats */
/* Multiply-adds of the convolutions and linear layers in a forward pass of one input row.  Those of
 * a convolution are counted as direct, whatever the algorithm. */
double sim_net_multiply_adds(const sim_net *net);

/* All trainable floats in one array; gradients use the same order and offsets. */
float *sim_net_weights(sim_net *net);
/* The i-th trainable tensor: its offset in the array and whether it belongs to a BN or is a bias. */
typedef struct {
    const char *name;
    size_t offset, count;
    int n_dims;
    size_t dims[SIM_MAX_DIMS];
    bool bn_or_bias;
} sim_net_tensor;
size_t sim_net_tensors(const sim_net *net);
const sim_net_tensor *sim_net_tensor_at(const sim_net *net, size_t i);

/* ---- the layers of a net, for exports ---- */

enum { SIM_LAYER_INPUT = -1, SIM_LAYER_NONE = -2 };

/* A layer as sim_net_layer_at describes it. Its value per image is [h][w][c].
 *   conv, linear        y = weight * x
 *   batchnorm           y = act(batch norm(x) + residual)
 *   act                 y = act(x + bias)
 *   max_pool, mean_pool over the kernel's window; over all pixels
 *   shift               image rows shifted down by one; the first becomes zero
 *   add                 y = x + residual */
typedef struct {
    const char *kind;    /* a row of layers.def */
    const char *name;    /* of the PyTorch module: "layer1.0.conv1" */
    int input, residual; /* earlier layers, or SIM_LAYER_INPUT, _NONE */
    size_t h, w, c;
    size_t kernel, stride, padding; /* conv, linear and max_pool; otherwise 0 */
    sim_activation activation;
    double eps;                              /* batchnorm; otherwise 0 */
    const float *running_mean, *running_var; /* batchnorm: [c]; otherwise NULL */
    size_t n_tensors;    /* trainable; consecutive for sim_net_tensor_at, */
    size_t first_tensor; /* from this index; weight before bias */
} sim_net_layer;
size_t sim_net_layers(const sim_net *net);
/* Layer i in the order of computation; pointers are valid as long as the net. */
sim_net_layer sim_net_layer_at(const sim_net *net, size_t i);

/* Visits all weights and BN buffers (running_mean, running_var, num_batches_tracked as
 * int64 scalar) in creation order, under `group`. */
SIM_MUST_USE sim_status sim_net_visit(sim_net *net, const char *group,
                                      const sim_visitor *v);
/* Only the BN buffers (stage `bn` of the hash trace), or only the weights. */
SIM_MUST_USE sim_status sim_net_visit_buffers(sim_net *net, const char *group,
                                              const sim_visitor *v);
SIM_MUST_USE sim_status sim_net_visit_weights(sim_net *net, const char *group,
                                              const sim_visitor *v);

/* ---- passes ---- */

/* Allocates the buffers of training passes over batches of this shape. Borrows the net
 * and the reducer's ctx for the life of the tape. */
SIM_MUST_USE sim_status sim_tape_create(sim_net *net, const sim_batch_shape *shape,
                                        const sim_reducer *reducer, bool backward,
                                        sim_tape **out);
void sim_tape_destroy(sim_tape **tape);

/*
 * Training forward: batch statistics, running statistics are updated.
 *   x [images][h][w][c] (heads: [images][in]), borrowed until backward; y [images][dim],
 *   borrowed until backward if the batch passes in micro-batches
 * Collective if the reducer is.
 */
void sim_net_forward(sim_tape *tape, const float *x, float *y);

/*
 * Backward of the last forward on this tape.  A micro-batch whose activations were replaced by
 * those of another passes forward a second time before; it writes the same values to y.
 *   dy [images][dim];  dx [like x] or NULL
 *   grads [nodes of the blocks][node_stride]: node j's gradients are written at
 *   grads + j * node_stride, in the order of the weights; a rank without blocks writes
 *   none.
 */
void sim_net_backward(sim_tape *tape, const float *dy, float *dx, float *grads,
                      size_t node_stride);

/* ---- evaluation ---- */

/* Forward passes with running statistics. The evaluator owns the buffers of its passes,
 * which process up to 64 images at a time, and borrows the net for its life. */
typedef struct sim_evaluator sim_evaluator;
SIM_MUST_USE sim_status sim_evaluator_create(sim_net *net, sim_evaluator **out);
void sim_evaluator_destroy(sim_evaluator **evaluator);
/*
 * Any number of images; changes no statistics. The weights must not change between calls. Serial
 * over calls.
 *   x [n_images][h][w][c];  y [n_images][dim]
 */
void sim_evaluator_run(sim_evaluator *evaluator, size_t n_images, const float *x,
                       float *y);

/* ---- the memory plan ---- */

typedef struct {
    const char *item; /* "activations", "packed filters" ... */
    size_t bytes;
} sim_plan_row;
/* Bytes that a backbone, its heads and their tapes allocate on a rank; none of their buffers is
 * allocated here. */
SIM_MUST_USE sim_status sim_net_plan(const sim_net_spec *backbone,
                                     const sim_head_spec *heads, size_t n_heads,
                                     const sim_batch_shape *shape, sim_plan_row rows[16],
                                     size_t *n_rows);
/* The same for tapes created with backward = false. */
SIM_MUST_USE sim_status sim_net_plan_forward(const sim_net_spec *backbone,
                                             const sim_head_spec *heads, size_t n_heads,
                                             const sim_batch_shape *shape,
                                             sim_plan_row rows[16], size_t *n_rows);
/* Adds the bytes of a backbone that shares the weights of another (sim_backbone_share), its tape,
 * and further tapes of the same heads. */
SIM_MUST_USE sim_status sim_net_plan_shared(const sim_net_spec *backbone,
                                            const sim_head_spec *heads, size_t n_heads,
                                            const sim_batch_shape *shape,
                                            sim_plan_row *rows, size_t n_rows);
/* Adds the bytes of a head or a context net to such rows. */
SIM_MUST_USE sim_status sim_head_plan(const sim_head_spec *head,
                                      const sim_batch_shape *shape, sim_plan_row *rows,
                                      size_t n_rows);
SIM_MUST_USE sim_status sim_context_plan(const sim_context_spec *spec,
                                         const sim_batch_shape *shape, sim_plan_row *rows,
                                         size_t n_rows);
/* Bytes of a backbone that is only evaluated. */
typedef struct {
    size_t evaluator;
    size_t state; /* weights and running statistics of the network */
    size_t net;   /* everything else of the network */
} sim_evaluator_bytes;
/* *workspace is raised to the kernels' workspace that the passes of the evaluator need; it outlives
 * them, and all passes of a process share it. */
SIM_MUST_USE sim_status sim_evaluator_plan(const sim_net_spec *backbone,
                                           sim_evaluator_bytes *bytes,
                                           sim_workspace_size *workspace);
/* Rows of heads alone, as those of sim_net_plan. */
SIM_MUST_USE sim_status sim_heads_plan(const sim_head_spec *heads, size_t n_heads,
                                       const sim_batch_shape *shape,
                                       sim_plan_row rows[16], size_t *n_rows);
/* Raises the workspace and scratch among rows that begin with those of sim_net_plan. */
void sim_plan_raise(sim_plan_row *rows, size_t n_rows,
                    const sim_workspace_size *workspace);

#endif
