/*
 * cmd_neighbours.c - `simile neighbours MODEL --data A.h5`: the most similar images of a data set, and pairs
 * of images that are nearly the same.
 */
#include "neighbours.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_DATA = 256,
    KEY_QUERY,
    KEY_K,
    KEY_OUT,
    KEY_DUPLICATES,
    KEY_MOST,
    KEY_PROJECTOR,
    KEY_LOADERS,
    KEY_FORCE,
    MOST_K = 100000,
    MOST_PAIRS = 100000000
};

static const struct argp_option options[] = {
    {"data", KEY_DATA, "A.h5", 0,
     "data set that is searched; with a file of features, its images, for names and "
     "pictures",
     0},
    {"query", KEY_QUERY, "B.h5|IDS|PHOTO", 0,
     "images whose neighbours are searched: a data set (or file of features), numbers of "
     "images of the searched set (0,17,300), or an image file (default: 12 images "
     "of "
     "the searched set, evenly spaced)",
     0},
    {"k", KEY_K, "N", 0, "neighbours per image (default 10)", 0},
    {"duplicates", KEY_DUPLICATES, "COSINE", 0,
     "instead of neighbours: all pairs of images that are at least so similar (0.98), "
     "within "
     "the set, or between the images of --query and the set",
     0},
    {"most", KEY_MOST, "N", 0, "fail if there are more pairs (default 1000000)", 0},
    {"out", KEY_OUT, "FILE.csv|FILE.png", 0,
     "write a list, or a picture with one row per image (default: print a table)", 0},
    {"projector", KEY_PROJECTOR, NULL, 0,
     "compare the outputs of the projector, not those of the backbone", 0},
    {"loader-threads", KEY_LOADERS, "N", 0,
     "threads that read and decode images (default 1)", 0},
    {"force", KEY_FORCE, NULL, 0, "replace the file --out whatever it is", 0},
    {0}};

static size_t parse_count(const char *option, const char *arg, long long most,
                          const struct argp_state *state)
{
    char *end = NULL;
    const long long n = strtoll(arg, &end, 10);

    if (end == arg || *end || n < 1 || n > most)
        argp_error(state, "--%s: \"%s\" is not a number from 1 to %lld", option, arg,
                   most);
    return (size_t)n;
}

static double parse_threshold(const char *arg, const struct argp_state *state)
{
    char *end = NULL;
    const double x = strtod(arg, &end);

    if (end == arg || *end || !(x > 0 && x <= 1))
        argp_error(state, "--duplicates: \"%s\" is not a cosine above 0, up to 1", arg);
    return x;
}

