/*
 * embed.c - features and projections of a data set by a trained encoder; each rank embeds its
 * images.
 *
 * In: a data set and an embedder.  Out: one row per local image.  If the method cuts images
 * into patches, a row is the mean over the patches.
 * Called by the evaluations and by `simile embed`.
 */
#include "simile/eval.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

enum {
    UNIT = 32, /* consecutive images that are assigned to ranks as a whole */
    BATCH = SIM_EMBED_IMAGES,
    PATCHED_BATCH = 4 /* images cut into patches, which need more memory */
};

/* The heads of a checkpoint. */
typedef struct {
    bool has_projector;
    size_t n_outputs; /* of the classifier; 0: it has none */
} stored_heads;

static sim_status find_head(void *ctx, const sim_stored_tensor *t)
{
    static const char projector[] = SIM_TRAINED_WEIGHTS "/projector/",
                      classifier[] = SIM_TRAINED_WEIGHTS "/classifier/0.bias";
    stored_heads *heads = ctx;

    if (strncmp(t->name, projector, sizeof projector - 1) == 0)
        heads->has_projector = true;
    if (strcmp(t->name, classifier) == 0 && t->n_dims == 1)
        heads->n_outputs = t->dims[0];
    return SIM_OK;
}

sim_status sim_embedder_open(const sim_checkpoint *k, const sim_job *job,
                             const sim_preprocessing *p, unsigned nets, sim_embedder *out)
{
    sim_status st = SIM_OK;
    static const sim_batchnorm_options running = {0};
    sim_embedder e = {.preprocessing = *p};
    const sim_net_spec image = {
        .encoder = &job->encoder, .batchnorm = &running, .h = p->h, .w = p->w, .c = p->c};
    sim_model_spec spec = job->method->model(&job->method_options);
    stored_heads heads = {0};
    sim_model_layout layout;
    sim_model model;
    unsigned wanted = 1U << SIM_BACKBONE;
    const char *prefix =
        nets & SIM_EMBED_MOMENTUM ? SIM_MOMENTUM_WEIGHTS : SIM_TRAINED_WEIGHTS;

    if (nets & (SIM_EMBED_PROJECTOR | SIM_EMBED_CLASSIFIER))
        SIM_TRY(sim_checkpoint_visit(k, find_head, &heads));
    if ((nets & SIM_EMBED_PROJECTOR) && heads.has_projector)
        wanted |= 1U << SIM_PROJECTOR;
    if (nets & SIM_EMBED_CLASSIFIER) {
        wanted |= 1U << SIM_CLASSIFIER;
        spec.classes = heads.n_outputs;
    }
    SIM_TRY(sim_model_lay_out(&spec, &image, &layout));
    SIM_TRY(sim_model_open(k, &layout, wanted, prefix, &model));
    e.backbone = model.net[SIM_BACKBONE];
    e.projector = model.net[nets & SIM_EMBED_CLASSIFIER ? SIM_CLASSIFIER : SIM_PROJECTOR];
    e.cut = layout.patches;
    *out = e;
done:
    return st;
}

void sim_embedder_close(sim_embedder *e)
{
    sim_net_destroy(&e->backbone);
    sim_net_destroy(&e->projector);
}

sim_range sim_embed_local(sim_partition p, size_t n)
{
    sim_range r = sim_partition_range(p, (n + UNIT - 1) / UNIT);
    r.lo *= UNIT;
    r.hi *= UNIT;
    return (sim_range){r.lo < n ? r.lo : n, r.hi < n ? r.hi : n};
}

/* State of one pass over this rank's images.  One batch of views is embedded while the next
 * one is loaded. */
typedef struct {
    const sim_embedder *e;
    sim_evaluator *backbone, *projector; /* projector NULL: no projections */
    sim_augment *plain; /* borrowed by the loader; NULL: augmented views */
    sim_embed_choice choice;
    size_t n_stored; /* images of the data set */
    sim_loader *loader;
    sim_range local;
    size_t view_floats;
    float *views[2];            /* [BATCH][view_floats] each */
    sim_view_request *requests; /* [BATCH] */
    /* If images are cut into patches: those of PATCHED_BATCH images, their features and
     * projections. */
    float *patches, *patch_features, *patch_projections;
} embedding;

enum { EMBEDDING_BUFFERS = 6 };

static void list_embedding_buffers(embedding *m, bool projections,
                                   sim_buffer list[EMBEDDING_BUFFERS])
{
    const sim_embedder *e = m->e;
    const size_t n = PATCHED_BATCH * e->cut.grid * e->cut.grid;

    list[0] = SIM_BUFFER(m->views[0], BATCH * m->view_floats);
    list[1] = SIM_BUFFER(m->views[1], BATCH * m->view_floats);
    list[2] = SIM_BUFFER(m->requests, BATCH);
    list[3] = SIM_BUFFER(m->patches, PATCHED_BATCH * sim_patches_floats(&e->cut));
    list[4] = SIM_BUFFER(m->patch_features, n * sim_net_dim(e->backbone));
    list[5] =
        SIM_BUFFER(m->patch_projections, projections ? n * sim_net_dim(e->projector) : 0);
}

