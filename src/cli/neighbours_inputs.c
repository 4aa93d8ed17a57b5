/*
 * neighbours_inputs.c - opens the data sets, files of features, model and queries of `simile neighbours`,
 * and computes the features.
 */
#include "neighbours.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/import.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 12, PHOTO_BYTES = 1 << 28, FEATURE_PICTURE = 64 };

/* ---- what the words of the command line are ---- */

static bool is_feature_file(const char *path)
{
    sim_h5 *file = NULL;
    const sim_path_kind kind = sim_path_kind_of(path);
    bool is = kind == SIM_PATH_EMBEDDINGS;

    if (kind == SIM_PATH_HDF5 && sim_h5_open_read(path, &file) == SIM_OK)
        is = sim_h5_has(file, "/features");
    sim_h5_close(&file);
    sim_error_clear();
    return is;
}

static bool is_list_of_ids(const char *text)
{
    return *text && text[strspn(text, "0123456789, ")] == '\0' && !sim_path_exists(text);
}

/* ---- models and data sets ---- */

static sim_status open_model(const neighbours_arguments *a, neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    sim_evaluate_options unused;

    SIM_TRY(sim_new(&in->job, "cli/job"));
    SIM_TRY(sim_cli_job_of_checkpoint(sim_checkpoint_head_of(in->checkpoint)->config,
                                      sim_checkpoint_path(in->checkpoint), in->job,
                                      &unused));
    SIM_TRY(sim_kernels_pick(in->job->train.kernels));
    SIM_TRY(sim_dataset_open(a->data, &in->data));
    SIM_TRY(sim_preprocessing_open(in->checkpoint, in->job,
                                   (const sim_dataset *[]){in->data}, 1,
                                   &in->preprocessing));
    SIM_TRY(sim_preprocessing_check(&in->preprocessing, in->data));
    SIM_TRY(sim_embedder_open(in->checkpoint, in->job, &in->preprocessing,
                              a->projections ? SIM_EMBED_PROJECTOR : SIM_EMBED_BACKBONE,
                              &in->embedder));
    SIM_CHECK(!a->projections || in->embedder.projector, SIM_E_CONFIG,
              "--projector: the model of %s has no projector",
              sim_checkpoint_path(in->checkpoint));
    in->dim =
        sim_net_dim(a->projections ? in->embedder.projector : in->embedder.backbone);
done:
    return st;
}

static sim_status open_features(const neighbours_arguments *a, neighbours_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_kernels_pick("auto"));
    SIM_TRY(sim_feature_file_open(a->model, &in->file));
    in->dim = sim_feature_file_dim(in->file);
    if (!a->data)
        goto done;
    SIM_TRY(sim_dataset_open(a->data, &in->data));
    const size_t n = sim_labelled_set_of_file(in->file).n,
                 n_images = sim_dataset_about(in->data)->n_images;
    SIM_CHECK(
        n == n_images, SIM_E_DATA,
        "%s has features of %zu images, but %s has %zu images; give the data set that "
        "was embedded",
        a->model, n, a->data, n_images);
    in->preprocessing =
        sim_preprocessing_of(FEATURE_PICTURE, sim_dataset_about(in->data));
done:
    return st;
}

static void fill_set(neighbours_set *s, const sim_dataset *d, const sim_feature_file *f)
{
    s->data = d;
    s->file = f;
    s->n = d ? sim_dataset_about(d)->n_images : sim_labelled_set_of_file(f).n;
}

/* ---- queries ---- */

/* The queries are the first n of in->ids, rows of the bank. */
static void query_rows(neighbours_inputs *in, size_t n)
{
    in->queries = in->bank;
    in->queries.ids = in->ids;
    in->queries.n = n;
    in->is_same_set = true;
}

static sim_status parse_ids(const char *text, const neighbours_set *bank,
                            neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    SIM_TRY(sim_alloc(&in->ids, MOST_IDS, "cli/neighbours"));
    for (char *end = NULL; *text; text = end + strspn(end, ", ")) {
        const unsigned long long id = strtoull(text, &end, 10);
        SIM_CHECK(end != text, SIM_E_USAGE, "--query: \"%s\" is not a list of numbers",
                  text);
        SIM_CHECK(id < bank->n, SIM_E_DATA, "--query: there is no image %llu; %s has %zu",
                  id, bank->data ? sim_dataset_path(bank->data) : "the file", bank->n);
        SIM_CHECK(n < MOST_IDS, SIM_E_USAGE, "--query: more than %d images are listed",
                  MOST_IDS);
        in->ids[n++] = (uint32_t)id;
    }
    SIM_CHECK(n > 0, SIM_E_USAGE, "--query: no image is listed");
    query_rows(in, n);
done:
    return st;
}

