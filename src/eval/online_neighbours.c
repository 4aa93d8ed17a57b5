/*
 * online_neighbours.c - a picture of nearest neighbours during training, for event files.
 */
#include "online.h"

#include "simile/memory.h"

enum { IMAGES = 500, CELL = 48, UNIT = 32 };

static int64_t every_epochs(const sim_evaluate_options *o)
{
    return o->neighbours_every_epochs;
}

static size_t images_of(size_t n)
{
    return n < IMAGES ? n : IMAGES;
}

static size_t neighbours_bytes(const online_sizes *s)
{
    const size_t n = images_of(s->n_test);
    /* rank 0 also has the rows of all ranks, twice in the search, and the thumbnails */
    return s->embedding + 4 * n * s->dim * sizeof(float) + n * CELL * CELL * 3;
}

/* On rank 0. */
static sim_status draw(online_step *s, size_t n, const float *features)
{
    sim_status st = SIM_OK;
    const sim_labelled_set *set = &s->in.test;
    sim_thumbnails t = {.plain = NULL};
    uint8_t *cells = NULL;

    SIM_TRY(sim_thumbnails_create(&s->in.embedder->preprocessing, CELL, &t));
    SIM_TRY(sim_alloc(&cells, n * t.bytes, "eval/neighbours"));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_thumbnails_draw(&t, set->data, sim_sample_image(set->n, n, i),
                                    cells + i * t.bytes));
    SIM_TRY(sim_neighbours_draw(n, sim_evaluation_dim(&s->in), features, &t, cells,
                                &s->png, &s->picture));
done:
    sim_thumbnails_destroy(&t);
    sim_free(cells);
    return st;
}

static sim_status run_neighbours(online_step *s, sim_record *record)
{
    sim_status st = SIM_OK;
    const size_t n = images_of(s->in.test.n), dim = sim_evaluation_dim(&s->in);
    const sim_embed_choice sample = {.n_images = n};
    float *local = NULL, *all = NULL;

    SIM_TRY(sim_evaluation_features(s->comm, &s->in, &s->in.test, &sample, &local));
    if (s->comm->rank == 0)
        st = sim_alloc(&all, n * dim, "eval/neighbours");
    SIM_TRY(sim_comm_agree(s->comm, st));
    sim_comm_collect_rows(s->comm, 0, (n + UNIT - 1) / UNIT, UNIT, n, dim * sizeof *all,
                          local, all);
    if (s->comm->rank == 0)
        st = draw(s, n, all);
    SIM_TRY(sim_comm_agree(s->comm, st));
    record->kind = SIM_RECORD_PICTURE;
    record->picture = &s->picture;
done:
    sim_free(local);
    sim_free(all);
    return st;
}

const sim_online_eval_row sim_online_neighbours = {.name = "neighbours",
                                                   .key = "neighbours_every_epochs",
                                                   .labels = ONLINE_NO_LABELS,
                                                   .draws = true,
                                                   .every_epochs = every_epochs,
                                                   .bytes = neighbours_bytes,
                                                   .run = run_neighbours};