/* Everything but the loader.  local: images that will be embedded; choice NULL: all, not augmented. */
static sim_status embedding_create(const sim_embedder *e, sim_range local,
                                   const sim_embed_choice *choice, bool projections,
                                   embedding *m)
{
    sim_status st = SIM_OK;
    const sim_preprocessing *p = &e->preprocessing;
    sim_buffer list[EMBEDDING_BUFFERS];

    *m = (embedding){.e = e,
                     .local = local,
                     .view_floats = p->h * p->w * p->c,
                     .choice = choice ? *choice : (sim_embed_choice){0}};
    if (!m->choice.augment)
        SIM_TRY(sim_augment_create_plain(p, &m->plain));
    list_embedding_buffers(m, projections, list);
    SIM_TRY(sim_buffers_create(list, EMBEDDING_BUFFERS, "eval/views"));
    SIM_TRY(sim_evaluator_create(e->backbone, &m->backbone));
    if (projections)
        SIM_TRY(sim_evaluator_create(e->projector, &m->projector));
done:
    return st;
}

static void embedding_destroy(embedding *m)
{
    sim_buffer list[EMBEDDING_BUFFERS];

    sim_loader_destroy(&m->loader);
    sim_augment_destroy(&m->plain);
    sim_evaluator_destroy(&m->backbone);
    sim_evaluator_destroy(&m->projector);
    list_embedding_buffers(m, false, list);
    sim_buffers_destroy(list, EMBEDDING_BUFFERS);
}

/* Number of images in the batch that begins at image `first`. */
static size_t batch_size(const embedding *m, size_t first)
{
    return m->local.hi - first < BATCH ? m->local.hi - first : BATCH;
}

static size_t image_of_row(const embedding *m, size_t row)
{
    return m->choice.n_images ? sim_sample_image(m->n_stored, m->choice.n_images, row)
                              : row;
}

static void request_batch(embedding *m, size_t first, float *views)
{
    const size_t n = batch_size(m, first);
    for (size_t i = 0; i < n; i++) {
        const uint32_t image = (uint32_t)image_of_row(m, first + i);
        m->requests[i] = (sim_view_request){.image = image,
                                            .sample = image,
                                            .view = m->choice.view,
                                            .out = views + i * m->view_floats};
    }
    sim_loader_post(m->loader, m->requests, n);
}

/* Runs the networks; projections may be NULL. */
static void embed_views(const embedding *m, size_t n, const float *x, float *features,
                        float *projections)
{
    sim_evaluator_run(m->backbone, n, x, features);
    if (projections)
        sim_evaluator_run(m->projector, n, features, projections);
}

/* At most PATCHED_BATCH images: the mean over the patches of each. */
static void embed_patches(const embedding *m, size_t n, const float *x, float *features,
                          float *projections)
{
    const sim_patches *cut = &m->e->cut;

    sim_patches_cut(cut, n, x, m->patches);
    embed_views(m, n * cut->grid * cut->grid, m->patches, m->patch_features,
                projections ? m->patch_projections : NULL);
    sim_patches_mean(cut, n, sim_net_dim(m->e->backbone), m->patch_features, features);
    if (projections)
        sim_patches_mean(cut, n, sim_net_dim(m->e->projector), m->patch_projections,
                         projections);
}

static void embed_batch(const embedding *m, size_t n, const float *x, float *features,
                        float *projections)
{
    const size_t dim = sim_net_dim(m->e->backbone),
                 projected = projections ? sim_net_dim(m->e->projector) : 0;

    if (m->e->cut.grid == 0) {
        embed_views(m, n, x, features, projections);
        return;
    }
    for (size_t at = 0; at < n; at += PATCHED_BATCH)
        embed_patches(m, n - at < PATCHED_BATCH ? n - at : PATCHED_BATCH,
                      x + at * m->view_floats, features + at * dim,
                      projections ? projections + at * projected : NULL);
}

static sim_status embed_all_batches(embedding *m, float *features, float *projections)
{
    sim_status st = SIM_OK;
    const size_t dim = sim_net_dim(m->e->backbone),
                 projected = projections ? sim_net_dim(m->e->projector) : 0;
    int current = 0;
    /* Ranks have about as many images each. */
    sim_progress_line progress =
        sim_progress_line_begin("embedding", "images", 0, m->local.hi - m->local.lo);

    if (m->local.lo < m->local.hi)
        request_batch(m, m->local.lo, m->views[current]);
    for (size_t at = m->local.lo; at < m->local.hi; at += BATCH, current ^= 1) {
        const size_t n = batch_size(m, at), row = at - m->local.lo;
        SIM_TRY(sim_loader_wait(m->loader));
        if (at + BATCH < m->local.hi)
            request_batch(m, at + BATCH, m->views[current ^ 1]);
        embed_batch(m, n, m->views[current], features + row * dim,
                    projections ? projections + row * projected : NULL);
        sim_progress_line_report(&progress, row + n);
    }
done:
    return st;
}