/* Evenly spaced images of the bank. */
static sim_status sample_queries(const neighbours_set *bank, neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    const size_t n = bank->n < SAMPLE ? bank->n : SAMPLE;

    SIM_TRY(sim_alloc(&in->ids, n, "cli/neighbours"));
    for (size_t i = 0; i < n; i++)
        in->ids[i] = (uint32_t)sim_sample_image(bank->n, n, i);
    query_rows(in, n);
done:
    return st;
}

static sim_status open_photo(const neighbours_arguments *a, neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    char *bytes = NULL;
    size_t n = 0;
    sim_decode_notes notes;

    SIM_CHECK(in->checkpoint, SIM_E_USAGE,
              "--query: %s is an image, but %s has features only; give a model", a->query,
              a->model);
    const sim_image_target target = {.type = in->preprocessing.type,
                                     .c = in->preprocessing.c,
                                     .range = in->preprocessing.range};
    SIM_TRY(sim_file_load(a->query, PHOTO_BYTES, &bytes, &n));
    SIM_TRY(sim_image_decode(a->query, (const uint8_t *)bytes, n, &target, &in->photo,
                             &notes));
    in->queries = (neighbours_set){.n = 1, .photo = &in->photo, .photo_name = a->query};
done:
    sim_free(bytes);
    return st;
}

static sim_status open_second_set(const neighbours_arguments *a, neighbours_inputs *in)
{
    sim_status st = SIM_OK;

    if (in->checkpoint) {
        SIM_TRY(sim_path_explain(sim_dataset_open(a->query, &in->query_data), a->query,
                                 SIM_USE_DATASET));
        SIM_TRY(sim_preprocessing_check(&in->preprocessing, in->query_data));
    } else {
        SIM_TRY(sim_feature_file_open(a->query, &in->query_file));
        SIM_CHECK(sim_feature_file_dim(in->query_file) == in->dim, SIM_E_DATA,
                  "features of %s have %zu dimensions, those of %s %zu", a->query,
                  sim_feature_file_dim(in->query_file), a->model, in->dim);
    }
    fill_set(&in->queries, in->query_data, in->query_file);
done:
    return st;
}

/* With --duplicates and without --query, all images are compared with each other. */
static sim_status open_queries(const neighbours_arguments *a, neighbours_inputs *in)
{
    sim_status st = SIM_OK;

    if (!a->query && a->threshold > 0) {
        in->queries = in->bank;
        in->is_same_set = true;
    } else if (!a->query) {
        SIM_TRY(sample_queries(&in->bank, in));
    } else if (is_list_of_ids(a->query)) {
        SIM_TRY(parse_ids(a->query, &in->bank, in));
    } else if (sim_path_kind_of(a->query) == SIM_PATH_IMAGE) {
        SIM_TRY(open_photo(a, in));
    } else {
        SIM_TRY(open_second_set(a, in));
    }
done:
    return st;
}

static sim_status read_names(neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    neighbours_set *bank = &in->bank, *queries = &in->queries;

    if (bank->data)
        SIM_TRY(sim_dataset_read_names(bank->data, &bank->name_width, &in->names));
    bank->names = in->names;
    if (in->query_data)
        SIM_TRY(sim_dataset_read_names(in->query_data, &queries->name_width,
                                       &in->query_names));
    queries->names = in->is_same_set ? in->names : in->query_names;
    queries->name_width = in->is_same_set ? bank->name_width : queries->name_width;
done:
    return st;
}

static sim_status open_local(const neighbours_arguments *a, neighbours_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(in->checkpoint ? open_model(a, in) : open_features(a, in));
    fill_set(&in->bank, in->data, in->file);
    SIM_TRY(open_queries(a, in));
    SIM_TRY(read_names(in));
done:
    return st;
}

/* ---- features ---- */

static sim_status compute(const sim_comm *c, const neighbours_arguments *a,
                          const neighbours_inputs *in, const sim_dataset *d,
                          const sim_feature_file *f, float **out)
{
    const sim_labelled_set set = f ? sim_labelled_set_of_file(f) : sim_labelled_set_of(d);
    const sim_evaluation_inputs inputs = {.embedder = f ? NULL : &in->embedder,
                                          .projections = a->projections,
                                          .job = in->job,
                                          .test = set,
                                          .loader_threads = a->loader_threads};

    return sim_evaluation_features(c, &inputs, &set, NULL, out);
}

/* Rows of the bank: every rank receives all, and keeps its own. */
static sim_status copy_rows(const sim_comm *c, neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    const sim_partition p = sim_comm_partition(c);
    const sim_range bank = sim_embed_local(p, in->bank.n),
                    local = sim_embed_local(p, in->queries.n);
    const size_t n = in->queries.n, dim = in->dim;
    float *all = NULL;

    st = sim_alloc(&all, n * dim, "cli/neighbours");
    if (st == SIM_OK)
        st = sim_alloc(&in->queries.features, (local.hi - local.lo) * dim,
                       "cli/neighbours");
    SIM_TRY(sim_comm_agree(c, st));
    for (size_t i = 0; i < n; i++) {
        const size_t id = sim_neighbours_id(&in->queries, i);
        if (id >= bank.lo && id < bank.hi)
            memcpy(all + i * dim, in->bank.features + (id - bank.lo) * dim,
                   dim * sizeof *all);
    }
    sim_comm_or_bytes(c, all, n * dim * sizeof *all);
    memcpy(in->queries.features, all + local.lo * dim,
           (local.hi - local.lo) * dim * sizeof *all);
done:
    sim_free(all);
    return st;
}

