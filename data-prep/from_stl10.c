/*
 * from_stl10.c - STL-10, binary version: the directory, one _X.bin, or the original .tar.gz.
 *
 * An image is 96 x 96 in planes R, G, B, each column by column.  SPLIT_y.bin contains one
 * byte per image, 1 to 10.  The split unlabeled has no labels.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    SIDE = 96,
    PLANE = SIDE * SIDE,
    PIXELS = 3 * PLANE,
    CLASSES = 10,
    SMALL = 1 << 20
};
static const char names_file[] = "class_names.txt";

typedef struct {
    char path[PATH_MAX], base[64]; /* of the file or archive; name of the images file */
    int fd;                        /* the images file; -1: an entry of `tar` */
    prep_tar *tar;
    uint64_t n_bytes; /* of the images */
    size_t at;        /* images of the entry that are read */
    uint8_t *labels;
    char *names;
    size_t n_labels, n_names;
} stl;

static const char *const known[] = {"train_X.bin", "test_X.bin", "unlabeled_X.bin", NULL};

/* ---- finding the files ---- */

/* Loads a file, whose path is added to `beside`; one that is not required may be missing. */
static sim_status load_file(const char *directory, const char *name, bool required,
                            prep_names *beside, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    SIM_TRY(sim_prep_join(directory, name, path, PATH_MAX));
    SIM_TRY(sim_prep_names_add(beside, path));
    if (required || sim_path_exists(path))
        SIM_TRY(sim_prep_load(path, SMALL, bytes, n));
done:
    return st;
}

/* "train_X.bin" -> "train_y.bin" */
static void labels_name(const stl *q, char out[64])
{
    (void)snprintf(out, 64, "%s", q->base);
    out[strlen(out) - 5] = 'y';
}

static sim_status open_files(stl *q, const char *directory, prep_source *out)
{
    sim_status st = SIM_OK;
    char name[64];
    uint8_t *names = NULL;

    labels_name(q, name);
    SIM_TRY(sim_prep_join(directory, q->base, q->path, sizeof q->path));
    SIM_TRY(sim_file_open_read(q->path, &q->fd, &q->n_bytes));
    if (strcmp(q->base, "unlabeled_X.bin") != 0)
        SIM_TRY(load_file(directory, name, true, &out->beside, &q->labels, &q->n_labels));
    SIM_TRY(load_file(directory, names_file, false, &out->beside, &names, &q->n_names));
    q->names = (char *)names;
done:
    return st;
}

/* Positions q->tar at the images.  With the name `labels` it reads the whole archive and loads
 * labels and class names instead. */
static sim_status seek_entry(stl *q, const char *path, const char *labels, bool *found)
{
    sim_status st = SIM_OK;
    prep_entry e = {0};
    uint8_t *names = NULL;

    *found = false;
    SIM_TRY(sim_prep_tar_open(path, false, &q->tar));
    for (;;) {
        SIM_TRY(sim_prep_tar_next(q->tar, &e));
        if (!e.name)
            break;
        const char *base = sim_prep_base_name(e.name);
        if (strcmp(base, q->base) == 0) {
            *found = true;
            q->n_bytes = e.n_bytes;
            if (!labels)
                goto done;
        } else if (labels && strcmp(base, labels) == 0 && !q->labels) {
            SIM_TRY(sim_prep_tar_load(q->tar, SMALL, &q->labels, &q->n_labels));
        } else if (labels && strcmp(base, names_file) == 0 && !q->names) {
            SIM_TRY(sim_prep_tar_load(q->tar, SMALL, &names, &q->n_names));
            q->names = (char *)names;
        }
    }
done:
    return st;
}

static sim_status open_archive(stl *q, const char *path)
{
    sim_status st = SIM_OK;
    char labels[64];
    bool found = false;

    labels_name(q, labels);
    (void)snprintf(q->path, sizeof q->path, "%s", path);
    SIM_TRY(seek_entry(q, path, labels, &found));
    SIM_CHECK(found, SIM_E_INPUT, "%s contains no %s", path, q->base);
    SIM_CHECK(q->labels || strcmp(q->base, "unlabeled_X.bin") == 0, SIM_E_INPUT,
              "%s contains no %s", path, labels);
    sim_prep_tar_close(&q->tar);
    SIM_TRY(seek_entry(q, path, NULL, &found));
done:
    return st;
}

static bool is_images_file(const char *path)
{
    const char *base = sim_prep_base_name(path);
    for (size_t i = 0; known[i]; i++)
        if (strcmp(base, known[i]) == 0)
            return true;
    return false;
}

static bool stl10_probe_content(const char *path)
{
    return sim_prep_tar_contains(path, known);
}

static bool stl10_probe(const char *path)
{
    char file[PATH_MAX];
    if (!sim_path_is_directory(path))
        return is_images_file(path);
    for (size_t i = 0; known[i]; i++)
        if (sim_prep_join(path, known[i], file, sizeof file) == SIM_OK &&
            sim_path_exists(file))
            return true;
    return false;
}

/* ---- labels ---- */

