/*
 * dataset_write.c - writes a data set: first the bytes of the images, then the HDF5 metadata.
 *
 * The number of valid images is known only at the end, and HDF5 must not write to disk,
 * because it crashes if the disk is full.  So image bytes are written to PATH.part at their
 * final position.  Then HDF5 builds a file with a gap for them in memory, the frame, whose
 * head and tail are written around them.
 */
#include "fingerprint.h"
#include "statistics.h"
#include "writer.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static sim_status set_paths(sim_dataset_writer *w, const char *path)
{
    sim_status st = SIM_OK;
    int n = snprintf(w->path, sizeof w->path, "%s", path);
    SIM_CHECK(n > 0 && (size_t)n + 16 < sizeof w->path, SIM_E_IO,
              "%.200s: the path is too long", path);
    (void)snprintf(w->part, sizeof w->part, "%.*s.part", n, path);
    (void)snprintf(w->journal, sizeof w->journal, "%.*s.journal", n, path);
done:
    return st;
}

/* Opens PATH.part and truncates it after the committed images. */
static sim_status open_part(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    if (w->n == 0)
        SIM_TRY(sim_file_remove(w->part));
    SIM_TRY(sim_file_open_append(w->part, &w->fd));
    SIM_TRY(sim_file_close(&w->fd, w->part));
    SIM_TRY(sim_file_open_update(w->part, &w->fd));
    SIM_TRY(sim_file_set_length(w->fd, w->part, SIM_H5_BULK_AT + w->bytes));
done:
    return st;
}

static void writer_release(sim_dataset_writer **out, bool keep_files)
{
    sim_dataset_writer *w = *out;
    if (!w)
        return;
    SIM_IGNORE(sim_file_close(&w->fd, w->part));
    if (!keep_files && w->locked) {
        SIM_IGNORE(sim_file_remove(w->part));
        SIM_IGNORE(sim_file_remove(w->journal));
    }
    SIM_IGNORE(sim_file_close(&w->journal_fd, w->journal));
    if (w->lock[0])
        sim_lock_release(w->lock, w->lock_token);
    sim_free(w->digest);
    sim_free(w->offset);
    sim_free(w->labels);
    sim_free(w->groups);
    sim_free(w->source);
    sim_free(w->buffer);
    sim_free(w);
    *out = NULL;
}

sim_status sim_dataset_create(const char *path, const sim_dataset_spec *spec,
                              sim_dataset_writer **out)
{
    sim_status st = SIM_OK;
    sim_dataset_writer *w = NULL;

    SIM_TRY(sim_new(&w, "data/writer"));
    w->fd = w->journal_fd = -1;
    w->spec = *spec;
    if (spec->encoded)
        w->spec.type = SIM_U8;
    SIM_TRY(set_paths(w, path));
    SIM_TRY(sim_alloc(&w->buffer, SIM_WRITER_BUFFER, "data/writer"));
    SIM_TRY(sim_writer_journal_open(w));
    SIM_TRY(open_part(w));
    *out = w;
    w = NULL;
done:
    writer_release(&w, true);
    return st;
}

sim_dataset_mark sim_dataset_resumed(const sim_dataset_writer *w, size_t *n_images)
{
    *n_images = w->n;
    return w->mark;
}

void sim_dataset_suspend(sim_dataset_writer **w)
{
    writer_release(w, true);
}

void sim_dataset_abandon(sim_dataset_writer **w)
{
    writer_release(w, false);
}

/* Sums over one channel of interleaved pixels.  Integers, so the order does not matter. */
static void add_channel(const uint8_t *p, size_t n, size_t c, uint64_t *sum,
                        uint64_t *squares)
{
    enum { PIECE = 1 << 15 }; /* more squares could overflow 32 bits */
    for (size_t lo = 0; lo < n; lo += PIECE) {
        size_t hi = lo + PIECE < n ? lo + PIECE : n;
        uint32_t s = 0, q = 0;
        for (size_t i = lo; i < hi; i++) {
            uint32_t v = p[i * c];
            s += v;
            q += v * v;
        }
        *sum += s;
        *squares += q;
    }
}

static void add_pixels(sim_moments *m, const uint8_t *p, size_t pixels, size_t c)
{
    for (size_t k = 0; k < c; k++)
        add_channel(p + k, pixels, c, &m->sum[k], &m->squares[k]);
    m->pixels += pixels;
}

