/*
 * export_onnx.c - encoder.onnx: the networks as a graph, for ONNX Runtime and other programs; and
 * sample.safetensors.
 *
 * The input `images` is normalized as by the transform of load_encoder.py. The outputs are `features`
 * and, with the projector, `projections`. If the method cuts images into patches, the graph cuts them
 * and returns means over the patches. The metadata of the export is the text "simile" of
 * metadata_props.
 */
#include "onnx_layers.h"
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static const char input_name[] = "images";

/* ---- patches ---- */

static sim_status add_patch(onnx_graph *g, const sim_patches *cut, size_t row,
                            size_t column, char name[ONNX_NAME_BYTES])
{
    sim_status st = SIM_OK;
    const int64_t top = (int64_t)(cut->top + row * cut->step_h),
                  left = (int64_t)(cut->left + column * cut->step_w);
    const int64_t starts[] = {top, left},
                  ends[] = {top + (int64_t)cut->patch_h, left + (int64_t)cut->patch_w};
    char start_name[ONNX_NAME_BYTES], end_name[ONNX_NAME_BYTES];

    (void)snprintf(name, ONNX_NAME_BYTES, "patch.%zu.%zu", row, column);
    (void)snprintf(start_name, sizeof start_name, "patch.%zu.%zu.starts", row, column);
    (void)snprintf(end_name, sizeof end_name, "patch.%zu.%zu.ends", row, column);
    SIM_TRY(sim_onnx_integers(g, start_name, 2, starts));
    SIM_TRY(sim_onnx_integers(g, end_name, 2, ends));
    const char *const inputs[] = {input_name, start_name, end_name, "patch.axes", NULL};
    SIM_TRY(sim_onnx_node(g, "Slice", name, inputs, NULL, 0));
done:
    return st;
}

/* [N][C][H][W] -> [grid * grid * N][C][h][w], all images of a patch consecutive. */
static sim_status add_patches(onnx_graph *g, const sim_patches *cut, const char **output)
{
    sim_status st = SIM_OK;
    static const int64_t axes[] = {2, 3};
    const size_t n = cut->grid * cut->grid;
    const onnx_attribute axis = {.name = "axis", .type = ONNX_INTEGER, .integers = {0}};
    char(*names)[ONNX_NAME_BYTES] = NULL;
    const char **inputs = NULL;

    SIM_TRY(sim_alloc(&names, n, "export/onnx"));
    SIM_TRY(sim_alloc(&inputs, n + 1, "export/onnx"));
    SIM_TRY(sim_onnx_integers(g, "patch.axes", 2, axes));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(add_patch(g, cut, i / cut->grid, i % cut->grid, names[i]));
        inputs[i] = names[i];
    }
    *output = "patches";
    SIM_TRY(sim_onnx_node(g, "Concat", *output, inputs, &axis, 1));
done:
    sim_free(names);
    sim_free(inputs);
    return st;
}

/* [grid * grid * N][dim] -> [N][dim]. */
static sim_status add_mean(onnx_graph *g, const sim_patches *cut, size_t dim,
                           const char *input, const char *output)
{
    sim_status st = SIM_OK;
    const int64_t shape[] = {(int64_t)(cut->grid * cut->grid), -1, (int64_t)dim};
    const onnx_attribute attributes[] = {
        {.name = "axes", .type = ONNX_INTEGERS, .n = 1, .integers = {0}},
        {.name = "keepdims", .type = ONNX_INTEGER, .integers = {0}}};
    char shape_name[ONNX_NAME_BYTES], of_patches[ONNX_NAME_BYTES];

    (void)snprintf(shape_name, sizeof shape_name, "%s.shape", output);
    (void)snprintf(of_patches, sizeof of_patches, "%s.of_patches", output);
    SIM_TRY(sim_onnx_integers(g, shape_name, 3, shape));
    const char *const inputs[] = {input, shape_name, NULL};
    SIM_TRY(sim_onnx_node(g, "Reshape", of_patches, inputs, NULL, 0));
    const char *const patches[] = {of_patches, NULL};
    SIM_TRY(sim_onnx_node(g, "ReduceMean", output, patches, attributes, 2));
done:
    return st;
}

/* ---- the graph ---- */

static sim_status add_output(onnx_graph *g, const sim_export *e, size_t dim,
                             const char *value, const char *output)
{
    sim_status st = SIM_OK;
    const char *const inputs[] = {value, NULL};

    if (e->embedder.cut.grid)
        SIM_TRY(add_mean(g, &e->embedder.cut, dim, value, output));
    else
        SIM_TRY(sim_onnx_node(g, "Identity", output, inputs, NULL, 0));
    SIM_TRY(sim_onnx_output(g, output, e->batch, 1, &dim));
done:
    return st;
}

static sim_status add_networks(onnx_graph *g, const sim_export *e)
{
    sim_status st = SIM_OK;
    const sim_embedder *m = &e->embedder;
    const sim_preprocessing *p = &m->preprocessing;
    const size_t dims[] = {p->c, p->h, p->w};
    const char *images = input_name;
    char features[ONNX_NAME_BYTES], projections[ONNX_NAME_BYTES];

    SIM_TRY(sim_onnx_input(g, input_name, e->batch, 3, dims));
    if (m->cut.grid)
        SIM_TRY(add_patches(g, &m->cut, &images));
    SIM_TRY(sim_onnx_add_net(g, m->backbone, sim_model_group(SIM_BACKBONE),
                             e->fold_batchnorm, images, features));
    SIM_TRY(add_output(g, e, sim_net_dim(m->backbone), features, "features"));
    if (!m->projector)
        goto done;
    SIM_TRY(sim_onnx_add_net(g, m->projector, sim_model_group(SIM_PROJECTOR),
                             e->fold_batchnorm, features, projections));
    SIM_TRY(add_output(g, e, sim_net_dim(m->projector), projections, "projections"));
done:
    return st;
}

/* ---- the files ---- */

static const char *const files[] = {"encoder.onnx", "sample.safetensors", NULL};

static sim_status write_onnx(const sim_export *e, const char *directory)
{
    sim_status st = SIM_OK;
    onnx_graph *g = NULL;
    char path[PATH_MAX];

    SIM_TRY(sim_export_write_sample(e, directory, files[1]));
    SIM_TRY(sim_onnx_create(&g));
    SIM_TRY(add_networks(g, e));
    SIM_TRY(sim_export_path(directory, files[0], path));
    SIM_TRY(sim_onnx_write(g, path, e->created_by, SIM_MODEL_FILE_KEY, e->metadata));
done:
    sim_onnx_destroy(&g);
    return st;
}

/* The metadata is stored at the end of the file. */
static bool has_own_metadata(const char *path)
{
    enum { TAIL_BYTES = 1 << 20 };
    static const char mark[] = "{\"format\":\"" SIM_MODEL_FILE_FORMAT "\"";
    char *tail = NULL;
    size_t n = 0;
    bool has = sim_file_load_end(path, TAIL_BYTES, &tail, &n) == SIM_OK &&
               memmem(tail, n, mark, sizeof mark - 1) != NULL;

    sim_error_clear();
    sim_free(tail);
    return has;
}

static bool is_own_onnx(const char *path)
{
    return sim_export_is_own_safetensors(path) || has_own_metadata(path);
}

const sim_export_format sim_export_onnx = {
    .name = "onnx",
    .summary = "encoder.onnx, for ONNX Runtime, and sample.safetensors",
    .files = files,
    .is_graph = true,
    .is_own = is_own_onnx,
    .write = write_onnx};
