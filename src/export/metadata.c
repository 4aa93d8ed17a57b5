/*
 * metadata.c - the metadata of an export: networks, preprocessing, origin.
 *
 * In: a checkpoint and the networks to export.  Out: a JSON text without paths and times, so that
 * two exports of a checkpoint are equal.
 */
#include "private.h"

#include "simile/json.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

/* Adds the text of an ENUM key of `encoder`. */
static void add_choice(sim_json *j, const char *name, const char *key, int value)
{
    char text[64] = "";

    for (size_t i = 0; i < sim_encoder_table.n_rows; i++)
        if (strcmp(sim_encoder_table.rows[i].name, key) == 0)
            SIM_ASSERT(sim_choices_text(sim_encoder_table.rows[i].choices, value, text,
                                        sizeof text));
    SIM_ASSERT(text[0]);
    sim_json_text(j, name, text);
}

static const sim_tensor *find_tensor(const sim_export *e, const char *name)
{
    for (size_t i = 0; i < e->n_tensors; i++)
        if (e->tensors[i].group == e->tensors[0].group &&
            strcmp(e->tensors[i].name, name) == 0)
            return &e->tensors[i].tensor;
    return NULL;
}

/* Channels of the stages of a ResNet, which follow from the width by rounding. */
static void add_channels(const sim_export *e, sim_json *j)
{
    sim_json *list = sim_json_array(j, "stage_channels");
    const sim_tensor *t = NULL;
    char name[32];

    for (int stage = 1;; stage++) {
        (void)snprintf(name, sizeof name, "layer%d.0.conv1.weight", stage);
        t = find_tensor(e, name);
        if (!t)
            break;
        sim_json_int(list, NULL, (int64_t)t->dims[0]);
    }
}

/* The graph of an ONNX file. */
static void describe_graph(const sim_export_options *options, sim_json *j)
{
    if (!options->format->is_graph)
        return;
    if (options->batch)
        sim_json_int(j, "batch", (int64_t)options->batch);
    else
        sim_json_text(j, "batch", "free");
    sim_json_bool(j, "batchnorm_folded", options->fold_batchnorm);
}

static void describe_networks(const sim_job *job, const sim_export *e, bool momentum,
                              sim_json *j)
{
    const sim_encoder_options *o = &job->encoder;

    add_choice(j, "architecture", "arch", o->arch);
    add_choice(j, "stem", "stem", o->stem);
    sim_json_real(j, "width", o->width);
    add_channels(e, j);
    add_choice(j, "activation", "activation", o->activation);
    sim_json_text(j, "weights", momentum ? "momentum encoder" : "trained encoder");
    sim_json_int(j, "features", (int64_t)sim_net_dim(e->embedder.backbone));
    if (e->embedder.projector)
        sim_json_int(j, "projections", (int64_t)sim_net_dim(e->embedder.projector));
}

/* Patches are cut after the preprocessing; features are their mean. */
static void describe_patches(const sim_patches *cut, sim_json *j)
{
    sim_json *o = NULL;

    if (cut->grid == 0)
        return;
    o = sim_json_object(j, "mean_over_patches");
    sim_json_int(o, "grid", (int64_t)cut->grid);
    sim_json_int(o, "height", (int64_t)cut->patch_h);
    sim_json_int(o, "width", (int64_t)cut->patch_w);
    sim_json_int(o, "step_y", (int64_t)cut->step_h);
    sim_json_int(o, "step_x", (int64_t)cut->step_w);
    sim_json_int(o, "top", (int64_t)cut->top);
    sim_json_int(o, "left", (int64_t)cut->left);
}

/* The run and the step from which the weights are. */
static sim_status describe_origin(const sim_checkpoint *k, const sim_job *job,
                                  sim_json *j)
{
    sim_status st = SIM_OK;
    const sim_checkpoint_head *head = sim_checkpoint_head_of(k);
    sim_json *all = NULL, *identity = NULL;
    const char *hash = "";

    SIM_TRY(sim_json_create(&all));
    SIM_TRY(sim_checkpoint_describe(k, all));
    SIM_CHECK(sim_json_get_text(all, "weights_hash", &hash) &&
                  sim_json_get_object(all, "identity", &identity),
              SIM_E_DATA, "%s: weights_hash or identity is absent",
              sim_checkpoint_path(k));
    sim_json_text(j, "method", job->method->name);
    sim_json_int(j, "step", head->step);
    sim_json_int(j, "epoch", head->epoch);
    sim_json_text(j, "weights_hash", hash);
    sim_json_text(j, "training_set", head->fingerprint);
    sim_json_put(j, "identity", identity);
done:
    sim_json_destroy(&all);
    return st;
}

sim_status sim_export_describe(const sim_checkpoint *k, const sim_job *job,
                               const sim_export_options *options, const sim_export *e,
                               char **text)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "format", SIM_MODEL_FILE_FORMAT);
    sim_json_int(j, "format_version", SIM_MODEL_FILE_VERSION);
    sim_json_text(j, "created_by", options->created_by);
    sim_json_text(j, "file", options->format->files[0]);
    describe_graph(options, j);
    describe_networks(job, e, options->momentum, j);
    describe_patches(&e->embedder.cut, j);
    sim_preprocessing_describe(&e->embedder.preprocessing,
                               sim_json_object(j, "preprocessing"));
    SIM_TRY(describe_origin(k, job, j));
    SIM_TRY(sim_json_dump(j, 0, text));
done:
    sim_json_destroy(&j);
    return st;
}

bool sim_export_is_metadata(const char *text, size_t n_bytes)
{
    sim_json *j = NULL;
    const char *format = "";
    bool is = sim_json_parse(text, n_bytes, &j) == SIM_OK &&
              sim_json_get_text(j, "format", &format) &&
              strcmp(format, SIM_MODEL_FILE_FORMAT) == 0;

    sim_error_clear();
    sim_json_destroy(&j);
    return is;
}
