/*
 * embed.c - features of a data set by a trained encoder, each rank its part.
 *
 * Where the method cuts images in patches, a feature is the mean over them, and so is a
 * projection.
 */
#include "simile/eval.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <string.h>

enum {
    UNIT = 32,         /* images that belong to one rank together */
    AT_ONCE = 256,     /* images */
    CUT_AT_ONCE = 4,   /* images cut into patches, which need more memory */
    ENCODED_SIDE = 224 /* pixels, where encoded images have no size of their own */
};

sim_status sim_embedder_open(const sim_checkpoint *k, const sim_job *job,
                             const sim_dataset_info *about, bool projector,
                             sim_embedder *out)
{
    sim_status st = SIM_OK;
    static const sim_batchnorm_options running = {0};
    sim_embedder e = {.size = (size_t)job->augment.size};
    size_t side = e.size ? e.size : about->encoded ? ENCODED_SIDE : 0;
    const sim_net_spec image = {.encoder = &job->encoder,
                                .batchnorm = &running,
                                .h = side ? side : about->h,
                                .w = side ? side : about->w,
                                .c = about->c};
    const sim_model_spec spec = job->method->model(&job->method_options);
    sim_model_layout layout;
    sim_model model;
    unsigned wanted = 1U << SIM_BACKBONE | (projector ? 1U << SIM_PROJECTOR : 0);

    SIM_TRY(sim_model_lay_out(&spec, &image, &layout));
    SIM_TRY(sim_model_open(k, &layout, wanted, &model));
    e.backbone = model.net[SIM_BACKBONE];
    e.projector = model.net[SIM_PROJECTOR];
    e.cut = layout.patches;
    memcpy(e.mean, about->mean, sizeof e.mean);
    memcpy(e.std, about->std, sizeof e.std);
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

/* Two buffers of views: one is embedded while the other is loaded. */
typedef struct {
    const sim_embedder *e;
    sim_evaluator *backbone, *projector; /* projector NULL: no projections */
    sim_loader *loader;
    sim_range mine;
    float *x[2];
    sim_view_request *requests;
    size_t floats; /* of a view */
    /* Of a few images that go in patches: these, their features and projections. */
    float *patches, *parts[2];
} walk;

static size_t count_at(const walk *w, size_t at)
{
    return w->mine.hi - at < AT_ONCE ? w->mine.hi - at : AT_ONCE;
}

static void post(walk *w, size_t at, int slot)
{
    size_t n = count_at(w, at);
    for (size_t i = 0; i < n; i++)
        w->requests[i] = (sim_view_request){.sample = (uint32_t)(at + i),
                                            .out = w->x[slot] + i * w->floats};
    sim_loader_post(w->loader, w->requests, n);
}

/* Images that go whole; projections may be NULL. */
static void embed_whole(const walk *w, size_t n, const float *x, float *features,
                        float *projections)
{
    sim_evaluator_run(w->backbone, n, x, features);
    if (projections)
        sim_evaluator_run(w->projector, n, features, projections);
}

/* A few images in patches. */
static void embed_few(const walk *w, size_t n, const float *x, float *features,
                      float *projections)
{
    const sim_patches *cut = &w->e->cut;
    size_t patches = n * cut->grid * cut->grid;

    sim_patches_cut(cut, n, x, w->patches);
    embed_whole(w, patches, w->patches, w->parts[0], projections ? w->parts[1] : NULL);
    sim_patches_mean(cut, n, sim_net_dim(w->e->backbone), w->parts[0], features);
    if (projections)
        sim_patches_mean(cut, n, sim_net_dim(w->e->projector), w->parts[1], projections);
}

static void embed_images(const walk *w, size_t n, const float *x, float *features,
                         float *projections)
{
    size_t dim = sim_net_dim(w->e->backbone);
    size_t projected = projections ? sim_net_dim(w->e->projector) : 0;

    if (w->e->cut.grid == 0) {
        embed_whole(w, n, x, features, projections);
        return;
    }
    for (size_t at = 0; at < n; at += CUT_AT_ONCE)
        embed_few(w, n - at < CUT_AT_ONCE ? n - at : CUT_AT_ONCE, x + at * w->floats,
                  features + at * dim, projections ? projections + at * projected : NULL);
}

static sim_status run(walk *w, float *features, float *projections)
{
    sim_status st = SIM_OK;
    size_t dim = sim_net_dim(w->e->backbone);
    size_t projected = projections ? sim_net_dim(w->e->projector) : 0;
    int slot = 0;

    if (w->mine.lo < w->mine.hi)
        post(w, w->mine.lo, 0);
    for (size_t at = w->mine.lo; at < w->mine.hi; at += AT_ONCE, slot ^= 1) {
        size_t n = count_at(w, at), row = at - w->mine.lo;
        SIM_TRY(sim_loader_wait(w->loader));
        if (at + AT_ONCE < w->mine.hi)
            post(w, at + AT_ONCE, slot ^ 1);
        embed_images(w, n, w->x[slot], features + row * dim,
                     projections ? projections + row * projected : NULL);
        sim_log_progress("embedding: %zu of %zu", row + n, w->mine.hi - w->mine.lo);
    }
done:
    return st;
}

static sim_status take_patches(walk *w, bool projections)
{
    sim_status st = SIM_OK;
    const sim_embedder *e = w->e;
    size_t patches = CUT_AT_ONCE * e->cut.grid * e->cut.grid;

    if (patches == 0)
        goto done;
    SIM_TRY(
        sim_alloc(&w->patches, CUT_AT_ONCE * sim_patches_floats(&e->cut), "eval/views"));
    SIM_TRY(sim_alloc(&w->parts[0], patches * sim_net_dim(e->backbone), "eval/views"));
    if (projections)
        SIM_TRY(
            sim_alloc(&w->parts[1], patches * sim_net_dim(e->projector), "eval/views"));
done:
    return st;
}

static sim_status embed_here(const sim_comm *c, const sim_embedder *e,
                             const sim_dataset *d, int loader_threads, float **features,
                             float **projections)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(d);
    sim_augment *plain = NULL;
    walk w = {.e = e, .mine = sim_embed_local(sim_comm_partition(c), about->n_images)};
    size_t n = w.mine.hi - w.mine.lo, h = 0, wide = 0, channels = 0;

    SIM_TRY(sim_augment_create_plain(e->size, about, e->mean, e->std, &plain));
    sim_augment_shape(plain, &h, &wide, &channels);
    w.floats = h * wide * channels;
    size_t takes = e->cut.h * e->cut.w * e->cut.c;
    SIM_CHECK(w.floats == takes, SIM_E_DATA,
              "%s: images of %zu x %zu x %zu, but the encoder takes %zu numbers an image",
              sim_dataset_path(d), h, wide, channels, takes);
    SIM_TRY(sim_alloc(&w.x[0], AT_ONCE * w.floats, "eval/views"));
    SIM_TRY(sim_alloc(&w.x[1], AT_ONCE * w.floats, "eval/views"));
    SIM_TRY(sim_alloc(&w.requests, AT_ONCE, "eval/views"));
    SIM_TRY(take_patches(&w, projections != NULL));
    SIM_TRY(sim_evaluator_create(e->backbone, &w.backbone));
    if (projections)
        SIM_TRY(sim_evaluator_create(e->projector, &w.projector));
    SIM_TRY(sim_alloc(features, n * sim_net_dim(e->backbone), "eval/features"));
    if (projections)
        SIM_TRY(sim_alloc(projections, n * sim_net_dim(e->projector), "eval/features"));
    SIM_TRY(sim_loader_create(d, plain, 0, loader_threads, AT_ONCE, &w.loader));
    SIM_TRY(run(&w, *features, projections ? *projections : NULL));
done:
    sim_loader_destroy(&w.loader);
    sim_evaluator_destroy(&w.backbone);
    sim_evaluator_destroy(&w.projector);
    sim_augment_destroy(&plain);
    sim_free(w.x[0]);
    sim_free(w.x[1]);
    sim_free(w.requests);
    sim_free(w.patches);
    sim_free(w.parts[0]);
    sim_free(w.parts[1]);
    return st;
}

size_t sim_embed_bytes(const sim_patches *cut, size_t dim, int loader_threads)
{
    size_t view = cut->h * cut->w * cut->c * sizeof(float);
    size_t patches = sim_patches_floats(cut) + cut->grid * cut->grid * dim;
    return AT_ONCE * (2 * view + sizeof(sim_view_request)) +
           CUT_AT_ONCE * patches * sizeof(float) +
           sim_loader_bytes(loader_threads, AT_ONCE);
}

sim_status sim_embed(const sim_comm *c, const sim_embedder *e, const sim_dataset *d,
                     int loader_threads, float **features, float **projections)
{
    *features = NULL;
    if (projections)
        *projections = NULL;
    sim_status st =
        sim_comm_agree(c, embed_here(c, e, d, loader_threads, features, projections));
    if (st != SIM_OK) {
        SIM_FREE(*features);
        if (projections)
            SIM_FREE(*projections);
    }
    return st;
}
