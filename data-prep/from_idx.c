/*
 * from_idx.c - the MNIST family: idx files, plain or gzipped.
 *
 * SOURCE is the images file, or a directory with train-images-idx3-ubyte, t10k-images-... and
 * their labels, also spelled ".idx3-ubyte".  Header, big-endian: magic number 0x00000803,
 * count, rows, columns; of labels: 0x00000801, count.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 30, IMAGES_HEAD = 16, LABELS_HEAD = 8, MAX_SIDE = 16384 };

typedef struct {
    uint8_t *images;
    char path[PATH_MAX];
} idx;

static uint32_t read_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* "DIR/<stem>-images-idx3-ubyte[.gz]" in one of its spellings. */
static bool find_in_directory(const char *directory, const char *stem, char out[PATH_MAX])
{
    static const char *const ends[] = {"images-idx3-ubyte", "images.idx3-ubyte",
                                       "images-idx3-ubyte.gz", "images.idx3-ubyte.gz"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        int n = snprintf(out, PATH_MAX, "%s/%s-%s", directory, stem, ends[i]);
        if (n > 0 && n < PATH_MAX && sim_path_exists(out))
            return true;
    }
    return false;
}

static bool is_images_file(const char *path)
{
    return strstr(path, "-idx3-") || strstr(path, ".idx3-");
}

static bool idx_probe(const char *path)
{
    char found[PATH_MAX];
    if (sim_path_is_directory(path))
        return find_in_directory(path, "train", found) ||
               find_in_directory(path, "t10k", found);
    return is_images_file(path);
}

/* The labels file next to an images file: "images" and "idx3" become "labels" and "idx1". */
static bool find_labels(const char *images, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s", images);
    char *slash = strrchr(out, '/'), *at = strstr(slash ? slash : out, "images");
    char *three = strstr(slash ? slash : out, "idx3");
    if (n >= PATH_MAX || !at || !three)
        return false;
    memcpy(at, "labels", 6);
    three[3] = '1';
    return sim_path_exists(out);
}

static sim_status read_images(idx *x, prep_source *out)
{
    sim_status st = SIM_OK;
    size_t n = 0, need = 0;

    SIM_TRY(sim_prep_load(x->path, LIMIT, &x->images, &n));
    SIM_CHECK(n >= IMAGES_HEAD, SIM_E_DATA,
              "%s is truncated: %zu bytes, expected a header of %d", x->path, n,
              IMAGES_HEAD);
    uint32_t magic = read_be32(x->images);
    SIM_CHECK(magic == 0x803, SIM_E_DATA,
              "%s has the magic number 0x%08x, expected 0x00000803 (idx of bytes with 3 "
              "dimensions)",
              x->path, magic);
    out->n_items = read_be32(x->images + 4);
    out->h = read_be32(x->images + 8);
    out->w = read_be32(x->images + 12);
    out->c = 1;
    SIM_CHECK(
        out->n_items > 0 && out->h > 0 && out->w > 0 && out->h <= MAX_SIDE &&
            out->w <= MAX_SIDE,
        SIM_E_DATA,
        "%s: the header specifies %zu images of %zu x %zu; expected sides of 1 to %d",
        x->path, out->n_items, out->h, out->w, MAX_SIDE);
    SIM_CHECK(!__builtin_mul_overflow(out->n_items, out->h * out->w, &need) &&
                  need == n - IMAGES_HEAD,
              SIM_E_DATA,
              "%s: the header specifies %zu images of %zu x %zu, but %zu bytes follow",
              x->path, out->n_items, out->h, out->w, n - IMAGES_HEAD);
done:
    return st;
}

static sim_status read_labels(const char *path, prep_source *out)
{
    sim_status st = SIM_OK;
    uint8_t *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_prep_load(path, LIMIT, &bytes, &n));
    SIM_CHECK(n >= LABELS_HEAD && read_be32(bytes) == 0x801, SIM_E_DATA,
              "%s is not an idx file of labels", path);
    SIM_CHECK(read_be32(bytes + 4) == out->n_items && n - LABELS_HEAD == out->n_items,
              SIM_E_DATA, "%s contains %zu labels for %zu images", path, n - LABELS_HEAD,
              out->n_items);
    SIM_TRY(sim_alloc(&out->labels, out->n_items, "prep/labels"));
    for (size_t i = 0; i < out->n_items; i++) {
        out->labels[i] = bytes[LABELS_HEAD + i];
        if ((size_t)out->labels[i] >= out->n_classes)
            out->n_classes = (size_t)out->labels[i] + 1;
    }
    SIM_CHECK(out->n_classes <= out->n_items, SIM_E_DATA,
              "%s: the label %zu exceeds the number of images, %zu; it is probably not "
              "the labels file",
              path, out->n_classes - 1, out->n_items);
done:
    sim_free(bytes);
    return st;
}

static sim_status idx_open_source(const char *path, const prep_options *options,
                                  prep_source *out)
{
    sim_status st = SIM_OK;
    idx *x = NULL;
    char labels[PATH_MAX];
    const char *stem = options->split == PREP_TRAIN ? "train" : "t10k";

    SIM_TRY(sim_new(&x, "prep/idx"));
    out->state = x;
    if (sim_path_is_directory(path))
        SIM_CHECK(find_in_directory(path, stem, x->path), SIM_E_INPUT,
                  "%s contains no %s-images-idx3-ubyte", path, stem);
    else
        (void)snprintf(x->path, sizeof x->path, "%s", path);
    SIM_TRY(read_images(x, out));
    if (find_labels(x->path, labels))
        SIM_TRY(read_labels(labels, out));
done:
    return st;
}

static sim_status idx_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                size_t *n, uint8_t **buffer)
{
    const idx *x = s->state;
    (void)buffer;
    *n = s->h * s->w;
    *bytes = x->images + IMAGES_HEAD + i * *n;
    return SIM_OK;
}

static void idx_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const idx *x = s->state;
    (void)snprintf(out, out_bytes, "%s, image %zu", x->path, i);
}

static void idx_close_source(prep_source *s)
{
    idx *x = s->state;
    if (x)
        sim_free(x->images);
    sim_free(x);
}

const prep_format sim_prep_format_idx = {
    .name = "idx",
    .help = "MNIST family (idx, plain or .gz; directory or file)",
    .probe = idx_probe,
    .open = idx_open_source,
    .read = idx_read_item,
    .item_name = idx_item_name,
    .close = idx_close_source};
