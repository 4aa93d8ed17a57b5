/*
 * recognize.c - finds the network whose tensors a file holds, by their names and shapes.
 *
 * In: names and shapes of tensors of any origin.  Out: the options of a network of nets.def that
 * has exactly these tensors.
 * Called by src/import.
 */
#include "build.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    SIDE = 224, /* pixels; the shapes do not depend on the size of the images */
    SHOWN = 10, /* names per kind of defect in the message */
    WIDEST_STAGE = 512,
    MAX_CHANNELS = 64, /* of images */
    LIST_BYTES = 1024
};

static const sim_batchnorm_options any_batchnorm = {0};

/* Tensors of one kind of defect. */
typedef struct {
    size_t n;
    char names[LIST_BYTES]; /* of the first ones */
} defects;

/* A network compared with the tensors. */
typedef struct {
    const sim_named_shape *given; /* [n_given] */
    size_t n_given;
    sim_encoder_options options;
    size_t n_matched;
    defects missing, misshapen, unknown;
} comparison;

static size_t count_defects(const comparison *c)
{
    return c->missing.n + c->misshapen.n + c->unknown.n;
}

static void add_defect(defects *d, const char *text)
{
    const size_t used = strlen(d->names);

    if (d->n++ < SHOWN)
        (void)snprintf(d->names + used, sizeof d->names - used, "%s%.100s",
                       used ? ", " : "", text);
}

static const sim_named_shape *find_given(const comparison *c, const char *name)
{
    for (size_t i = 0; i < c->n_given; i++)
        if (strcmp(c->given[i].name, name) == 0)
            return &c->given[i];
    return NULL;
}

/* Writes "64 x 3 x 7 x 7". */
static void format_dims(int n_dims, const size_t *dims, char *out, size_t out_bytes)
{
    size_t used = (size_t)snprintf(out, out_bytes, n_dims ? "" : "scalar");

    for (int i = 0; i < n_dims && i < SIM_MAX_DIMS && used < out_bytes; i++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%zu", i ? " x " : "",
                                 dims[i]);
}

static void compare_tensor(comparison *c, const char *name, int n_dims,
                           const size_t *dims)
{
    const sim_named_shape *g = find_given(c, name);
    char found[120], expected[120], text[400];

    if (!g) {
        add_defect(&c->missing, name);
        return;
    }
    c->n_matched++;
    if (g->n_dims == n_dims && memcmp(g->dims, dims, sizeof *dims * (size_t)n_dims) == 0)
        return;
    format_dims(g->n_dims, g->dims, found, sizeof found);
    format_dims(n_dims, dims, expected, sizeof expected);
    (void)snprintf(text, sizeof text, "%s (%s, expected %s)", name, found, expected);
    add_defect(&c->misshapen, text);
}

static void compare_running(comparison *c, const node *n)
{
    static const char *const parts[] = {"running_mean", "running_var"};
    char name[80];

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)snprintf(name, sizeof name, "%s.%s", n->name, parts[i]);
        compare_tensor(c, name, 1, &n->c);
    }
}

static bool is_of_net(const sim_net *net, const char *name)
{
    char running[80];

    for (size_t i = 0; i < net->n_tensors; i++)
        if (strcmp(net->tensors[i].name, name) == 0)
            return true;
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        (void)snprintf(running, sizeof running, "%s.running_", n->name);
        if (n->has_running && strncmp(name, running, strlen(running)) == 0 &&
            (strcmp(name + strlen(running), "mean") == 0 ||
             strcmp(name + strlen(running), "var") == 0))
            return true;
    }
    return false;
}

static sim_status compare_network(comparison *c, size_t channels)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;
    const sim_net_spec spec = {.encoder = &c->options,
                               .batchnorm = &any_batchnorm,
                               .h = SIDE,
                               .w = SIDE,
                               .c = channels};

    SIM_TRY(sim_net_backbone_nodes(&spec, &net));
    for (size_t i = 0; i < net->n_tensors; i++)
        compare_tensor(c, net->tensors[i].name, net->tensors[i].n_dims,
                       net->tensors[i].dims);
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].has_running)
            compare_running(c, &net->nodes[i]);
    for (size_t i = 0; i < c->n_given; i++)
        if (!is_of_net(net, c->given[i].name))
            add_defect(&c->unknown, c->given[i].name);