static sim_status embed_photo(const sim_comm *c, const neighbours_arguments *a,
                              neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    const size_t dim = sim_net_dim(in->embedder.backbone);
    const sim_range local = sim_embed_local(sim_comm_partition(c), 1);
    float *features = NULL, *projections = NULL;

    SIM_TRY(sim_alloc(&features, dim, "cli/neighbours"));
    SIM_TRY(sim_alloc(&projections, in->dim, "cli/neighbours"));
    SIM_TRY(sim_alloc(&in->queries.features, in->dim, "cli/neighbours"));
    SIM_TRY(sim_embed_images(&in->embedder, 1, &in->photo, features,
                             a->projections ? projections : NULL));
    if (local.lo < local.hi)
        memcpy(in->queries.features, a->projections ? projections : features,
               in->dim * sizeof *features);
done:
    sim_free(features);
    sim_free(projections);
    return st;
}

static sim_status compute_features(const sim_comm *c, const neighbours_arguments *a,
                                   neighbours_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(compute(c, a, in, in->data, in->file, &in->bank.features));
    if (in->queries.ids)
        SIM_TRY(copy_rows(c, in));
    else if (in->queries.photo)
        SIM_TRY(sim_comm_agree(c, embed_photo(c, a, in)));
    else if (!in->is_same_set)
        SIM_TRY(compute(c, a, in, in->query_data, in->query_file, &in->queries.features));
done:
    return st;
}

/* Whether all ranks have read the same. */
static sim_status compare_ranks(const sim_comm *c, const neighbours_arguments *a,
                                const neighbours_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_cli_compare_kernels(c));
    if (in->data)
        SIM_TRY(sim_job_compare_data(c, in->data));
    if (in->query_data)
        SIM_TRY(sim_job_compare_data(c, in->query_data));
    if (in->file)
        SIM_TRY(sim_comm_compare_file(c, a->model));
    if (in->query_file || in->photo.pixels)
        SIM_TRY(sim_comm_compare_file(c, a->query));
    if (in->checkpoint)
        SIM_TRY(sim_cli_compare_preprocessing(c, &in->preprocessing));
done:
    return st;
}

sim_status sim_neighbours_open(const sim_comm *c, neighbours_arguments *a,
                               neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    int64_t is_file = c->rank == 0 && is_feature_file(a->model);

    sim_comm_broadcast(c, 0, &is_file, sizeof is_file);
    if (!is_file) {
        SIM_CHECK(a->data, SIM_E_USAGE, "--data, a data set to search, is required");
        SIM_TRY(sim_import_open(c, a->model, &in->checkpoint));
    }
    if (c->rank == 0)
        st = sim_neighbours_check_output(a);
    if (st == SIM_OK)
        st = open_local(a, in);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(compare_ranks(c, a, in));
    SIM_TRY(compute_features(c, a, in));
done:
    return st;
}

void sim_neighbours_close(neighbours_inputs *in)
{
    sim_free(in->bank.features);
    if (in->queries.features != in->bank.features)
        sim_free(in->queries.features);
    sim_free(in->photo.pixels);
    sim_free(in->ids);
    sim_free(in->names);
    sim_free(in->query_names);
    sim_embedder_close(&in->embedder);
    sim_dataset_close(&in->data);
    sim_dataset_close(&in->query_data);
    sim_feature_file_close(&in->file);
    sim_feature_file_close(&in->query_file);
    sim_checkpoint_close(&in->checkpoint);
    sim_free(in->job);
}

/* ---- rows ---- */

size_t sim_neighbours_id(const neighbours_set *s, size_t i)
{
    return s->ids ? s->ids[i] : i;
}

const char *sim_neighbours_name(const neighbours_set *s, size_t i, size_t *length)
{
    const char *name = s->photo   ? s->photo_name
                       : s->names ? s->names + sim_neighbours_id(s, i) * s->name_width
                                  : "";

    *length = s->photo ? strlen(name) : strnlen(name, s->names ? s->name_width : 0);
    return name;
}

const char *sim_neighbours_class(const neighbours_set *s, size_t i, char number[24])
{
    if (s->photo)
        return "";
    const sim_labelled_set set =
        s->data ? sim_labelled_set_of(s->data) : sim_labelled_set_of_file(s->file);
    if (!set.labels)
        return "";
    const size_t label = (size_t)set.labels[sim_neighbours_id(s, i)];
    const char *name = sim_labelled_set_class(&set, label);
    (void)snprintf(number, 24, "%zu", label);
    return name ? name : number;
}
