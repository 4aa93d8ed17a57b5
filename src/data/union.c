/*
 * union.c - several data sets that are read as one.
 *
 * Labels, digests and class names of all files are joined here; the images stay in their files, which
 * dataset.c reads.  src/DESIGN.md, "Unions", defines the fingerprint and the pooled mean and std.
 */
#include "dataset.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- checks ---- */

static sim_status check_pair(const sim_dataset *first, const sim_dataset *other)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *a = &first->about, *b = &other->about;

    SIM_CHECK(
        a->c == b->c, SIM_E_DATA,
        "data.train: %s has images of %zu channel%s, but %s of %zu; data sets that are "
        "joined must have the same number of channels",
        first->path, a->c, a->c == 1 ? "" : "s", other->path, b->c);
    SIM_CHECK(a->type == b->type, SIM_E_DATA,
              "data.train: %s has samples of type %s, but %s of %s; data sets that are "
              "joined must have one type (simile prepare --type)",
              first->path, sim_type_name(a->type), other->path, sim_type_name(b->type));
    SIM_CHECK(
        strcmp(a->fingerprint, b->fingerprint) != 0, SIM_E_DATA,
        "data.train: %s and %s are the same data set (fingerprint %s); name it once, "
        "and use data.proportions to draw its images more often",
        first->path, other->path, a->fingerprint);
done:
    return st;
}

static sim_status check_parts(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    for (size_t k = 0; k < d->n_parts; k++) {
        for (size_t j = 0; j < k; j++)
            SIM_TRY(check_pair(d->parts[j], d->parts[k]));
        n += d->parts[k]->about.n_images;
    }
    SIM_CHECK(n <= SIM_MAX_IMAGES, SIM_E_DATA,
              "data.train: the data sets have %zu images together, expected at most %d",
              n, SIM_MAX_IMAGES);
done:
    return st;
}

/* ---- classes ---- */

