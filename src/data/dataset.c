/*
 * dataset.c - reading of data sets: HDF5 locates the bytes, pread reads them.
 *
 * Every size and offset is checked against the length of the file before it is used, and
 * every image against its digest when it is read.
 */
#include "dataset.h"
#include "fingerprint.h"
#include "private.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LABEL = (1 << 20) - 1 };

/* Checked first, so that another kind of file is reported as such. */
static sim_status check_format(const char *path, const sim_h5 *f, int64_t *version)
{
    sim_status st = SIM_OK;
    char format[64];

    SIM_CHECK(sim_h5_has_attribute(f, "format"), SIM_E_DATA,
              "%s is not a simile data set", path);
    SIM_TRY(sim_h5_read_attribute_text(f, "format", format, sizeof format));
    SIM_CHECK(strcmp(format, "simile-dataset") == 0, SIM_E_DATA,
              "%s is a %s, expected a simile-dataset", path, format);
    SIM_TRY(sim_h5_check_version(f, path, DATASET_VERSION, version));
done:
    return st;
}

/* Locates images of equal shape, stored as pixels. */
static sim_status locate_pixels(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(sim_h5_shape_of(f, "/images", &s));
    SIM_CHECK(s.n_dims == 4 && (s.type == SIM_U8 || s.type == SIM_U16 ||
                                (s.type == SIM_F32 && s.exact)),
              SIM_E_DATA, "%s: /images is not uint8, uint16 or float32 [N][H][W][C]",
              d->path);
    d->about.type = s.type;
    d->about.n_images = s.dims[0];
    d->about.h = s.dims[1];
    d->about.w = s.dims[2];
    d->about.c = s.dims[3];
    SIM_CHECK(s.dims[1] > 0 && s.dims[2] > 0 && s.dims[1] <= SIM_MAX_PIXELS / s.dims[2] &&
                  s.dims[3] > 0 && s.dims[3] <= SIM_MAX_CHANNELS,
              SIM_E_DATA,
              "%s: images of %zu x %zu x %zu; expected 1 to %d channels and at most %d "
              "pixels",
              d->path, s.dims[1], s.dims[2], s.dims[3], SIM_MAX_CHANNELS, SIM_MAX_PIXELS);
    SIM_TRY(sim_h5_bytes_at(f, "/images", &d->bytes_at, &d->n_bytes));
done:
    return st;
}

/* Locates images stored as files. */
static sim_status locate_encoded(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    void *offsets = NULL;

    d->about.encoded = true;
    d->about.c = 3;
    d->about.type = SIM_U8;
    SIM_TRY(sim_h5_bytes_at(f, "/bytes", &d->bytes_at, &d->n_bytes));
    /* An image has at least one byte, so a small file cannot request much memory. */
    size_t limit = d->n_bytes < SIM_MAX_IMAGES ? (size_t)d->n_bytes : SIM_MAX_IMAGES;
    SIM_TRY(sim_h5_read_new(f, "/offset", SIM_U64, limit + 1, &offsets, &s));
    d->offsets = offsets;
    SIM_CHECK(s.n_dims == 1 && s.dims[0] >= 1, SIM_E_DATA,
              "%s: /offset is not a one-dimensional array", d->path);
    d->about.n_images = s.dims[0] - 1;
    SIM_CHECK(d->offsets[0] == 0 && d->offsets[d->about.n_images] == d->n_bytes,
              SIM_E_DATA, "%s: /offset does not span /bytes", d->path);
    for (size_t i = 0; i < d->about.n_images; i++)
        SIM_CHECK(d->offsets[i] < d->offsets[i + 1], SIM_E_DATA,
                  "%s: /offset does not increase at image %zu", d->path, i);
done:
    return st;
}

