/*
 * model.h - the networks of a job or checkpoint: which ones exist, their shapes and names.
 *
 * Module: model
 * The only module that describes networks. Training creates them from a sim_model_spec,
 * evaluation opens the same ones from a checkpoint.
 */
#ifndef SIMILE_MODEL_H
#define SIMILE_MODEL_H

#include "simile/checkpoint.h"
#include "simile/encoder.h"

/* ---- patches of an image ---- */

/*
 * A centred grid of grid x grid patches, each overlapping its neighbours by half. The step
 * is side / (grid + 1), rounded down; a patch is two steps wide. grid 0: the whole image is
 * the only patch.
 */
typedef struct {
    size_t grid;
    size_t h, w, c; /* of an image */
    size_t patch_h, patch_w, step_h, step_w, top, left;
} sim_patches;
/* Errors: SIM_E_CONFIG if the grid does not fit; the message names the nearest that does. */
SIM_MUST_USE sim_status sim_patches_of(size_t grid, size_t h, size_t w, size_t c,
                                       sim_patches *out);
size_t sim_patches_floats(const sim_patches *p); /* floats of the patches of one image */
/* x [images][h][w][c] -> out [images][grid][grid][patch_h][patch_w][c]. */
void sim_patches_cut(const sim_patches *p, size_t n_images, const float *x, float *out);
/* x [images][grid][grid][d] -> out [images][d]. */
void sim_patches_mean(const sim_patches *p, size_t n_images, size_t d, const float *x,
                      float *out);

/* ---- networks ---- */

/* Networks of a model, in the order of their gradients. */
enum {
    SIM_BACKBONE,
    SIM_PROJECTOR,
    SIM_PREDICTOR,
    SIM_CONTEXT,
    SIM_CLASSIFIER,
    SIM_MODEL_NETS
};

typedef enum {
    SIM_HEADS_STANDARD, /* a bias wherever no batch norm follows; every BN has an affine map */
    SIM_HEADS_MOCOV3 /* no bias; the projector's last BN has no affine map */
} sim_head_style;

/* Which networks exist in addition to the backbone. */
typedef struct {
    size_t grid; /* patches per side that an image is cut into; 0: images are not cut */
    bool projector;
    size_t predictor_hidden; /* hidden width of the predictor; 0: no predictor */
    bool context;            /* CPC's context network; needs a grid */
    size_t classes;          /* outputs of the linear classifier; 0: no classifier */
    sim_initial initial;     /* of the classifier */
    sim_head_style heads;
} sim_model_spec;

/*
 * Specifications of all networks for one image size, derived from a sim_model_spec. It
 * contains pointers into itself: it must not be copied or moved.
 */
typedef struct {
    bool has[SIM_MODEL_NETS];
    sim_patches patches;
    sim_batchnorm_options batchnorm; /* its group counts patches */
    sim_net_spec backbone;
    sim_head_spec projector, predictor, classifier;
    sim_context_spec context;
} sim_model_layout;

/*
 * image: options, seed and size [h][w][c] of the views; its pointers are borrowed as long as
 * the layout is used.
 * Errors: SIM_E_CONFIG as sim_patches_of.
 */
SIM_MUST_USE sim_status sim_model_lay_out(const sim_model_spec *spec,
                                          const sim_net_spec *image,
                                          sim_model_layout *out);

/* The specification of the projector, predictor or classifier. */
const sim_head_spec *sim_model_head(const sim_model_layout *layout, int net);

typedef struct {
    sim_net *net[SIM_MODEL_NETS]; /* owned; NULL if the model does not have it */
} sim_model;

/* Sets of networks, as bits. */
enum {
    SIM_ALL_NETS = (1U << SIM_MODEL_NETS) - 1,
    SIM_MOMENTUM_NETS = 1U << SIM_BACKBONE | 1U << SIM_PROJECTOR
};

/* Creates those networks of the layout that are in the set `nets`. */
SIM_MUST_USE sim_status sim_model_create(const sim_model_layout *layout, unsigned nets,
                                         sim_model *out);
void sim_model_destroy(sim_model *m);
/* "encoder", "projector", "predictor", "context", "classifier": its group among the parameters. */
const char *sim_model_group(int net);
/* Visits weights and BN statistics of all networks under `prefix`/group, as
 * weights/encoder. */
SIM_MUST_USE sim_status sim_model_visit(const sim_model *m, const char *prefix,
                                        const sim_visitor *v);

/* ---- files for other programs ---- */

/* The metadata of an export is a JSON object with this "format" and "format_version"; a safetensors
 * file has it as the text of this key. */
#define SIM_MODEL_FILE_FORMAT "simile-encoder"
#define SIM_MODEL_FILE_KEY    "simile"
enum { SIM_MODEL_FILE_VERSION = 1 };

/* The name of a tensor of a group in such a file: of the backbone torchvision's, "conv1.weight"; of a
 * head with its group, "projector.0.weight".  *out is the caller's. */
SIM_MUST_USE sim_status sim_model_file_name(const char *group, const char *name,
                                            char **out);
/* The reverse: returns SIM_BACKBONE or SIM_PROJECTOR; *name points into file_name. */
int sim_model_parse_file_name(const char *file_name, const char **name);

/* ---- opening ---- */

/* Where a checkpoint stores the weights of networks. */
#define SIM_TRAINED_WEIGHTS "weights"
#define SIM_MOMENTUM_WEIGHTS                                                             \
    "momentum" /* of the momentum encoder, if the method has one */

/*
 * Creates the networks in `nets` and loads their weights from a checkpoint; ready for
 * sim_net_evaluate. A network that the layout does not have stays NULL.
 *   prefix  SIM_TRAINED_WEIGHTS or SIM_MOMENTUM_WEIGHTS
 * Errors: as sim_model_create and sim_checkpoint_load.
 */
SIM_MUST_USE sim_status sim_model_open(const sim_checkpoint *k,
                                       const sim_model_layout *layout, unsigned nets,
                                       const char *prefix, sim_model *out);

#endif