static void add_moments(sim_moments *m, const sim_moments *more)
{
    m->pixels += more->pixels;
    for (size_t k = 0; k < SIM_MAX_CHANNELS; k++) {
        m->sum[k] += more->sum[k];
        m->squares[k] += more->squares[k];
    }
}

sim_status sim_image_moments(const sim_image *image, size_t short_side, sim_moments *out)
{
    sim_status st = SIM_OK;
    size_t side = short_side ? short_side : 256;
    sim_image small = {0}, crop = {0};

    SIM_TRY(sim_image_resize_short(image, side, &small));
    SIM_TRY(sim_image_crop_centre(&small, side, &crop));
    memset(out, 0, sizeof *out);
    add_pixels(out, crop.pixels, crop.h * crop.w, crop.c);
done:
    sim_free(small.pixels);
    sim_free(crop.pixels);
    return st;
}

void sim_dataset_measure(const sim_dataset_spec *spec, sim_dataset_item *item)
{
    item->digest = sim_hash_bytes(item->bytes, item->n);
    if (spec->encoded)
        return;
    SIM_ASSERT(item->n == spec->h * spec->w * spec->c * sim_type_bytes(spec->type));
    if (spec->type != SIM_U8) /* sim_writer_statistics reads them at the end */
        return;
    memset(&item->moments, 0, sizeof item->moments);
    add_pixels(&item->moments, item->bytes, spec->h * spec->w, spec->c);
}

sim_status sim_dataset_append_item(sim_dataset_writer *w, const sim_dataset_item *item)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_writer_reserve(w));
    add_moments(&w->moments, &item->moments);
    w->digest[2 * w->n] = item->digest.low;
    w->digest[2 * w->n + 1] = item->digest.high;
    w->labels[w->n] = item->label;
    w->groups[w->n] = item->group;
    w->source[w->n] = (uint32_t)item->source;
    w->n_labels += item->label >= 0;
    w->n_groups += item->group >= 0;
    w->offset[w->n] = w->bytes;
    SIM_TRY(sim_writer_write(w, item->bytes, item->n));
    w->n++;
    w->offset[w->n] = w->bytes;
done:
    return st;
}

sim_status sim_dataset_append(sim_dataset_writer *w, const uint8_t *bytes, size_t n,
                              int32_t label, const sim_moments *moments)
{
    sim_dataset_item item = {
        .bytes = bytes, .n = n, .label = label, .group = -1, .source = w->n};
    if (moments)
        item.moments = *moments;
    sim_dataset_measure(&w->spec, &item);
    return sim_dataset_append_item(w, &item);
}

sim_status sim_dataset_commit(sim_dataset_writer *w, const sim_dataset_mark *mark)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_writer_flush(w));
    SIM_TRY(sim_writer_journal_add(w, mark));
done:
    return st;
}

static sim_status absorb_images(sim_dataset_writer *w, const sim_dataset_writer *other)
{
    sim_status st = SIM_OK;
    uint8_t *bytes = NULL;
    uint64_t capacity = 0, length = 0;
    int fd = -1;

    SIM_TRY(sim_file_open_read(other->part, &fd, &length));
    for (size_t i = 0; i < other->n; i++) {
        sim_dataset_item item = {
            .n = (size_t)(other->offset[i + 1] - other->offset[i]),
            .label = other->labels[i],
            .group = other->groups[i],
            .source = other->source[i],
            .digest = {other->digest[2 * i], other->digest[2 * i + 1]}};
        if (item.n > capacity) {
            SIM_FREE(bytes);
            capacity = item.n;
            SIM_TRY(sim_alloc(&bytes, capacity, "data/writer"));
        }
        SIM_TRY(sim_file_read_at(fd, other->part, SIM_H5_BULK_AT + other->offset[i],
                                 bytes, item.n));
        item.bytes = bytes;
        SIM_TRY(sim_dataset_append_item(w, &item));
    }
    add_moments(&w->moments, &other->moments);
done:
    sim_free(bytes);
    SIM_IGNORE(sim_file_close(&fd, other->part));
    return st;
}