static size_t count_rows(const sim_dataset *d, const sim_embed_choice *choice)
{
    return choice && choice->n_images ? choice->n_images : sim_dataset_about(d)->n_images;
}

static sim_status embed_local(const sim_comm *c, const sim_embedder *e,
                              const sim_dataset *d, const sim_embed_choice *choice,
                              int loader_threads, float **features, float **projections)
{
    sim_status st = SIM_OK;
    const sim_range local = sim_embed_local(sim_comm_partition(c), count_rows(d, choice));
    const size_t n = local.hi - local.lo;
    embedding m;

    SIM_ASSERT(sim_dataset_about(d)->c == e->preprocessing.c);
    SIM_TRY(embedding_create(e, local, choice, projections != NULL, &m));
    m.n_stored = sim_dataset_about(d)->n_images;
    SIM_ASSERT(m.plain || choice);
    SIM_TRY(sim_loader_create(d, m.plain ? m.plain : choice->augment, m.choice.seed,
                              loader_threads, BATCH, &m.loader));
    SIM_TRY(sim_alloc(features, n * sim_net_dim(e->backbone), "eval/features"));
    if (projections)
        SIM_TRY(sim_alloc(projections, n * sim_net_dim(e->projector), "eval/features"));
    SIM_TRY(embed_all_batches(&m, *features, projections ? *projections : NULL));
done:
    embedding_destroy(&m);
    return st;
}

sim_status sim_embed_images(const sim_embedder *e, size_t n_images,
                            const sim_image *images, float *features, float *projections)
{
    sim_status st = SIM_OK;
    embedding m;

    SIM_ASSERT(n_images <= BATCH);
    SIM_TRY(embedding_create(e, (sim_range){0, n_images}, NULL, projections != NULL, &m));
    for (size_t i = 0; i < n_images; i++) {
        SIM_ASSERT(images[i].c == e->preprocessing.c);
        SIM_TRY(sim_augment_view(m.plain, 0, 0, 0, 0, &images[i],
                                 m.views[0] + i * m.view_floats));
    }
    embed_batch(&m, n_images, m.views[0], features, projections);
done:
    embedding_destroy(&m);
    return st;
}

size_t sim_embed_bytes(const sim_patches *cut, size_t dim, int loader_threads)
{
    size_t view = cut->h * cut->w * cut->c * sizeof(float);
    size_t patches = sim_patches_floats(cut) + cut->grid * cut->grid * dim;
    return BATCH * (2 * view + sizeof(sim_view_request)) +
           PATCHED_BATCH * patches * sizeof(float) +
           sim_loader_bytes(loader_threads, BATCH);
}

/* Such features come from a model that diverged; similarities to them are undefined.
 * Collective. */
static void warn_of_not_finite(const sim_comm *c, const sim_embedder *e,
                               const sim_dataset *d, size_t n, const float *features)
{
    const size_t dim = sim_net_dim(e->backbone);
    const sim_range local = sim_embed_local(sim_comm_partition(c), n);
    int64_t n_bad = 0;

    SIM_ASSERT(features);
    for (size_t i = 0; i < local.hi - local.lo; i++) {
        size_t j = 0;
        while (j < dim && isfinite(features[i * dim + j]))
            j++;
        n_bad += j < dim;
    }
    sim_comm_sum_i64(c, &n_bad, 1);
    if (n_bad)
        sim_log_warn("the features of %lld of %zu images of %s are not finite: the "
                     "model diverged, so results on them are not meaningful",
                     (long long)n_bad, n, sim_dataset_path(d));
}

sim_status sim_embed_chosen(const sim_comm *c, const sim_embedder *e,
                            const sim_dataset *d, const sim_embed_choice *choice,
                            int loader_threads, float **features, float **projections)
{
    *features = NULL;
    if (projections)
        *projections = NULL;
    sim_status st = sim_comm_agree(
        c, embed_local(c, e, d, choice, loader_threads, features, projections));
    if (st != SIM_OK) {
        SIM_FREE(*features);
        if (projections)
            SIM_FREE(*projections);
    } else {
        warn_of_not_finite(c, e, d, count_rows(d, choice), *features);
    }
    return st;
}

sim_status sim_embed(const sim_comm *c, const sim_embedder *e, const sim_dataset *d,
                     int loader_threads, float **features, float **projections)
{
    return sim_embed_chosen(c, e, d, NULL, loader_threads, features, projections);
}