static error_t parse_neighbours_option(int key, char *arg, struct argp_state *state)
{
    neighbours_arguments *a = state->input;
    switch (key) {
    case KEY_DATA:
        a->data = arg;
        return 0;
    case KEY_QUERY:
        a->query = arg;
        return 0;
    case KEY_K:
        a->k = parse_count("k", arg, MOST_K, state);
        return 0;
    case KEY_DUPLICATES:
        a->threshold = parse_threshold(arg, state);
        return 0;
    case KEY_MOST:
        a->most_pairs = parse_count("most", arg, MOST_PAIRS, state);
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_PROJECTOR:
        a->projections = true;
        return 0;
    case KEY_LOADERS:
        a->loader_threads = (int)parse_count("loader-threads", arg, 256, state);
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->model)
            argp_error(state, "expected one run, checkpoint or file");
        a->model = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state,
                   "the argument MODEL (a run, checkpoint, safetensors file or file of "
                   "features) is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Gathers the neighbours of all queries on rank 0.  A query that is an image of the bank is not its own
 * neighbour: of its k + 1 nearest it is left out, or else the last. */
static sim_status collect(const sim_comm *c, const neighbours_inputs *in,
                          const sim_neighbour *local, size_t searched, size_t k,
                          sim_neighbour **out)
{
    sim_status st = SIM_OK;
    enum { UNIT = 32 };
    const size_t n = in->queries.n;
    sim_neighbour *all = NULL, *kept = NULL;

    if (c->rank == 0)
        st = sim_alloc(&all, n * searched, "cli/neighbours");
    if (c->rank == 0 && st == SIM_OK)
        st = sim_alloc(&kept, n * k, "cli/neighbours");
    SIM_TRY(sim_comm_agree(c, st));
    sim_comm_collect_rows(c, 0, (n + UNIT - 1) / UNIT, UNIT, n, searched * sizeof *all,
                          local, all);
    for (size_t i = 0; kept && i < n; i++) {
        const size_t self =
            in->is_same_set ? sim_neighbours_id(&in->queries, i) : SIZE_MAX;
        size_t m = 0;
        for (size_t j = 0; j < searched && m < k; j++)
            if (all[i * searched + j].index != self)
                kept[i * k + m++] = all[i * searched + j];
    }
    *out = kept;
    kept = NULL;
done:
    sim_free(all);
    sim_free(kept);
    return st;
}

static sim_feature_sets sets_of(const neighbours_inputs *in, const float *queries)
{
    return (sim_feature_sets){.dim = in->dim,
                              .n_bank = in->bank.n,
                              .n_queries = in->queries.n,
                              .bank = in->bank.features,
                              .queries = queries};
}

static sim_status find_neighbours(const sim_comm *c, const neighbours_arguments *a,
                                  const neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    const size_t n = in->bank.n, others = n - in->is_same_set,
                 k = a->k < others ? a->k : others, searched = k + in->is_same_set;
    sim_neighbour *local = NULL, *all = NULL;

    SIM_CHECK(k > 0, SIM_E_DATA, "%s has one image, which has no neighbours", a->model);
    const sim_feature_sets sets = sets_of(in, in->queries.features);
    SIM_TRY(sim_neighbours(c, &sets, searched, &local));
    SIM_TRY(collect(c, in, local, searched, k, &all));
    if (c->rank == 0)
        st = sim_neighbours_write(a, in, all, k);
    SIM_TRY(sim_comm_agree(c, st));
done:
    sim_free(local);
    sim_free(all);
    return st;
}

/* Pairs of an image of the bank with itself.  Returns the number of the others. */
static size_t drop_same_images(const neighbours_set *queries, sim_similar_pair *pairs,
                               size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; pairs && i < n; i++)
        if (sim_neighbours_id(queries, pairs[i].first) != pairs[i].second)
            pairs[kept++] = pairs[i];
    return kept;
}

static sim_status find_duplicates(const sim_comm *c, const neighbours_arguments *a,
                                  const neighbours_inputs *in)
{
    sim_status st = SIM_OK;
    const bool within = in->is_same_set && !in->queries.ids;
    sim_similar_pair *pairs = NULL;
    size_t n = 0;

    const sim_feature_sets sets =
        sets_of(in, within ? in->bank.features : in->queries.features);
    SIM_TRY(sim_similar_pairs(c, &sets, within, a->threshold, a->most_pairs, &pairs, &n));
    if (in->queries.ids)
        n = drop_same_images(&in->queries, pairs, n);
    if (c->rank == 0)
        st = sim_neighbours_write_pairs(a, in, pairs, n);
    SIM_TRY(sim_comm_agree(c, st));
done:
    sim_free(pairs);
    return st;
}

static sim_status run_neighbours(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    neighbours_arguments *a = ctx;
    neighbours_inputs in = {.dim = 0};

    SIM_TRY(sim_neighbours_open(c, a, &in));
    SIM_TRY(a->threshold > 0 ? find_duplicates(c, a, &in) : find_neighbours(c, a, &in));
done:
    sim_neighbours_close(&in);
    return st;
}

sim_status sim_command_neighbours(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_neighbours_option,
        .args_doc = "MODEL --data A.h5",
        .doc =
            "Finds for images the most similar ones of a data set, by the cosine of the "
            "features, or pairs of images that are nearly the same.  MODEL is a run, a "
            "checkpoint, a safetensors file of a ResNet, or a file of features (of "
            "`simile "
            "embed`, or any HDF5 file with /features).  Runs in parallel under mpirun; "
            "the "
            "result is the same on any number of ranks.\v"
            "Examples:\n"
            "  simile neighbours runs/first --data train.h5 --out grid.png\n"
            "  simile neighbours runs/first --data train.h5 --query photo.jpg\n"
            "  simile neighbours features.h5 --query 0,17,300 --k 5 --out list.csv\n"
            "  simile neighbours runs/first --data train.h5 --query test.h5 --duplicates "
            "0.98"};
    neighbours_arguments a = {.k = 10, .most_pairs = 1000000, .loader_threads = 1};

    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, run_neighbours, &a);
}