static sim_status read_labels(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    void *labels = NULL;

    if (!sim_h5_has(f, "/labels"))
        goto done;
    SIM_TRY(sim_h5_read_new(f, "/labels", SIM_I32, d->about.n_images, &labels, &s));
    d->labels = labels;
    SIM_CHECK(s.n_dims == 1 && s.dims[0] == d->about.n_images, SIM_E_DATA,
              "%s: %zu labels for %zu images", d->path, s.n_dims ? s.dims[0] : 0,
              d->about.n_images);
    for (size_t i = 0; i < d->about.n_images; i++) {
        SIM_CHECK(d->labels[i] >= 0 && d->labels[i] <= MAX_LABEL, SIM_E_DATA,
                  "%s: the label of image %zu is %d, expected 0 to %d", d->path, i,
                  d->labels[i], MAX_LABEL);
        if ((size_t)d->labels[i] >= d->about.n_classes)
            d->about.n_classes = (size_t)d->labels[i] + 1;
    }
    d->about.has_labels = true;
done:
    return st;
}

static sim_status check_groups(sim_dataset *d)
{
    sim_status st = SIM_OK;
    const size_t n = d->about.n_images;

    for (size_t i = 0; i < n; i++) {
        SIM_CHECK(d->groups[i] >= 0 && (size_t)d->groups[i] < n, SIM_E_DATA,
                  "%s: the group of image %zu is %d, expected 0 to %zu", d->path, i,
                  d->groups[i], n - 1);
        if ((size_t)d->groups[i] >= d->about.n_groups)
            d->about.n_groups = (size_t)d->groups[i] + 1;
    }
    d->about.has_groups = true;
done:
    return st;
}

/* The names are read for the fingerprint only. */
static sim_status read_groups(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    const size_t n = d->about.n_images;
    sim_h5_shape s;
    void *groups = NULL;
    char *names = NULL;
    size_t n_names = 0, width = 0;

    if (!sim_h5_has(f, "/group") || d->version < 3)
        goto done;
    SIM_TRY(sim_h5_read_new(f, "/group", SIM_I32, n, &groups, &s));
    d->groups = groups;
    SIM_CHECK(s.n_dims == 1 && s.dims[0] == n, SIM_E_DATA,
              "%s: %zu group numbers for %zu images", d->path, s.n_dims ? s.dims[0] : 0,
              n);
    SIM_TRY(check_groups(d));
    if (sim_h5_has(f, "/groups")) {
        SIM_TRY(sim_h5_read_strings(f, "/groups", n, &n_names, &width, &names));
        SIM_CHECK(n_names == d->about.n_groups, SIM_E_DATA,
                  "%s: %zu names for %zu groups", d->path, n_names, d->about.n_groups);
    }
    SIM_TRY(sim_fingerprint_groups(d->groups, n, names, n_names, width, &d->group_hash));
done:
    sim_free(names);
    return st;
}

/* Takes class names from a text with one per line, which becomes the data set's. */
static sim_status take_class_names(sim_dataset *d, char *text)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    sim_free(d->class_text);
    sim_free(d->class_names);
    d->class_names = NULL;
    d->n_class_names = 0;
    d->class_text = text;
    d->class_hash = sim_hash_bytes(text, strlen(text));
    for (const char *p = text; *p; p++)
        n += *p == '\n';
    SIM_TRY(sim_alloc(&d->class_names, n + 1, "data/names"));
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        d->class_names[d->n_class_names++] = line;
    }
    if (d->n_class_names > d->about.n_classes)
        d->about.n_classes = d->n_class_names;
done:
    return st;
}

static sim_status read_class_names(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    if (!sim_h5_has(f, "/class_names"))
        goto done;
    SIM_TRY(sim_h5_read_text(f, "/class_names", &text)); /* one per line */
    SIM_TRY(take_class_names(d, text));
done:
    return st;
}