sim_status sim_dataset_absorb(sim_dataset_writer *w, const char *path, sim_hash identity,
                              sim_dataset_mark *mark)
{
    sim_status st = SIM_OK;
    sim_dataset_writer *other = NULL;
    sim_dataset_spec spec = w->spec;

    spec.identity = identity;
    SIM_TRY(sim_dataset_create(path, &spec, &other));
    SIM_TRY(absorb_images(w, other));
    *mark = other->mark;
done:
    sim_dataset_suspend(&other);
    return st;
}

sim_status sim_dataset_discard(const char *path)
{
    sim_status st = SIM_OK;
    sim_dataset_writer *w = NULL;

    SIM_TRY(sim_new(&w, "data/writer"));
    SIM_TRY(set_paths(w, path));
    SIM_TRY(sim_file_remove(w->part));
    SIM_TRY(sim_file_remove(w->journal));
done:
    sim_free(w);
    return st;
}

sim_status sim_dataset_discard_stale(const char *path)
{
    sim_status st = SIM_OK;
    sim_dataset_writer *w = NULL;
    bool is_locked = false;
    int fd = -1;

    SIM_TRY(sim_new(&w, "data/writer"));
    SIM_TRY(set_paths(w, path));
    if (!sim_writer_is_journal(w->journal))
        goto done;
    SIM_TRY(sim_file_open_update(w->journal, &fd));
    if (sim_file_lock(fd, w->journal, &is_locked) != SIM_OK || !is_locked) {
        sim_error_clear(); /* in use, or unknown */
        goto done;
    }
    SIM_TRY(sim_dataset_discard(path));
done:
    if (w)
        SIM_IGNORE(sim_file_close(&fd, w->journal));
    sim_free(w);
    return st;
}

/* Mean and standard deviation of all bytes, on the scale 0 to 1. */
static void compute_normalization(const sim_dataset_writer *w, double *mean, double *std)
{
    for (size_t k = 0; k < (w->spec.encoded ? 3 : w->spec.c); k++) {
        double m = (double)w->moments.sum[k] / (double)w->moments.pixels;
        double s = (double)w->moments.squares[k] / (double)w->moments.pixels - m * m;
        mean[k] = m / 255;
        std[k] = sqrt(s > 0 ? s : 0) / 255;
    }
}

static sim_status write_normalization(sim_h5 *f, const fingerprint_parts *p)
{
    sim_status st = SIM_OK;
    double mean[SIM_MAX_CHANNELS], std[SIM_MAX_CHANNELS], range[SIM_MAX_CHANNELS][2];
    sim_tensor row = {.type = SIM_F64, .n_dims = 1, .dims = {p->c}, .data = mean};
    sim_tensor limits = {.type = SIM_F64, .n_dims = 1, .dims = {2}, .data = range};

    memcpy(mean, p->mean, p->c * sizeof *mean);
    memcpy(std, p->std, p->c * sizeof *std);
    range[0][0] = p->range.lo;
    range[0][1] = p->range.hi;
    for (size_t c = 0; p->type != SIM_U8 && c < p->c; c++) {
        range[c][0] = p->scale[c].lo;
        range[c][1] = p->scale[c].hi;
    }
    if (p->type != SIM_U8)
        limits =
            (sim_tensor){.type = SIM_F64, .n_dims = 2, .dims = {p->c, 2}, .data = range};
    SIM_TRY(sim_h5_write_attribute(f, "mean", &row));
    row.data = std;
    SIM_TRY(sim_h5_write_attribute(f, "std", &row));
    if (p->type != SIM_U8 || range[0][0] < range[0][1])
        SIM_TRY(sim_h5_write_attribute(f, "range", &limits));
done:
    return st;
}

static sim_status write_attributes(const sim_dataset_writer *w, sim_h5 *f,
                                   const fingerprint_parts *parts,
                                   const char *fingerprint)
{
    sim_status st = SIM_OK;
    int64_t version = sim_fingerprint_version(parts), n = (int64_t)w->n;
    sim_tensor number = {.type = SIM_I64, .data = &version};

    SIM_TRY(sim_h5_write_attribute_text(f, "format", "simile-dataset"));
    SIM_TRY(sim_h5_write_attribute(f, "format_version", &number));
    number.data = &n;
    SIM_TRY(sim_h5_write_attribute(f, "num_images", &number));
    SIM_TRY(write_normalization(f, parts));
    SIM_TRY(sim_h5_write_attribute_text(f, "source", w->spec.source));
    SIM_TRY(sim_h5_write_attribute_text(f, "created_by", w->spec.created_by));
    SIM_TRY(sim_h5_write_attribute_text(f, "fingerprint", fingerprint));
done:
    return st;
}

