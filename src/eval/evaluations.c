/*
 * evaluations.c - the table of evaluations, and the features that they evaluate.
 */
#include "evaluations.h"

#include "simile/memory.h"

#include <string.h>

#define SIM_EVALUATION(name) &sim_evaluation_##name,
static const sim_evaluation *const rows[] = {
#include "evaluations.def"
};
#undef SIM_EVALUATION

size_t sim_evaluations_count(void)
{
    return sizeof rows / sizeof rows[0];
}

const sim_evaluation *sim_evaluations_at(size_t i)
{
    return rows[i];
}

const sim_evaluation *sim_evaluations_find(const char *name)
{
    for (size_t i = 0; i < sim_evaluations_count(); i++)
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    return NULL;
}

size_t sim_evaluation_dim(const sim_evaluation_inputs *in)
{
    if (!in->embedder)
        return sim_feature_file_dim(in->test.file);
    return sim_net_dim(in->projections ? in->embedder->projector
                                       : in->embedder->backbone);
}

static sim_status read_features(const sim_comm *c, const sim_labelled_set *set,
                                float **out)
{
    sim_status st = SIM_OK;
    const sim_range local = sim_embed_local(sim_comm_partition(c), set->n);

    SIM_TRY(sim_alloc(out, (local.hi - local.lo) * sim_feature_file_dim(set->file),
                      "eval/features"));
    SIM_TRY(sim_feature_file_read(set->file, local, *out));
done:
    return st;
}

/* view NULL: the image without augmentation. */
static sim_status embed_set(const sim_comm *c, const sim_evaluation_inputs *in,
                            const sim_labelled_set *set, const sim_embed_view *view,
                            float **out)
{
    sim_status st = SIM_OK;
    float *features = NULL;
    float **first = in->projections ? &features : out,
          **second = in->projections ? out : NULL;

    if (view)
        SIM_TRY(sim_embed_augmented(c, in->embedder, set->data, view, in->loader_threads,
                                    first, second));
    else
        SIM_TRY(sim_embed(c, in->embedder, set->data, in->loader_threads, first, second));
done:
    sim_free(features);
    return st;
}

sim_status sim_evaluation_features(const sim_comm *c, const sim_evaluation_inputs *in,
                                   const sim_labelled_set *set, float **out)
{
    if (set->file)
        return sim_comm_agree(c, read_features(c, set, out));
    return embed_set(c, in, set, NULL, out);
}

sim_status sim_evaluation_view(const sim_comm *c, const sim_evaluation_inputs *in,
                               const sim_labelled_set *set, const sim_embed_view *view,
                               float **out)
{
    return embed_set(c, in, set, view, out);
}