done:
    sim_net_destroy(&net);
    return st;
}

/* Stem, width and channels of the images, by the first and the last stage. */
static sim_status guess_options(const char *path, comparison *c, size_t *channels)
{
    sim_status st = SIM_OK;
    const sim_named_shape *stem = find_given(c, "conv1.weight"),
                          *last = find_given(c, "layer4.0.conv1.weight");
    char dims[120];

    SIM_CHECK(
        stem && last, SIM_E_DATA,
        "%s has no tensor %s; expected the names of torchvision's ResNet, without a "
        "prefix",
        path, stem ? "layer4.0.conv1.weight" : "conv1.weight");
    format_dims(stem->n_dims, stem->dims, dims, sizeof dims);
    SIM_CHECK(stem->n_dims == 4 && stem->dims[1] >= 1 && stem->dims[1] <= MAX_CHANNELS &&
                  stem->dims[2] == stem->dims[3] &&
                  (stem->dims[2] == 3 || stem->dims[2] == 7),
              SIM_E_DATA,
              "%s: conv1.weight has the shape %s; expected filters of 3 x 3 or 7 x 7 for "
              "1 to %d channels",
              path, dims, MAX_CHANNELS);
    format_dims(last->n_dims, last->dims, dims, sizeof dims);
    SIM_CHECK(last->n_dims == 4 && last->dims[0] >= 8 &&
                  last->dims[0] <= 8 * WIDEST_STAGE,
              SIM_E_DATA,
              "%s: layer4.0.conv1.weight has the shape %s; expected 8 to %d filters",
              path, dims, 8 * WIDEST_STAGE);
    c->options.stem = stem->dims[2] == 7 ? SIM_STEM_IMAGENET : SIM_STEM_CIFAR;
    c->options.width = (double)last->dims[0] / WIDEST_STAGE;
    *channels = stem->dims[1];
done:
    return st;
}

static void format_defects(const defects *d, const char *what, char *out,
                           size_t out_bytes)
{
    const size_t used = strlen(out);

    if (d->n)
        (void)snprintf(out + used, out_bytes - used, "; %zu %s: %s%s", d->n, what,
                       d->names, d->n > SHOWN ? " ..." : "");
}

static sim_status refuse_tensors(const char *path, const comparison *c)
{
    sim_status st = SIM_OK;
    char text[3 * LIST_BYTES + 200] = "", arch[64] = "";

    (void)sim_choices_text(sim_encoder_table.rows[0].choices, c->options.arch, arch,
                           sizeof arch);
    format_defects(&c->missing, "missing", text, sizeof text);
    format_defects(&c->misshapen, "of another shape", text, sizeof text);
    format_defects(&c->unknown, "unknown", text, sizeof text);
    SIM_FAIL(
        SIM_E_DATA,
        "%s: its tensors are not those of a network of encoder.arch; the closest is %s "
        "with %s stem and width %g%s",
        path, arch, c->options.stem == SIM_STEM_IMAGENET ? "imagenet" : "cifar",
        c->options.width, text);
done:
    return st;
}

sim_status sim_backbone_recognize(const char *path, const sim_named_shape *tensors,
                                  size_t n, double width, sim_encoder_options *out,
                                  size_t *channels)
{
    sim_status st = SIM_OK;
    comparison *all = NULL;
    const comparison start = {.given = tensors, .n_given = n};
    size_t best = 0;

    SIM_TRY(sim_alloc(&all, sim_backbones_count(), "encoder/recognize"));
    for (size_t i = 0; i < sim_backbones_count(); i++) {
        all[i] = start;
        SIM_TRY(guess_options(path, &all[i], channels));
        if (width > 0)
            all[i].options.width = width;
        all[i].options.arch = (int)i;
        SIM_TRY(compare_network(&all[i], *channels));
        if (count_defects(&all[i]) < count_defects(&all[best]))
            best = i;
    }
    if (count_defects(&all[best]))
        SIM_TRY(refuse_tensors(path, &all[best]));
    *out = all[best].options;
done:
    sim_free(all);
    return st;
}
