/*
 * from_cifar.c - CIFAR-10 and CIFAR-100, binary version: the directory, one .bin, or the
 * original .tar.gz.
 *
 * A record is 1 label byte (CIFAR-100: coarse, fine) and 3072 pixel bytes, planes R, G, B.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { PIXELS = 3072, SIDE = 32, LIMIT = 1 << 30 };

typedef struct {
    uint8_t *pixels; /* [n][32][32][3] */
    int32_t *labels;
    size_t n, capacity;
    const prep_options *options;
    bool test; /* the split */
    bool is_100;
    char *fine, *coarse, *names_10; /* lists of names */
    size_t n_bad;
    char first_bad[256];
} cifar;

static const char *const known[] = {"data_batch_1.bin", "test_batch.bin", "train.bin",
                                    "test.bin", NULL};

/* Whether this file belongs to the split. */
static bool is_in_split(const char *name, bool test)
{
    bool train = !test;
    if (strncmp(name, "data_batch_", 11) == 0 || strcmp(name, "train.bin") == 0)
        return train;
    if (strcmp(name, "test_batch.bin") == 0 || strcmp(name, "test.bin") == 0)
        return !train;
    return false;
}

static sim_status reserve_records(cifar *q, size_t n)
{
    sim_status st = SIM_OK;
    if (q->n + n <= q->capacity)
        goto done;
    q->capacity = q->n + n;
    SIM_TRY(sim_grow(&q->pixels, q->capacity * PIXELS, "prep/cifar"));
    SIM_TRY(sim_grow(&q->labels, q->capacity, "prep/cifar"));
done:
    return st;
}

static sim_status add_record(cifar *q, const char *name, size_t i, const uint8_t *r)
{
    sim_status st = SIM_OK;
    size_t head = q->is_100 ? 2 : 1;
    unsigned label = q->is_100 ? r[q->options->coarse ? 0 : 1] : r[0];
    unsigned n_labels = q->is_100 ? (q->options->coarse ? 20 : 100) : 10;

    if (label >= n_labels) {
        if (q->n_bad++ == 0)
            (void)snprintf(q->first_bad, sizeof q->first_bad,
                           "%.160s: the label of record %zu is %u, expected 0 to %u",
                           name, i, label, n_labels - 1);
        SIM_CHECK(!q->options->fail_on_bad, SIM_E_DATA, "%s", q->first_bad);
        goto done;
    }
    uint8_t *to = q->pixels + q->n * PIXELS;
    for (size_t p = 0; p < PIXELS / 3; p++)
        for (size_t c = 0; c < 3; c++)
            to[3 * p + c] = r[head + c * (PIXELS / 3) + p];
    q->labels[q->n++] = (int32_t)label;
done:
    return st;
}

static sim_status add_file(cifar *q, const char *name, const uint8_t *bytes, size_t n)
{
    sim_status st = SIM_OK;
    const char *base = sim_prep_base_name(name);
    bool fits_10 = n % (PIXELS + 1) == 0, fits_100 = n % (PIXELS + 2) == 0;

    SIM_CHECK(n > 0, SIM_E_DATA, "%s is empty", name);
    SIM_CHECK(
        fits_10 || fits_100, SIM_E_DATA,
        "%s has %zu bytes, expected a multiple of %d (CIFAR-10) or %d (CIFAR-100); it is "
        "truncated or not a CIFAR file",
        name, n, PIXELS + 1, PIXELS + 2);
    bool is_hundred = strcmp(base, "train.bin") == 0 || strcmp(base, "test.bin") == 0
                          ? fits_100
                          : !fits_10;
    SIM_CHECK(q->n == 0 || is_hundred == q->is_100, SIM_E_DATA,
              "%s is CIFAR-%s, but the previous files are not", name,
              is_hundred ? "100" : "10");
    q->is_100 = is_hundred;
    size_t record = PIXELS + (is_hundred ? 2 : 1);
    SIM_TRY(reserve_records(q, n / record));
    for (size_t i = 0; i < n / record; i++)
        SIM_TRY(add_record(q, name, i, bytes + i * record));
done:
    return st;
}

static sim_status copy_names(char **to, const uint8_t *bytes, size_t n)
{
    if (*to)
        return SIM_OK;
    return sim_text_format("prep/names", to, "%.*s", (int)n, (const char *)bytes);
}

static sim_status read_file(cifar *q, const char *name, const uint8_t *bytes, size_t n)
{
    const char *base = sim_prep_base_name(name);
    if (strcmp(base, "batches.meta.txt") == 0)
        return copy_names(&q->names_10, bytes, n);
    if (strcmp(base, "fine_label_names.txt") == 0)
        return copy_names(&q->fine, bytes, n);
    if (strcmp(base, "coarse_label_names.txt") == 0)
        return copy_names(&q->coarse, bytes, n);
    return is_in_split(base, q->test) ? add_file(q, name, bytes, n) : SIM_OK;
}

