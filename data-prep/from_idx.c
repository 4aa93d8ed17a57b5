/*
 * from_idx.c - the MNIST family: idx files, plain or gzipped.
 *
 * SOURCE is the images file, or a directory with train-images-idx3-ubyte, t10k-images-... and
 * their labels, also spelled ".idx3-ubyte", or each in a directory of its own name.  Header, big-endian: magic number 0x00000803,
 * count, rows, columns; of labels: 0x00000801, count.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 256, LIMIT = 1 << 30, IMAGES_HEAD = 16, LABELS_HEAD = 8, MAX_SIDE = 16384 };

typedef struct {
    uint8_t *images;
    char path[PATH_MAX];
} idx;

static uint32_t read_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

typedef enum { IDX_IMAGES, IDX_LABELS } idx_kind;

static bool is_file(const char *path)
{
    return sim_path_exists(path) && !sim_path_is_directory(path);
}

/* "<stem>images-idx3-ubyte" and its other spellings; false after the last one. */
static bool spell(const char *stem, idx_kind kind, size_t k, char out[NAME])
{
    enum { N_SPELLINGS = 4 };
    if (k >= N_SPELLINGS)
        return false;
    (void)snprintf(out, NAME, "%.200s%s%cidx%d-ubyte%s", stem,
                   kind == IDX_IMAGES ? "images" : "labels", k % 2 ? '.' : '-',
                   kind == IDX_IMAGES ? 3 : 1, k >= 2 ? ".gz" : "");
    return true;
}

/* A file of that stem in a directory, or in a directory of the same name within it. */
static bool find_in_directory(const char *directory, const char *stem, idx_kind kind,
                              char out[PATH_MAX])
{
    char outer[NAME], inner[NAME];
    for (size_t k = 0; spell(stem, kind, k, outer); k++) {
        if (sim_prep_join(directory, outer, out, PATH_MAX) == SIM_OK && is_file(out))
            return true;
        for (size_t j = 0; spell(stem, kind, j, inner); j++) {
            int n = snprintf(out, PATH_MAX, "%s/%s/%s", directory, outer, inner);
            if (n > 0 && n < PATH_MAX && is_file(out))
                return true;
        }
    }
    sim_error_clear();
    return false;
}

/* The part of a name before "images-idx3" or "images.idx3"; false if it contains neither. */
static bool stem_of(const char *path, char out[NAME])
{
    const char *base = sim_prep_base_name(path), *at = strstr(base, "images");
    bool images =
        at && (strncmp(at + 6, "-idx3", 5) == 0 || strncmp(at + 6, ".idx3", 5) == 0);
    (void)snprintf(out, NAME, "%.*s", images ? (int)(at - base) : 0, base);
    return images;
}

static bool idx_probe(const char *path)
{
    char found[PATH_MAX], stem[NAME];
    if (sim_path_is_directory(path))
        return find_in_directory(path, "train-", IDX_IMAGES, found) ||
               find_in_directory(path, "t10k-", IDX_IMAGES, found);
    return stem_of(path, stem);
}

/* The labels file of an images file: beside it, or beside the directory that contains it. */
static bool find_labels(const char *images, char out[PATH_MAX])
{
    char stem[NAME], directory[PATH_MAX];

    if (!stem_of(images, stem))
        return false;
    (void)snprintf(directory, sizeof directory, "./%.4000s", images);
    if (images[0] == '/')
        (void)snprintf(directory, sizeof directory, "%s", images);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(directory, '/');
        if (!slash)
            return false;
        *slash = '\0';
        if (find_in_directory(*directory ? directory : "/", stem, IDX_LABELS, out))
            return true;
    }
    return false;
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
    int64_t *values = NULL;
    size_t n = 0;

    SIM_TRY(sim_prep_load(path, LIMIT, &bytes, &n));
    SIM_CHECK(n >= LABELS_HEAD && read_be32(bytes) == 0x801, SIM_E_DATA,
              "%s is not an idx file of labels", path);
    SIM_CHECK(read_be32(bytes + 4) == out->n_items && n - LABELS_HEAD == out->n_items,
              SIM_E_DATA, "%s contains %zu labels for %zu images", path, n - LABELS_HEAD,
              out->n_items);
    SIM_TRY(sim_alloc(&values, out->n_items, "prep/labels"));
    for (size_t i = 0; i < out->n_items; i++)
        values[i] = bytes[LABELS_HEAD + i];
    SIM_TRY(sim_prep_set_numbers(path, values, out->n_items, 0, out));
    SIM_CHECK(out->n_classes <= out->n_items, SIM_E_DATA,
              "%s: the label %zu exceeds the number of images, %zu; it is probably not "
              "the labels file",
              path, out->n_classes - 1, out->n_items);
done:
    sim_free(bytes);
    sim_free(values);
    return st;
}

static sim_status idx_open_source(const char *path, const prep_options *options,
                                  prep_source *out)
{
    sim_status st = SIM_OK;
    idx *x = NULL;
    char labels[PATH_MAX];
    bool test = false;

    SIM_TRY(sim_new(&x, "prep/idx"));
    out->state = x;
    SIM_TRY(sim_prep_is_test(path, options->split, &test));
    const char *stem = test ? "t10k-" : "train-";
    if (sim_path_is_directory(path))
        out->split = test ? PREP_TEST : PREP_TRAIN;
    if (sim_path_is_directory(path))
        SIM_CHECK(find_in_directory(path, stem, IDX_IMAGES, x->path), SIM_E_INPUT,
                  "%s contains no %simages-idx3-ubyte", path, stem);
    else
        (void)snprintf(x->path, sizeof x->path, "%s", path);
    if (!sim_path_is_directory(path))
        SIM_TRY(sim_prep_check_file_split(path, options->split));
    SIM_TRY(read_images(x, out));
    if (find_labels(x->path, labels)) {
        SIM_TRY(sim_prep_names_add(&out->beside, labels));
        SIM_TRY(read_labels(labels, out));
    } else
        sim_log("%s: no labels file beside it; the data set has no labels", x->path);
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
    (void)snprintf(out, out_bytes, "%s[%zu]", sim_prep_base_name(x->path), i);
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