static bool has_class_names(const sim_dataset *d)
{
    return d->about.n_classes > 0 && d->n_class_names == d->about.n_classes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct names of the classes of all files, sorted.  The caller owns *out. */
static sim_status collect_names(const sim_dataset *d, const char ***out, size_t *n)
{
    sim_status st = SIM_OK;
    const char **names = NULL;
    size_t n_all = 0, n_distinct = 0;

    for (size_t k = 0; k < d->n_parts; k++)
        n_all += d->parts[k]->n_class_names;
    SIM_TRY(sim_alloc(&names, n_all, "data/names"));
    n_all = 0;
    for (size_t k = 0; k < d->n_parts; k++)
        for (size_t c = 0; c < d->parts[k]->n_class_names; c++)
            names[n_all++] = d->parts[k]->class_names[c];
    qsort(names, n_all, sizeof *names, by_name);
    for (size_t i = 0; i < n_all; i++)
        if (i == 0 || strcmp(names[i], names[n_distinct - 1]) != 0)
            names[n_distinct++] = names[i];
    *out = names;
    *n = n_distinct;
done:
    return st;
}

/* Replaces the labels of a file by the numbers of its classes in `names`. */
static sim_status renumber(sim_dataset *file, const char *const *names, size_t n)
{
    sim_status st = SIM_OK;
    int32_t *number = NULL;

    SIM_TRY(sim_alloc(&number, file->n_class_names, "data/names"));
    for (size_t c = 0; c < file->n_class_names; c++) {
        const char *const *at =
            bsearch(&file->class_names[c], names, n, sizeof *names, by_name);
        SIM_ASSERT(at);
        number[c] = (int32_t)(at - names);
    }
    for (size_t i = 0; i < file->about.n_images; i++)
        file->labels[i] = number[file->labels[i]];
done:
    sim_free(number);
    return st;
}

static sim_status match_by_name(sim_dataset *d)
{
    sim_status st = SIM_OK;
    const char **names = NULL;
    size_t n = 0;

    SIM_TRY(collect_names(d, &names, &n));
    for (size_t k = 0; k < d->n_parts; k++)
        SIM_TRY(renumber(d->parts[k], names, n));
    SIM_TRY(sim_dataset_name_classes(d, names, n));
done:
    sim_free((void *)names);
    return st;
}

/* Whether the union has labels; if so, those of the files are numbers of the union's classes. */
static sim_status match_classes(sim_dataset *d, bool *has_labels)
{
    sim_status st = SIM_OK;
    size_t n_labelled = 0, n_named = 0;

    for (size_t k = 0; k < d->n_parts; k++) {
        n_labelled += d->parts[k]->labels != NULL;
        n_named += has_class_names(d->parts[k]);
    }
    if (n_labelled < d->n_parts)
        d->unlabelled = n_labelled ? "only some of the data sets have labels" : NULL;
    else if (n_named > 0 && n_named < d->n_parts)
        d->unlabelled = "only some of the data sets have class names";
    *has_labels = n_labelled == d->n_parts && !d->unlabelled;
    if (*has_labels && n_named > 0)
        SIM_TRY(match_by_name(d));
    for (size_t k = 0; *has_labels && k < d->n_parts; k++)
        if (d->parts[k]->about.n_classes > d->about.n_classes && n_named == 0)
            d->about.n_classes = d->parts[k]->about.n_classes;
done:
    return st;
}

/* ---- images ---- */

/* The groups of the files, which are different ones in every file, if all files have groups. */
static sim_status join_groups(sim_dataset *d)
{
    sim_status st = SIM_OK;
    size_t n = 0, n_with = 0;

    for (size_t k = 0; k < d->n_parts; k++)
        n_with += d->parts[k]->about.has_groups;
    d->about.has_groups = n_with == d->n_parts;
    if (!d->about.has_groups)
        goto done;
    SIM_TRY(sim_alloc(&d->groups, d->about.n_images, "data/dataset"));
    for (size_t k = 0; k < d->n_parts; k++) {
        const sim_dataset *file = d->parts[k];
        for (size_t i = 0; i < file->about.n_images; i++)
            d->groups[n++] = file->groups[i] + (int32_t)d->about.n_groups;
        d->about.n_groups += file->about.n_groups;
    }
done:
    return st;
}

/* Moves digests and labels of the files, one after the other, to the union. */
static sim_status join_images(sim_dataset *d, bool has_labels)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    for (size_t k = 0; k < d->n_parts; k++)
        n += d->parts[k]->about.n_images;
    d->about.n_images = d->about.n_stored = n;
    d->about.has_labels = has_labels;
    SIM_TRY(sim_alloc(&d->digests, 2 * n, "data/dataset"));
    if (has_labels)
        SIM_TRY(sim_alloc(&d->labels, n, "data/dataset"));
    n = 0;
    for (size_t k = 0; k < d->n_parts; k++) {
        sim_dataset *file = d->parts[k];
        const size_t n_file = file->about.n_images;
        memcpy(d->digests + 2 * n, file->digests, 2 * n_file * sizeof *d->digests);
        if (has_labels)
            memcpy(d->labels + n, file->labels, n_file * sizeof *d->labels);
        SIM_FREE(file->digests);
        SIM_FREE(file->labels);
        n += n_file;
    }
done:
    return st;
}

/* Whether the images of two files are stored with one size. */
static bool is_same_size(const sim_dataset_info *a, const sim_dataset_info *b)
{
    return a->encoded == b->encoded && a->h == b->h && a->w == b->w;
}

static size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Photos of any size, if any file has them. */
static void join_sizes(sim_dataset *d)
{
    sim_dataset_info *a = &d->about;

    a->c = d->parts[0]->about.c;
    a->type = d->parts[0]->about.type;
    for (size_t k = 0; k < d->n_parts; k++) {
        const sim_dataset_info *file = &d->parts[k]->about;
        a->varied |= !is_same_size(file, &d->parts[0]->about);
        a->encoded |= file->encoded;
        a->h = larger_of(a->h, file->h);
        a->w = larger_of(a->w, file->w);
    }
    if (a->encoded)
        a->h = a->w = 0;
}

static bool is_same_range(const sim_dataset *a, const sim_dataset *b)
{
    return a->about.range.lo == b->about.range.lo &&
           a->about.range.hi == b->about.range.hi;
}