sim_status sim_dataset_name_classes(sim_dataset *d, const char *const *names, size_t n)
{
    sim_status st = SIM_OK;
    sim_text lines = {0};
    char *text = NULL;

    SIM_TRY(sim_text_open(&lines));
    for (size_t k = 0; k < n; k++)
        (void)fprintf(lines.file, "%s\n", names[k]);
    SIM_TRY(sim_text_finish(&lines, "data/names", &text));
    SIM_TRY(take_class_names(d, text));
done:
    sim_text_close(&lines);
    return st;
}

static bool is_range(const sim_value_range *r)
{
    return fabs(r->lo) <= DBL_MAX && fabs(r->hi) <= DBL_MAX && r->lo < r->hi;
}

static sim_status read_range(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    double range[2];

    SIM_TRY(sim_h5_read_attribute(f, "range", SIM_F64, range, 2));
    d->about.range = (sim_value_range){range[0], range[1]};
    SIM_CHECK(is_range(&d->about.range), SIM_E_DATA,
              "%s: the attribute range is %g to %g, expected two increasing numbers",
              d->path, range[0], range[1]);
done:
    return st;
}

/* The range of types other than SIM_U8: [c][2]. */
static sim_status read_scale(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_value_range *scale = d->about.scale;

    SIM_TRY(sim_h5_read_attribute(f, "range", SIM_F64, scale, 2 * d->about.c));
    for (size_t c = 0; c < d->about.c; c++)
        SIM_CHECK(sim_value_range_is_usable(&scale[c]), SIM_E_DATA,
                  "%s: the attribute range of channel %zu is %g to %g, expected two "
                  "increasing numbers of at most %g in size",
                  d->path, c, scale[c].lo, scale[c].hi, SIM_MAX_SAMPLE);
done:
    return st;
}

/* Mean and std of bytes are on the scale 0 to 1. */
static sim_status check_normalization(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *a = &d->about;
    const double least = a->type == SIM_U8 ? 0 : -FLT_MAX,
                 most = a->type == SIM_U8 ? 1 : FLT_MAX;

    for (size_t c = 0; c < a->c; c++)
        SIM_CHECK(a->mean[c] >= least && a->mean[c] <= most && a->std[c] >= 0 &&
                      a->std[c] <= most,
                  SIM_E_DATA, "%s: mean or std of channel %zu is out of range (%g to %g)",
                  d->path, c, least, most);
done:
    return st;
}

static sim_status read_attributes(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_dataset_info *a = &d->about;
    int64_t n = 0;

    SIM_TRY(sim_h5_read_attribute(f, "num_images", SIM_I64, &n, 1));
    SIM_CHECK(n == (int64_t)a->n_images, SIM_E_DATA,
              "%s: num_images is %lld, but the file contains %zu images", d->path,
              (long long)n, a->n_images);
    SIM_TRY(sim_h5_read_attribute(f, "mean", SIM_F64, a->mean, a->c));
    SIM_TRY(sim_h5_read_attribute(f, "std", SIM_F64, a->std, a->c));
    SIM_TRY(check_normalization(d));
    SIM_TRY(sim_h5_read_attribute_text(f, "fingerprint", a->fingerprint,
                                       sizeof a->fingerprint));
    if (a->type != SIM_U8)
        SIM_TRY(read_scale(d, f));
    else if (sim_h5_has_attribute(f, "range"))
        SIM_TRY(read_range(d, f));
    if (sim_h5_has_attribute(f, "source"))
        SIM_TRY(sim_h5_read_attribute_text(f, "source", a->source, sizeof a->source));
done:
    return st;
}

static sim_status read_digests(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    void *digests = NULL;

    SIM_TRY(sim_h5_read_new(f, "/digest", SIM_U64, 2 * d->about.n_images, &digests, &s));
    d->digests = digests;
    SIM_CHECK(s.n_dims == 2 && s.dims[0] == d->about.n_images && s.dims[1] == 2,
              SIM_E_DATA, "%s: /digest is not [N][2]", d->path);
done:
    return st;
}

