/*
 * evaluate_quality.c - `simile evaluate quality`: measures of an embedding without labels.
 */
#include "evaluations.h"

#include "simile/memory.h"

typedef struct {
    int64_t images;
} quality_options;

static void describe_similarities(const sim_similarities *s, const char *name,
                                  sim_json *j)
{
    sim_json *o = sim_json_object(j, name);

    sim_json_int(o, "n", s->n);
    sim_json_real(o, "mean", s->mean);
    sim_json_real(o, "std", s->std);
    sim_json *bins = sim_json_array(o, "histogram");
    for (size_t b = 0; b < SIM_SIMILARITY_BINS; b++)
        sim_json_int(bins, NULL, s->histogram[b]);
}

static void describe(const sim_quality_result *r, sim_json *j)
{
    sim_json_real(j, "rankme", r->rankme);
    sim_json_real(j, "uniformity", r->uniformity);
    if (r->positives.n)
        sim_json_real(j, "alignment", r->alignment);
    describe_similarities(&r->negatives, "negatives", j);
    if (r->positives.n)
        describe_similarities(&r->positives, "positives", j);
    sim_json_int(j, "n_images", r->n_images);
    sim_json_int(j, "dim", r->dim);
}

static sim_status format_result(const sim_quality_result *r, char **text)
{
    sim_status st = SIM_OK;
    char *views = NULL;

    if (r->positives.n)
        SIM_TRY(
            sim_text_format("eval/text", &views,
                            "  two views of an image: alignment %.3f, similarity %.3f "
                            "+- %.3f\n",
                            r->alignment, r->positives.mean, r->positives.std));
    SIM_TRY(sim_text_format(
        "eval/text", text,
        "quality of %lld images: RankMe %.1f of %lld dimensions, uniformity %.3f\n%s"
        "  two images: similarity %.3f +- %.3f\n",
        (long long)r->n_images, r->rankme, (long long)r->dim, r->uniformity,
        views ? views : "", r->negatives.mean, r->negatives.std));
done:
    sim_free(views);
    return st;
}

/* Features of two augmented views of each image, as training draws them. */
static sim_status embed_views(const sim_comm *c, const sim_evaluation_inputs *in,
                              sim_embed_choice choice, float *views[2])
{
    sim_status st = SIM_OK;
    sim_augment *augment = NULL;

    SIM_TRY(
        sim_comm_agree(c, sim_augment_create(&in->job->augment,
                                             &in->embedder->preprocessing, &augment)));
    choice.augment = augment;
    choice.seed = (uint32_t)in->job->train.seed;
    for (choice.view = 0; choice.view < 2; choice.view++)
        SIM_TRY(sim_evaluation_features(c, in, &in->test, &choice, &views[choice.view]));
done:
    sim_augment_destroy(&augment);
    return st;
}

sim_status sim_quality_of(const sim_comm *c, size_t n_images,
                          const sim_evaluation_inputs *in, sim_quality_result *out)
{
    sim_status st = SIM_OK;
    const sim_embed_choice sample = {.n_images =
                                         n_images < in->test.n ? n_images : in->test.n};
    float *features = NULL, *views[2] = {NULL, NULL};

    SIM_TRY(sim_evaluation_features(c, in, &in->test, &sample, &features));
    if (in->test.data)
        SIM_TRY(embed_views(c, in, sample, views));
    SIM_TRY(sim_quality(c, sample.n_images, sim_evaluation_dim(in), features, views[0],
                        views[1], out));
done:
    sim_free(features);
    sim_free(views[0]);
    sim_free(views[1]);
    return st;
}

static sim_status evaluate_quality(const sim_comm *c, const void *options,
                                   const sim_evaluation_inputs *in, sim_json *result,
                                   char **text)
{
    sim_status st = SIM_OK;
    const quality_options *o = options;
    sim_quality_result r;

    SIM_TRY(sim_quality_of(c, (size_t)o->images, in, &r));
    describe(&r, result);
    SIM_TRY(sim_comm_agree(c, format_result(&r, text)));
done:
    return st;
}

static void take_defaults(const sim_evaluate_options *job, void *options)
{
    ((quality_options *)options)->images = job->quality_images;
}

static const sim_option options[] = {
    {.name = "images",
     .type = SIM_OPTION_INT,
     .offset = offsetof(quality_options, images),
     .min = 2,
     .max = 100000,
     .fallback = "10000",
     .unit = "images",
     .help = "number of images, evenly spaced; all pairs of them are compared "
             "(default: evaluate.quality_images of the run's job)"},
};

const sim_evaluation sim_evaluation_quality = {
    .name = "quality",
    .summary = "without labels: effective rank, uniformity, alignment of views",
    .needs = SIM_EVALUATES_IMAGES,
    .options = {.rows = options,
                .n_rows = sizeof options / sizeof options[0],
                .struct_bytes = SIM_OPTION_BYTES(quality_options, sim_option_storage)},
    .take_defaults = take_defaults,
    .run = evaluate_quality,
};