/* The values of a channel that are black and white in any file. */
static sim_value_range widest_scale(const sim_dataset *d, size_t c)
{
    sim_value_range widest = d->parts[0]->about.scale[c];

    for (size_t k = 1; k < d->n_parts; k++) {
        const sim_value_range *of_part = &d->parts[k]->about.scale[c];
        widest.lo = of_part->lo < widest.lo ? of_part->lo : widest.lo;
        widest.hi = of_part->hi > widest.hi ? of_part->hi : widest.hi;
    }
    return widest;
}

/* The range of values that all files share, otherwise zeros; of samples that are not bytes, the scale of
 * each channel. */
static void join_ranges(sim_dataset *d)
{
    for (size_t c = 0; c < d->about.c; c++)
        d->about.scale[c] = widest_scale(d, c);
    d->about.range = d->parts[0]->about.range;
    for (size_t k = 1; k < d->n_parts; k++)
        if (!is_same_range(d->parts[k], d->parts[0]))
            d->about.range = (sim_value_range){0};
}

/* Weight of an image of file k, times their number. */
static double weight_of(const sim_dataset *d, size_t k)
{
    const sim_mixture *m = &d->about.mixture;
    return m->weighted ? m->share[k] : (double)m->n_images[k] / (double)d->about.n_images;
}

/* mean = sum_k w_k mean_k;  std^2 = sum_k w_k (std_k^2 + (mean_k - mean)^2). */
static void pool_moments(sim_dataset *d)
{
    sim_dataset_info *a = &d->about;

    for (size_t c = 0; c < a->c; c++) {
        double mean = 0, square = 0;
        for (size_t k = 0; k < d->n_parts; k++)
            mean += weight_of(d, k) * d->parts[k]->about.mean[c];
        for (size_t k = 0; k < d->n_parts; k++) {
            const double std = d->parts[k]->about.std[c],
                         from = d->parts[k]->about.mean[c] - mean;
            square += weight_of(d, k) * (std * std + from * from);
        }
        a->mean[c] = mean;
        a->std[c] = sqrt(square);
    }
}

/* ---- fingerprint ---- */

static sim_status join_fingerprints(sim_dataset *d)
{
    enum { VERSION = 1 };
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;
    const sim_mixture *m = &d->about.mixture;
    const uint64_t head[] = {VERSION, d->n_parts, m->weighted};

    SIM_TRY(sim_hasher_create(&h));
    sim_hasher_add(h, head, sizeof head);
    for (size_t k = 0; k < d->n_parts; k++)
        sim_hasher_add(h, d->parts[k]->about.fingerprint, 32);
    if (m->weighted)
        sim_hasher_add(h, m->share, d->n_parts * sizeof *m->share);
    sim_hash_hex(sim_hasher_value(h), d->about.fingerprint);
done:
    sim_hasher_destroy(&h);
    return st;
}

/* ---- opening ---- */

static void fill_mixture(sim_dataset *d, const double *shares)
{
    sim_mixture *m = &d->about.mixture;
    double sum = 0;

    m->n_sets = d->n_parts;
    m->weighted = shares != NULL;
    for (size_t k = 0; k < d->n_parts; k++) {
        m->n_images[k] = d->parts[k]->about.n_images;
        sum += shares ? shares[k] : 0;
    }
    for (size_t k = 0; shares && k < d->n_parts; k++)
        m->share[k] = shares[k] / sum;
}

/* The paths, separated by commas. */
static sim_status join_paths(sim_dataset *d)
{
    sim_status st = SIM_OK;
    char *longer = NULL;

    SIM_TRY(sim_text_copy(d->parts[0]->path, "data/dataset", &d->path));
    for (size_t k = 1; k < d->n_parts; k++) {
        SIM_TRY(sim_text_format("data/dataset", &longer, "%s, %s", d->path,
                                d->parts[k]->path));
        sim_free(d->path);
        d->path = longer;
    }
done:
    return st;
}

static sim_status open_parts(sim_dataset *d, size_t n, const char *const *paths)
{
    sim_status st = SIM_OK;

    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
    SIM_TRY(sim_alloc(&d->parts, n, "data/dataset"));
    for (size_t k = 0; k < n; k++) {
        SIM_TRY(sim_dataset_open(paths[k], &d->parts[k]));
        d->n_parts++;
    }
    SIM_TRY(check_parts(d));
    SIM_TRY(join_paths(d));
done:
    return st;
}