static sim_status check_fingerprint(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *a = &d->about;
    const fingerprint_parts parts = {.encoded = a->encoded,
                                     .n = a->n_images,
                                     .h = a->h,
                                     .w = a->w,
                                     .c = a->c,
                                     .type = a->type,
                                     .mean = a->mean,
                                     .std = a->std,
                                     .range = a->range,
                                     .scale = a->scale,
                                     .classes = d->class_hash,
                                     .groups = d->group_hash,
                                     .digests = d->digests,
                                     .labels = d->labels};
    char hex[33];

    SIM_TRY(sim_fingerprint(&parts, d->version, hex));
    SIM_CHECK(strcmp(hex, a->fingerprint) == 0, SIM_E_DATA,
              "%s is corrupted: its fingerprint is %s, but that of its content is %s; "
              "copy or prepare it again",
              d->path, a->fingerprint, hex);
    if (d->version < 2)
        sim_log("%s has format_version 1: mean, std, shape and class names are not "
                "verified; simile prepare writes version %d",
                d->path, DATASET_VERSION);
done:
    return st;
}

/* Reads and checks everything but the image bytes. */
static sim_status read_metadata(sim_dataset *d, const sim_h5 *f)
{
    sim_status st = SIM_OK;
    bool has_pixels = sim_h5_has(f, "/images");
    SIM_CHECK(has_pixels || sim_h5_has(f, "/bytes"), SIM_E_DATA,
              "%s has neither /images nor /bytes", d->path);
    SIM_TRY(has_pixels ? locate_pixels(d, f) : locate_encoded(d, f));
    SIM_CHECK(d->about.n_images > 0 && d->about.n_images <= SIM_MAX_IMAGES, SIM_E_DATA,
              "%s contains %zu images, expected 1 to %d", d->path, d->about.n_images,
              SIM_MAX_IMAGES);
    SIM_CHECK(d->about.type == SIM_U8 || d->version >= 3, SIM_E_DATA,
              "%s: images of type %s need format_version 3 or later, not %lld", d->path,
              sim_type_name(d->about.type), (long long)d->version);
    SIM_TRY(read_attributes(d, f));
    SIM_TRY(read_labels(d, f));
    SIM_TRY(read_class_names(d, f));
    SIM_TRY(read_groups(d, f));
    SIM_TRY(read_digests(d, f));
    SIM_TRY(check_fingerprint(d));
done:
    return st;
}

sim_status sim_dataset_open(const char *path, sim_dataset **out)
{
    sim_status st = SIM_OK;
    sim_dataset *d = NULL;
    sim_h5 *f = NULL;
    uint64_t length = 0;

    SIM_TRY(sim_new(&d, "data/dataset"));
    d->fd = -1;
    SIM_TRY(sim_text_copy(path, "data/dataset", &d->path));
    SIM_TRY(sim_h5_open_read(path, &f));
    SIM_TRY(check_format(path, f, &d->version));
    SIM_TRY(read_metadata(d, f));
    SIM_TRY(sim_file_open_read(path, &d->fd, &length));
    d->about.n_stored = d->about.n_images;
    *out = d;
    d = NULL;
done:
    sim_h5_close(&f);
    sim_dataset_close(&d);
    return sim_path_explain(st, path, SIM_USE_DATASET);
}

void sim_dataset_close(sim_dataset **out)
{
    sim_dataset *d = *out;
    if (!d)
        return;
    SIM_IGNORE(sim_file_close(&d->fd, d->path));
    for (size_t k = 0; k < d->n_parts; k++)
        sim_dataset_close(&d->parts[k]);
    sim_free(d->parts);
    sim_free(d->restriction);
    sim_free(d->path);
    sim_free(d->offsets);
    sim_free(d->labels);
    sim_free(d->groups);
    sim_free(d->digests);
    sim_free(d->stored);
    sim_free(d->class_text);
    sim_free(d->class_names);
    sim_free(d);
    *out = NULL;
}

const sim_dataset_info *sim_dataset_about(const sim_dataset *d)
{
    return &d->about;
}