/* One name per line; a newline within a name is replaced. *text is the caller's. */
static sim_status join_classes(const char *const *names, size_t n, char **text)
{
    sim_status st = SIM_OK;
    size_t bytes = 1;
    char *to = NULL;

    for (size_t i = 0; i < n; i++)
        bytes += strlen(names[i]) + 1;
    SIM_TRY(sim_alloc(text, bytes, "data/names"));
    to = *text;
    for (size_t i = 0; i < n; i++) {
        for (const char *c = names[i]; *c; c++)
            *to++ = *c == '\n' ? '?' : *c;
        *to++ = '\n';
    }
done:
    return st;
}

/* Row i of the strings is that of row(ctx, i). */
typedef void string_row(const void *ctx, size_t i, char *out, size_t out_bytes);

static sim_status write_strings(sim_h5 *f, const char *name, size_t n, string_row *row,
                                const void *ctx)
{
    sim_status st = SIM_OK;
    char one[PATH_MAX];
    size_t width = 1;
    void *text = NULL;

    for (size_t i = 0; i < n; i++) {
        row(ctx, i, one, sizeof one);
        width = strlen(one) > width ? strlen(one) : width;
    }
    SIM_TRY(sim_alloc_bytes(n, width, "data/names", &text));
    for (size_t i = 0; i < n; i++) {
        row(ctx, i, one, sizeof one);
        memcpy((char *)text + i * width, one, strlen(one));
    }
    SIM_TRY(sim_h5_write_strings(f, name, n, width, text));
done:
    sim_free(text);
    return st;
}

static void class_row(const void *ctx, size_t i, char *out, size_t out_bytes)
{
    const char *const *names = ctx;
    (void)snprintf(out, out_bytes, "%s", names[i]);
}

typedef struct {
    const sim_dataset_writer *writer;
    const sim_dataset_names *names;
} image_rows;

static void image_row(const void *ctx, size_t i, char *out, size_t out_bytes)
{
    const image_rows *r = ctx;
    r->names->name(r->names->ctx, r->writer->source[i], out, out_bytes);
}

/* Class names as text, which versions before 0.2 read, and as strings. */
static sim_status write_class_names(sim_h5 *f, const char *const *names, size_t n,
                                    const char *text)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_h5_write_text(f, "/class_names", text));
    SIM_TRY(write_strings(f, "/classes", n, class_row, names));
done:
    return st;
}

static sim_status write_groups(sim_h5 *f, const sim_dataset_writer *w,
                               const written_groups *groups)
{
    sim_status st = SIM_OK;
    const sim_tensor t = {
        .type = SIM_I32, .n_dims = 1, .dims = {w->n}, .data = w->groups};

    SIM_TRY(sim_h5_write(f, "/group", &t));
    if (groups->names)
        SIM_TRY(
            sim_h5_write_strings(f, "/groups", groups->n, groups->width, groups->names));
done:
    return st;
}

/* HDF5 does not survive a file size limit, so the limit is checked before it is called. */
static sim_status check_file_size_limit(const sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    enum { PER_IMAGE = 28, SLACK = 1 << 20 }; /* digest, offset, label; metadata */
    struct rlimit limit;
    uint64_t need = SIM_H5_BULK_AT + w->bytes + w->n * PER_IMAGE +
                    w->n_groups * sizeof *w->groups + SLACK;

    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        goto done;
    SIM_CHECK(need <= limit.rlim_cur, SIM_E_IO,
              "%s: the file needs about %llu bytes, but the file size limit (ulimit -f) "
              "is %llu",
              w->path, (unsigned long long)need, (unsigned long long)limit.rlim_cur);
done:
    return st;
}

/* What the HDF5 file contains beside the images. */
typedef struct {
    const char *const *classes; /* [n_classes] */
    size_t n_classes;
    char *class_text;
    const sim_dataset_names *names;
    double mean[SIM_MAX_CHANNELS], std[SIM_MAX_CHANNELS];
    sim_value_range scale[SIM_MAX_CHANNELS]; /* of types other than SIM_U8 */
    written_groups groups;
    fingerprint_parts parts;
    char fingerprints[DATASET_VERSION][33]; /* of each version of the format */
    int64_t version;                        /* the one that is written */
} frame_content;

