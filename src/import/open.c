/*
 * open.c - a safetensors file as a checkpoint in memory.
 *
 * Rank 0 reads the file and builds the checkpoint, whose bytes the other ranks receive.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/model.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

/* By its content, or by its name if it was truncated to less than a header. */
static bool is_safetensors(const char *path)
{
    if (!sim_path_exists(path) || sim_path_is_directory(path))
        return false;
    return sim_text_ends_with(path, ".safetensors") ||
           sim_path_kind_of(path) == SIM_PATH_SAFETENSORS;
}

/* ---- the checkpoint ---- */

static sim_status visit_tensors(void *object, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    const import_file *f = object;
    char group[64];

    for (size_t i = 0; i < f->n; i++) {
        (void)snprintf(group, sizeof group, SIM_TRAINED_WEIGHTS "/%s",
                       sim_model_group(f->tensors[i].net));
        SIM_TRY(sim_visit(v, group, &f->tensors[i].tensor));
    }
done:
    return st;
}

/* Step and training set of an export; zeros without metadata. */
static void describe_origin(const import_file *f, sim_checkpoint_head *head)
{
    const char *fingerprint = "";

    if (!f->metadata)
        return;
    (void)sim_json_get_int(f->metadata, "step", &head->step);
    (void)sim_json_get_int(f->metadata, "epoch", &head->epoch);
    (void)sim_json_get_text(f->metadata, "training_set", &fingerprint);
    (void)snprintf(head->fingerprint, sizeof head->fingerprint, "%s", fingerprint);
}

static sim_status build_checkpoint(import_file *f, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint_head head = {.identity = "", .history = "[]"};
    const sim_state_source source = {visit_tensors, f};
    char *config = NULL, *preprocessing = NULL;

    describe_origin(f, &head);
    SIM_TRY(sim_import_config(f, &config));
    SIM_TRY(sim_import_preprocessing(f, &preprocessing));
    head.config = config;
    head.preprocessing = preprocessing;
    SIM_TRY(sim_checkpoint_build(f->path, &head, &source, out));
done:
    sim_free(config);
    sim_free(preprocessing);
    return st;
}

static void log_network(const import_file *f)
{
    char arch[64] = "";

    (void)sim_choices_text(sim_encoder_table.rows[0].choices, f->encoder.arch, arch,
                           sizeof arch);
    sim_log("%s: %s, %s stem, width %g, %zu channel%s; %s", f->path, arch,
            f->encoder.stem == SIM_STEM_IMAGENET ? "imagenet" : "cifar", f->encoder.width,
            f->channels, f->channels == 1 ? "" : "s",
            f->metadata ? "an export of simile" : "no metadata of simile, ReLU assumed");
    if (f->n_ignored)
        sim_log("%s: %zu tensors are not used: %s", f->path, f->n_ignored, f->ignored);
}

static sim_status load_file(const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    import_file f = {.path = path};

    SIM_TRY(sim_safetensors_open(path, &f.file));
    SIM_TRY(sim_import_read_metadata(path, f.file, &f.metadata));
    SIM_TRY(sim_import_read_tensors(&f));
    log_network(&f);
    SIM_TRY(build_checkpoint(&f, out));
done:
    sim_import_free_tensors(&f);
    sim_json_destroy(&f.metadata);
    sim_safetensors_close(&f.file);
    return st;
}

sim_status sim_import_open_weights(const sim_comm *c, const char *path,
                                   sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    int64_t is_weights = c->rank == 0 && is_safetensors(path);

    sim_comm_max_i64(c, &is_weights, 1);
    if (!is_weights)
        goto done;
    if (c->rank == 0)
        st = load_file(path, &k);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(sim_checkpoint_share(c, &k));
    *out = k;
    k = NULL;
done:
    sim_checkpoint_close(&k);
    return st;
}

sim_status sim_import_open(const sim_comm *c, const char *path, sim_checkpoint **out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_import_open_weights(c, path, out));
    if (*out)
        goto done;
    st = sim_checkpoint_open(c, path, out);
    if (c->rank == 0)
        st = sim_path_explain(st, path, SIM_USE_MODEL);
done:
    return st;
}