/* The hash of the values by which samples are normalized. */
static void hash_values(const sim_dataset_info *a, char out[33])
{
    double values[4 * SIM_MAX_CHANNELS + 2] = {a->range.lo, a->range.hi};

    for (size_t c = 0; c < a->c; c++) {
        double *of_channel = values + 2 + 4 * c;
        of_channel[0] = a->mean[c];
        of_channel[1] = a->std[c];
        of_channel[2] = a->scale[c].lo;
        of_channel[3] = a->scale[c].hi;
    }
    sim_hash_hex(sim_hash_bytes(values, sizeof values), out);
}

sim_status sim_dataset_describe(const sim_dataset *d, char **out)
{
    const sim_dataset_info *a = &d->about;
    char images[33], values[33];

    hash_values(a, values);
    sim_hash_hex(sim_hash_bytes(d->digests, a->n_images * 2 * sizeof *d->digests),
                 images);
    return sim_text_format(
        "data/description", out,
        "fingerprint %s\nshape %zu x %zu x %zu of %s\n%zu of %zu images, digests %s\n"
        "%zu classes, names %016llx\n%zu groups\nmean, std, range and scale %s\n",
        a->fingerprint, a->h, a->w, a->c, sim_type_name(a->type), a->n_images,
        a->n_stored, images, a->n_classes, (unsigned long long)d->class_hash.low,
        a->n_groups, values);
}

const char *sim_dataset_path(const sim_dataset *d)
{
    return d->path;
}

const int32_t *sim_dataset_labels(const sim_dataset *d)
{
    return d->labels;
}

const int32_t *sim_dataset_groups(const sim_dataset *d)
{
    return d->groups;
}

const char *sim_dataset_class_name(const sim_dataset *d, size_t label)
{
    return label < d->n_class_names ? d->class_names[label] : NULL;
}

/* The names of all images of the file. */
static sim_status read_names(const sim_dataset *d, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    char *names = NULL;
    size_t n = 0;

    SIM_TRY(sim_h5_open_read(d->path, &f));
    if (!sim_h5_has(f, "/name"))
        goto done;
    SIM_TRY(sim_h5_read_strings(f, "/name", d->about.n_stored, &n, width, &names));
    SIM_CHECK(n == d->about.n_stored, SIM_E_DATA, "%s: %zu names for %zu images", d->path,
              n, d->about.n_stored);
    *text = names;
    names = NULL;
done:
    sim_free(names);
    sim_h5_close(&f);
    return st;
}

sim_status sim_dataset_read_names(const sim_dataset *d, size_t *width, char **text)
{
    sim_status st = SIM_OK;

    *text = NULL;
    SIM_TRY(d->parts ? sim_union_read_names(d, width, text) : read_names(d, width, text));
    for (size_t i = 0; *text && d->stored && i < d->about.n_images; i++)
        memmove(*text + i * *width, *text + d->stored[i] * *width, *width);
done:
    return st;
}

sim_hash sim_dataset_digest(const sim_dataset *d, size_t i)
{
    return (sim_hash){d->digests[2 * i], d->digests[2 * i + 1]};
}

/* An image of a file, and its digest. */
typedef struct {
    const sim_dataset *file;
    size_t at;
    sim_hash digest;
} stored_image;

static stored_image find_stored(const sim_dataset *d, size_t i)
{
    stored_image s = {d, d->stored ? d->stored[i] : i, sim_dataset_digest(d, i)};
    if (d->parts)
        s.file = sim_union_part(d, &s.at);
    return s;
}

static sim_status check_digest(const stored_image *s, const void *bytes, size_t n)
{
    sim_status st = SIM_OK;
    sim_hash h = sim_hash_bytes(bytes, n);
    SIM_CHECK(h.low == s->digest.low && h.high == s->digest.high, SIM_E_DATA,
              "%s: image %zu does not match its digest; the file is corrupted",
              s->file->path, s->at);
done:
    return st;
}