static const char *written_fingerprint(const frame_content *f)
{
    return f->fingerprints[f->version - 1];
}

static sim_status describe_frame(sim_dataset_writer *w, frame_content *f)
{
    sim_status st = SIM_OK;
    const sim_dataset_spec *s = &w->spec;

    if (s->type == SIM_U8)
        compute_normalization(w, f->mean, f->std);
    else
        SIM_TRY(sim_writer_statistics(w, f->mean, f->std, f->scale));
    SIM_TRY(sim_writer_finish_groups(w, f->names, &f->groups));
    f->parts = (fingerprint_parts){.encoded = s->encoded,
                                   .n = w->n,
                                   .h = s->encoded ? 0 : s->h,
                                   .w = s->encoded ? 0 : s->w,
                                   .c = s->encoded ? 3 : s->c,
                                   .type = s->type,
                                   .mean = f->mean,
                                   .std = f->std,
                                   .scale = f->scale,
                                   .groups = f->groups.hash,
                                   .digests = w->digest,
                                   .labels = w->n_labels ? w->labels : NULL};
    if (s->type == SIM_U8)
        f->parts.range = s->range;
    if (f->n_classes) {
        SIM_TRY(join_classes(f->classes, f->n_classes, &f->class_text));
        f->parts.classes = sim_hash_bytes(f->class_text, strlen(f->class_text));
    }
    f->version = sim_fingerprint_version(&f->parts);
    for (int64_t v = 1; v <= DATASET_VERSION; v++)
        SIM_TRY(sim_fingerprint(&f->parts, v, f->fingerprints[v - 1]));
done:
    return st;
}

/* Creates the HDF5 file in memory, all but the bytes of the images. */
static sim_status write_frame(const sim_dataset_writer *w, const frame_content *content,
                              int *fd)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    const size_t shape[4] = {w->n, w->spec.h, w->spec.w, w->spec.c};
    const size_t flat = (size_t)w->bytes;
    sim_tensor t = {.type = SIM_U64, .n_dims = 2, .dims = {w->n, 2}, .data = w->digest};

    SIM_TRY(check_file_size_limit(w));
    SIM_TRY(sim_h5_create_frame(&f, fd));
    if (w->spec.encoded)
        SIM_TRY(sim_h5_reserve(f, "/bytes", SIM_U8, 1, &flat));
    else
        SIM_TRY(sim_h5_reserve(f, "/images", w->spec.type, 4, shape));
    SIM_TRY(sim_h5_write(f, "/digest", &t));
    t = (sim_tensor){.type = SIM_U64, .n_dims = 1, .dims = {w->n + 1}, .data = w->offset};
    if (w->spec.encoded)
        SIM_TRY(sim_h5_write(f, "/offset", &t));
    t = (sim_tensor){.type = SIM_I32, .n_dims = 1, .dims = {w->n}, .data = w->labels};
    if (w->n_labels)
        SIM_TRY(sim_h5_write(f, "/labels", &t));
    if (content->groups.n)
        SIM_TRY(write_groups(f, w, &content->groups));
    if (content->n_classes)
        SIM_TRY(write_class_names(f, content->classes, content->n_classes,
                                  content->class_text));
    const image_rows rows = {w, content->names};
    if (content->names)
        SIM_TRY(write_strings(f, "/name", w->n, image_row, &rows));
    SIM_TRY(write_attributes(w, f, &content->parts, written_fingerprint(content)));
    SIM_TRY(sim_h5_finish(&f));
done:
    sim_h5_close(&f);
    return st;
}

/* Copies bytes [from, to) of the frame to the same offset of PATH.part. */
static sim_status copy_frame(sim_dataset_writer *w, int fd, uint64_t from, uint64_t to)
{
    sim_status st = SIM_OK;
    for (uint64_t at = from; at < to;) {
        size_t n = to - at < SIM_WRITER_BUFFER ? (size_t)(to - at) : SIM_WRITER_BUFFER;
        SIM_TRY(sim_file_read_at(fd, "the HDF5 file in memory", at, w->buffer, n));
        SIM_TRY(sim_file_write_at(w->fd, w->part, at, w->buffer, n));
        at += n;
    }
done:
    return st;
}