sim_status sim_dataset_open_union(size_t n, const char *const *paths,
                                  const double *shares, sim_dataset **out)
{
    sim_status st = SIM_OK;
    sim_dataset *d = NULL;
    bool has_labels = false;

    SIM_ASSERT(n >= 2 && n <= SIM_MAX_SETS);
    SIM_TRY(sim_new(&d, "data/dataset"));
    d->fd = -1;
    SIM_TRY(open_parts(d, n, paths));
    fill_mixture(d, shares);
    SIM_TRY(match_classes(d, &has_labels));
    SIM_TRY(join_images(d, has_labels));
    SIM_TRY(join_groups(d));
    join_sizes(d);
    join_ranges(d);
    pool_moments(d);
    SIM_TRY(join_fingerprints(d));
    *out = d;
    d = NULL;
done:
    sim_dataset_close(&d);
    return st;
}

/* ---- use ---- */

const sim_dataset *sim_union_part(const sim_dataset *d, size_t *at)
{
    size_t k = 0;
    while (*at >= d->parts[k]->about.n_images)
        *at -= d->parts[k++]->about.n_images;
    return d->parts[k];
}

void sim_union_count(sim_dataset *d)
{
    sim_mixture *m = &d->about.mixture;
    size_t i = 0, end = 0;

    for (size_t k = 0; k < m->n_sets; k++) {
        const size_t begin = i;
        end += d->parts[k]->about.n_images;
        while (i < d->about.n_images && d->stored[i] < end)
            i++;
        m->n_images[k] = i - begin;
    }
}

/* Copies n names of a width to a table with another one, which has zeros. */
static void copy_names(char *to, size_t to_width, const char *from, size_t width,
                       size_t n)
{
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * to_width, from + i * width, width);
}

sim_status sim_union_read_names(const sim_dataset *d, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    char *of_part[SIM_MAX_SETS] = {NULL}, *names = NULL;
    size_t widths[SIM_MAX_SETS] = {0}, at = 0;

    *width = 0;
    for (size_t k = 0; k < d->n_parts; k++) {
        SIM_TRY(sim_dataset_read_names(d->parts[k], &widths[k], &of_part[k]));
        if (!of_part[k])
            goto done; /* names of some files only */
        *width = larger_of(*width, widths[k]);
    }
    SIM_TRY(sim_alloc(&names, d->about.n_stored * *width, "data/names"));
    memset(names, 0, d->about.n_stored * *width);
    for (size_t k = 0; k < d->n_parts; k++) {
        const size_t n = d->parts[k]->about.n_images;
        copy_names(names + at * *width, *width, of_part[k], widths[k], n);
        at += n;
    }
    *text = names;
done:
    for (size_t k = 0; k < d->n_parts; k++)
        sim_free(of_part[k]);
    return st;
}

/* ---- what is reported ---- */

static void explain_parts(const sim_dataset *d, FILE *out)
{
    const sim_mixture *m = &d->about.mixture;

    for (size_t k = 0; k < d->n_parts; k++) {
        (void)fprintf(out, "%s: %zu images", d->parts[k]->path, m->n_images[k]);
        if (m->weighted)
            (void)fprintf(out, ", %zu per epoch", sim_mixture_drawn(m, k));
        (void)fputc('\n', out);
    }
    if (d->unlabelled)
        (void)fprintf(out, "labels are not used: %s\n", d->unlabelled);
    else if (d->parts && d->labels && !d->restriction)
        (void)fprintf(out, "%zu classes, matched by %s\n", d->about.n_classes,
                      d->n_class_names ? "name" : "number");
    for (size_t k = 1; k < d->n_parts; k++)
        if (!is_same_range(d->parts[k], d->parts[0]))
            (void)fprintf(out,
                          "the values of %s and %s had different ranges before they "
                          "became 0 to 255\n",
                          d->parts[0]->path, d->parts[k]->path);
}

const char *sim_dataset_unlabelled(const sim_dataset *d)
{
    return d->unlabelled;
}

sim_status sim_dataset_explain(const sim_dataset *d, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    explain_parts(d, text.file);
    if (d->restriction)
        (void)fprintf(text.file, "%s\n", d->restriction);
    SIM_TRY(sim_text_finish(&text, "data/description", out));
done:
    sim_text_close(&text);
    return st;
}