static sim_status read_encoded(const stored_image *s, sim_image *image)
{
    sim_status st = SIM_OK;
    char name[512];
    const sim_dataset *d = s->file;
    const sim_image_target rgb = {.type = SIM_U8, .c = 3, .range = d->about.range};
    sim_decode_notes notes; /* not used: prepare reports warnings */
    size_t n = (size_t)(d->offsets[s->at + 1] - d->offsets[s->at]);
    uint8_t *bytes = NULL;

    (void)snprintf(name, sizeof name, "%s, image %zu", d->path, s->at);
    SIM_TRY(sim_alloc(&bytes, n, "data/encoded"));
    SIM_TRY(sim_file_read_at(d->fd, d->path, d->bytes_at + d->offsets[s->at], bytes, n));
    SIM_TRY(check_digest(s, bytes, n));
    SIM_TRY(sim_image_decode(name, bytes, n, &rgb, image, &notes));
done:
    sim_free(bytes);
    return st;
}

sim_status sim_dataset_read(const sim_dataset *d, size_t i, sim_image *image)
{
    sim_status st = SIM_OK;

    SIM_ASSERT(i < d->about.n_images);
    const stored_image s = find_stored(d, i);
    const sim_dataset_info *a = &s.file->about;
    const size_t n = a->h * a->w * a->c * sim_type_bytes(a->type); /* unless encoded */
    if (a->encoded) {
        SIM_TRY(read_encoded(&s, image));
        goto done;
    }
    SIM_TRY(sim_image_shape(image, a->h, a->w, a->c, a->type));
    SIM_TRY(sim_file_read_at(s.file->fd, s.file->path, s.file->bytes_at + s.at * n,
                             image->pixels, n));
    SIM_TRY(check_digest(&s, image->pixels, n));
done:
    return st;
}

/* Reduces an array of one number per image to the listed images; NULL stays NULL. */
static sim_status select_numbers(int32_t **numbers, size_t n, const uint32_t *images)
{
    sim_status st = SIM_OK;
    int32_t *kept = NULL;

    if (!*numbers)
        goto done;
    SIM_TRY(sim_alloc(&kept, n, "data/dataset"));
    for (size_t i = 0; i < n; i++)
        kept[i] = (*numbers)[images[i]];
    sim_free(*numbers);
    *numbers = kept;
done:
    return st;
}

static sim_status select_digests(sim_dataset *d, size_t n, const uint32_t *images)
{
    sim_status st = SIM_OK;
    uint64_t *digests = NULL;

    SIM_TRY(sim_alloc(&digests, 2 * n, "data/dataset"));
    for (size_t i = 0; i < n; i++)
        memcpy(&digests[2 * i], &d->digests[2 * images[i]], 2 * sizeof *digests);
    sim_free(d->digests);
    d->digests = digests;
done:
    return st;
}

/* The images of the file that are listed images of the data set. */
static sim_status select_stored(sim_dataset *d, size_t n, const uint32_t *images)
{
    sim_status st = SIM_OK;
    uint32_t *stored = NULL;

    SIM_TRY(sim_alloc(&stored, n, "data/dataset"));
    for (size_t i = 0; i < n; i++) {
        SIM_ASSERT(images[i] < d->about.n_images &&
                   (i == 0 || images[i - 1] < images[i]));
        stored[i] = d->stored ? d->stored[images[i]] : images[i];
    }
    sim_free(d->stored);
    d->stored = stored;
done:
    return st;
}

sim_status sim_dataset_select(sim_dataset *d, size_t n, const uint32_t *images)
{
    sim_status st = SIM_OK;

    SIM_ASSERT(n <= d->about.n_images);
    SIM_TRY(select_stored(d, n, images));
    SIM_TRY(select_digests(d, n, images));
    SIM_TRY(select_numbers(&d->labels, n, images));
    SIM_TRY(select_numbers(&d->groups, n, images));
    d->about.n_images = n;
    sim_union_count(d);
done:
    return st;
}