static sim_status read_directory(cifar *q, const char *directory)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!sim_text_ends_with(names.names[i], ".bin") &&
            !sim_text_ends_with(names.names[i], ".txt"))
            continue;
        int k = snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        SIM_CHECK(k > 0 && (size_t)k < sizeof path, SIM_E_INPUT,
                  "%s: the path is too long", directory);
        SIM_TRY(sim_prep_load(path, LIMIT, &bytes, &n));
        SIM_TRY(read_file(q, path, bytes, n));
        SIM_FREE(bytes);
    }
done:
    sim_free(bytes);
    sim_names_clear(&names);
    return st;
}

static sim_status read_archive(cifar *q, const char *path)
{
    sim_status st = SIM_OK;
    prep_tar *t = NULL;
    prep_entry e = {0};
    uint8_t *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_prep_tar_open(path, false, &t));
    for (;;) {
        SIM_TRY(sim_prep_tar_next(t, &e));
        if (!e.name)
            break;
        SIM_TRY(sim_prep_tar_load(t, LIMIT, &bytes, &n));
        SIM_TRY(read_file(q, e.name, bytes, n));
        SIM_FREE(bytes);
    }
done:
    sim_free(bytes);
    sim_prep_tar_close(&t);
    return st;
}

static bool cifar_probe_content(const char *path)
{
    return sim_prep_tar_contains(path, known);
}

static bool cifar_probe(const char *path)
{
    char file[PATH_MAX];
    if (!sim_path_is_directory(path))
        return sim_text_ends_with(path, ".bin");
    for (size_t i = 0; known[i]; i++) {
        int n = snprintf(file, sizeof file, "%s/%s", path, known[i]);
        if (n > 0 && (size_t)n < sizeof file && sim_path_exists(file))
            return true;
    }
    return false;
}

static sim_status cifar_open_source(const char *path, const prep_options *options,
                                    prep_source *out)
{
    sim_status st = SIM_OK;
    cifar *q = NULL;
    uint8_t *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_new(&q, "prep/cifar"));
    out->state = q;
    q->options = options;
    SIM_TRY(sim_prep_is_test(path, options->split, &q->test));
    if (sim_path_is_directory(path)) {
        SIM_TRY(read_directory(q, path));
    } else if (!sim_prep_is_tar(path)) {
        SIM_TRY(sim_prep_check_file_split(path, options->split));
        SIM_TRY(sim_prep_load(path, LIMIT, &bytes, &n));
        SIM_TRY(add_file(q, path, bytes, n));
    } else {
        SIM_TRY(read_archive(q, path));
    }
    SIM_CHECK(q->n > 0 || q->n_bad == 0, SIM_E_DATA, "%s: no record is valid; %s", path,
              q->first_bad);
    SIM_CHECK(q->n > 0, SIM_E_INPUT, "%s contains no CIFAR file of the split %s", path,
              sim_prep_split_name(q->test ? PREP_TEST : PREP_TRAIN));
    out->split = q->test ? PREP_TEST : PREP_TRAIN;
    out->n_items = q->n;
    out->h = out->w = SIDE;
    out->c = 3;
    out->n_bad = q->n_bad;
    (void)snprintf(out->first_bad, sizeof out->first_bad, "%s", q->first_bad);
    SIM_TRY(sim_alloc(&out->labels, q->n, "prep/labels"));
    memcpy(out->labels, q->labels, q->n * sizeof *q->labels);
    SIM_CHECK(q->is_100 || !options->coarse, SIM_E_USAGE,
              "--labels coarse: %s is CIFAR-10, which has no coarse labels", path);
    const char *names = q->is_100 ? (options->coarse ? q->coarse : q->fine) : q->names_10;
    size_t classes = q->is_100 ? (options->coarse ? 20 : 100) : 10;
    out->n_classes = classes;
    if (names)
        SIM_TRY(sim_prep_lines(names, strlen(names), &out->class_names, &out->n_classes));
    SIM_CHECK(out->n_classes == classes, SIM_E_DATA,
              "%s contains %zu class names, expected %zu", path, out->n_classes, classes);
done:
    sim_free(bytes);
    return st;
}

static sim_status cifar_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                  size_t *n, uint8_t **buffer)
{
    const cifar *q = s->state;
    (void)buffer;
    *n = PIXELS;
    *bytes = q->pixels + i * PIXELS;
    return SIM_OK;
}

static void cifar_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    (void)s;
    (void)snprintf(out, out_bytes, "record[%zu]", i);
}

static void cifar_close_source(prep_source *s)
{
    cifar *q = s->state;
    if (!q)
        return;
    sim_free(q->pixels);
    sim_free(q->labels);
    sim_free(q->fine);
    sim_free(q->coarse);
    sim_free(q->names_10);
    sim_free(q);
}

const prep_format sim_prep_format_cifar = {
    .name = "cifar",
    .help = "CIFAR-10 and CIFAR-100 binary (directory, .bin, or the original .tar.gz)",
    .supported = PREP_HAS_COARSE,
    .probe_content = cifar_probe_content,
    .probe = cifar_probe,
    .open = cifar_open_source,
    .read = cifar_read_item,
    .item_name = cifar_item_name,
    .close = cifar_close_source};
