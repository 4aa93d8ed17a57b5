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
                                const sim_embed_choice *choice, float **out)
{
    sim_status st = SIM_OK;
    const size_t n = choice && choice->n_images ? choice->n_images : set->n,
                 dim = sim_feature_file_dim(set->file);
    const sim_range local = sim_embed_local(sim_comm_partition(c), n);

    SIM_TRY(sim_alloc(out, (local.hi - local.lo) * dim, "eval/features"));
    if (n == set->n) {
        SIM_TRY(sim_feature_file_read(set->file, local, *out));
        goto done;
    }
    for (size_t i = local.lo; i < local.hi; i++) {
        const size_t row = sim_sample_image(set->n, n, i);
        SIM_TRY(sim_feature_file_read(set->file, (sim_range){row, row + 1},
                                      *out + (i - local.lo) * dim));
    }
done:
    return st;
}

sim_status sim_evaluation_features(const sim_comm *c, const sim_evaluation_inputs *in,
                                   const sim_labelled_set *set,
                                   const sim_embed_choice *choice, float **out)
{
    sim_status st = SIM_OK;
    float *features = NULL; /* which the projector needs */

    if (set->file)
        SIM_TRY(sim_comm_agree(c, read_features(c, set, choice, out)));
    else if (in->projections)
        SIM_TRY(sim_embed_chosen(c, in->embedder, set->data, choice, in->loader_threads,
                                 &features, out));
    else
        SIM_TRY(sim_embed_chosen(c, in->embedder, set->data, choice, in->loader_threads,
                                 out, NULL));
done:
    sim_free(features);
    return st;
}