static sim_status add_frame(sim_dataset_writer *w, int fd)
{
    sim_status st = SIM_OK;
    struct stat about;
    const uint64_t end = SIM_H5_BULK_AT + w->bytes;

    SIM_CHECK(fstat(fd, &about) == 0 && (uint64_t)about.st_size >= end, SIM_E_BUG,
              "%s: the frame is shorter than its images", w->path);
    SIM_TRY(copy_frame(w, fd, end, (uint64_t)about.st_size));
    SIM_TRY(copy_frame(w, fd, 0, SIM_H5_BULK_AT));
    SIM_TRY(sim_file_sync(w->fd, w->part));
    SIM_TRY(sim_file_close(&w->fd, w->part));
done:
    return st;
}

/* Whether a fingerprint is that of the content, in any version of the format. */
static bool is_fingerprint_of(const frame_content *content, const char *found)
{
    for (size_t v = 0; v < DATASET_VERSION; v++)
        if (strcmp(found, content->fingerprints[v]) == 0)
            return true;
    return false;
}

/* Renames a data set of other images or labels that is at the output. */
static sim_status keep_existing(const sim_dataset_writer *w, const frame_content *content)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    char found[64] = "none", old[PATH_MAX];

    bool is = sim_h5_open_read(w->path, &f) == SIM_OK &&
              sim_h5_has_attribute(f, "fingerprint") &&
              sim_h5_read_attribute_text(f, "fingerprint", found, sizeof found) == SIM_OK;
    sim_error_clear();
    const sim_output out = {
        .path = w->path, .option = "--out", .kind = "a data set", .is_own = is};
    SIM_TRY(sim_output_check(&out, old));
    if (!is || is_fingerprint_of(content, found))
        goto done;
    SIM_TRY(sim_file_set_aside(w->path, old));
    sim_log_warn("%s existed with other images or labels (fingerprint %s); it is kept as "
                 "%s (--force replaces it)",
                 w->path, found, old);
done:
    sim_h5_close(&f);
    return st;
}

const int32_t *sim_dataset_written_labels(const sim_dataset_writer *w, size_t *n)
{
    *n = w->n;
    return w->labels;
}

const int32_t *sim_dataset_written_groups(const sim_dataset_writer *w, size_t *n)
{
    *n = w->n;
    return w->groups;
}

sim_status sim_dataset_finish(sim_dataset_writer **out, const char *const *class_names,
                              size_t n_classes, const sim_dataset_names *names,
                              char fingerprint[33])
{
    sim_status st = SIM_OK;
    sim_dataset_writer *w = *out;
    frame_content content = {
        .classes = class_names, .n_classes = n_classes, .names = names};
    int frame = -1;

    SIM_CHECK(w->n > 0, SIM_E_DATA, "%s: no images to write", w->path);
    SIM_CHECK(w->n_labels == 0 || w->n_labels == w->n, SIM_E_DATA,
              "%s: only %zu of %zu images have a label; expected all or none", w->path,
              w->n_labels, w->n);
    SIM_CHECK(w->n_groups == 0 || w->n_groups == w->n, SIM_E_DATA,
              "%s: only %zu of %zu images have a group; expected all or none", w->path,
              w->n_groups, w->n);
    SIM_TRY(sim_writer_flush(w));
    SIM_TRY(describe_frame(w, &content));
    st = write_frame(w, &content, &frame);
    if (st != SIM_OK)
        sim_error_prefix("%s: ", w->path);
    SIM_TRY(st);
    SIM_TRY(add_frame(w, frame));
    if (w->spec.keep_existing)
        SIM_TRY(keep_existing(w, &content));
    SIM_TRY(sim_file_rename(w->part, w->path));
    SIM_TRY(sim_file_sync_directory(w->path));
    memcpy(fingerprint, written_fingerprint(&content), sizeof content.fingerprints[0]);
done:
    sim_free(content.class_text);
    sim_free(content.groups.names);
    SIM_IGNORE(sim_file_close(&frame, "the HDF5 file in memory"));
    writer_release(out, st == SIM_E_IO);
    return st;
}