static sim_status decode_labels(const stl *q, prep_source *out)
{
    sim_status st = SIM_OK;

    if (!q->labels)
        goto done;
    SIM_CHECK(q->n_labels == out->n_items, SIM_E_DATA,
              "%s: %zu labels for %zu images of %s", q->path, q->n_labels, out->n_items,
              q->base);
    SIM_TRY(sim_alloc(&out->labels, out->n_items, "prep/labels"));
    for (size_t i = 0; i < out->n_items; i++) {
        SIM_CHECK(q->labels[i] >= 1 && q->labels[i] <= CLASSES, SIM_E_DATA,
                  "%s: the label of image %zu is %u, expected 1 to %d", q->path, i,
                  q->labels[i], CLASSES);
        out->labels[i] = q->labels[i] - 1;
    }
    out->n_classes = CLASSES;
    if (!q->names)
        goto done;
    SIM_TRY(sim_prep_lines(q->names, q->n_names, &out->class_names, &out->n_classes));
    SIM_CHECK(out->n_classes == CLASSES, SIM_E_DATA, "%s: %s has %zu lines, expected %d",
              q->path, names_file, out->n_classes, CLASSES);
done:
    return st;
}

static sim_status stl10_open_source(const char *path, const prep_options *options,
                                    prep_source *out)
{
    sim_status st = SIM_OK;
    stl *q = NULL;
    char directory[PATH_MAX];

    SIM_TRY(sim_new(&q, "prep/stl10"));
    out->state = q;
    q->fd = -1;
    prep_split split = options->split ? options->split : PREP_TRAIN;
    SIM_CHECK(split != PREP_VAL, SIM_E_INPUT,
              "%s has no split val; its splits are train, test and unlabeled", path);
    (void)snprintf(q->base, sizeof q->base, "%s_X.bin", sim_prep_split_name(split));
    if (sim_path_is_directory(path)) {
        SIM_TRY(open_files(q, path, out));
    } else if (is_images_file(path) && !sim_prep_is_tar(path)) {
        SIM_TRY(sim_prep_check_file_split(path, options->split));
        const char *base = sim_prep_base_name(path);
        (void)snprintf(q->base, sizeof q->base, "%s", base);
        (void)snprintf(directory, sizeof directory, "%.*s",
                       base > path ? (int)(base - path) : 1, base > path ? path : ".");
        SIM_TRY(open_files(q, directory, out));
    } else {
        SIM_TRY(open_archive(q, path));
    }
    SIM_CHECK(
        q->n_bytes > 0 && q->n_bytes % PIXELS == 0, SIM_E_DATA,
        "%s: %s has %llu bytes, expected a multiple of %d; it is truncated or not a "
        "file of STL-10",
        q->path, q->base, (unsigned long long)q->n_bytes, PIXELS);
    out->n_items = (size_t)(q->n_bytes / PIXELS);
    out->split = q->base[0] == 'u'                  ? PREP_UNLABELED
                 : strncmp(q->base, "test", 4) == 0 ? PREP_TEST
                                                    : PREP_TRAIN;
    out->h = out->w = SIDE;
    out->c = 3;
    SIM_TRY(decode_labels(q, out));
done:
    return st;
}

/* ---- images ---- */

static void to_rows(const uint8_t *columns, uint8_t *out)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t x = 0; x < SIDE; x++)
            for (size_t y = 0; y < SIDE; y++)
                out[3 * (y * SIDE + x) + c] = columns[c * PLANE + x * SIDE + y];
}

static sim_status stl10_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                  size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    stl *q = s->state;
    uint8_t columns[PIXELS];

    if (q->fd >= 0)
        SIM_TRY(sim_file_read_at(q->fd, q->path, (uint64_t)i * PIXELS, columns, PIXELS));
    SIM_ASSERT(q->fd >= 0 || q->at <= i);
    while (q->fd < 0 && q->at <= i) {
        SIM_TRY(sim_prep_tar_read(q->tar, columns, PIXELS));
        q->at++;
    }
    SIM_TRY(sim_alloc(buffer, PIXELS, "prep/stl10"));
    to_rows(columns, *buffer);
    *bytes = *buffer;
    *n = PIXELS;
done:
    return st;
}

static void stl10_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const stl *q = s->state;
    (void)snprintf(out, out_bytes, "%s[%zu]", q->base, i);
}

static void stl10_close_source(prep_source *s)
{
    stl *q = s->state;
    if (!q)
        return;
    SIM_IGNORE(sim_file_close(&q->fd, q->path));
    sim_prep_tar_close(&q->tar);
    sim_free(q->labels);
    sim_free(q->names);
    sim_free(q);
}

const prep_format sim_prep_format_stl10 = {
    .name = "stl10",
    .help = "STL-10 binary (directory, SPLIT_X.bin, or the original .tar.gz)",
    .sequential = true,
    .supported = PREP_HAS_UNLABELED,
    .probe_content = stl10_probe_content,
    .probe = stl10_probe,
    .open = stl10_open_source,
    .read = stl10_read_item,
    .item_name = stl10_item_name,
    .close = stl10_close_source};
