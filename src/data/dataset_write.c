/*
 * dataset_write.c - making a data set: spool the images, then frame them in HDF5.
 *
 * How many images are good is known only at the end, and HDF5 must not do bulk I/O; so the
 * bytes go to PATH.part first and are copied to their place when the frame is made.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/memory.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct sim_dataset_writer {
    sim_dataset_spec spec;
    char path[PATH_MAX], part[PATH_MAX], frame[PATH_MAX];
    int fd;
    size_t n, room;
    uint64_t bytes;
    uint64_t *digest, *offset; /* [n][2], [n + 1] */
    int32_t *labels;
    size_t n_labels;
    sim_moments moments;
    uint8_t *buffer; /* gathers small writes */
    size_t buffered;
};

enum { BUFFER = 4 << 20 };

sim_status sim_dataset_create(const char *path, const sim_dataset_spec *spec,
                              sim_dataset_writer **out)
{
    sim_status st = SIM_OK;
    sim_dataset_writer *w = NULL;

    SIM_TRY(sim_new(&w, "data/writer"));
    w->fd = -1;
    w->spec = *spec;
    int n = snprintf(w->path, sizeof w->path, "%s", path);
    SIM_CHECK(n > 0 && (size_t)n + 16 < sizeof w->path, SIM_E_IO,
              "%s: the path is too long", path);
    (void)snprintf(w->part, sizeof w->part, "%.*s.part", n, path);
    (void)snprintf(w->frame, sizeof w->frame, "%.*s.frame", n, path);
    SIM_TRY(sim_file_remove(w->part));
    SIM_TRY(sim_file_remove(w->frame));
    SIM_TRY(sim_alloc(&w->buffer, BUFFER, "data/writer"));
    SIM_TRY(sim_file_open_append(w->part, &w->fd));
    *out = w;
    w = NULL;
done:
    sim_dataset_abandon(&w);
    return st;
}

void sim_dataset_abandon(sim_dataset_writer **out)
{
    sim_dataset_writer *w = *out;
    if (!w)
        return;
    SIM_IGNORE(sim_file_close(&w->fd, w->part));
    if (w->part[0])
        SIM_IGNORE(sim_file_remove(w->part));
    if (w->frame[0])
        SIM_IGNORE(sim_file_remove(w->frame));
    sim_free(w->digest);
    sim_free(w->offset);
    sim_free(w->labels);
    sim_free(w->buffer);
    sim_free(w);
    *out = NULL;
}

static sim_status flush(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    /* The file is open for appending: it goes to the end, whatever the offset. */
    SIM_TRY(sim_file_write_at(w->fd, w->part, w->bytes - w->buffered, w->buffer,
                              w->buffered));
    w->buffered = 0;
done:
    return st;
}

static sim_status spool(sim_dataset_writer *w, const uint8_t *bytes, size_t n)
{
    sim_status st = SIM_OK;
    while (n > 0) {
        size_t k = BUFFER - w->buffered < n ? BUFFER - w->buffered : n;
        memcpy(w->buffer + w->buffered, bytes, k);
        w->buffered += k;
        w->bytes += k;
        bytes += k;
        n -= k;
        if (w->buffered == BUFFER)
            SIM_TRY(flush(w));
    }
done:
    return st;
}

static sim_status make_room(sim_dataset_writer *w)
{
    sim_status st = SIM_OK;
    if (w->n < w->room)
        goto done;
    w->room = w->room ? 2 * w->room : 4096;
    SIM_TRY(sim_grow(&w->digest, 2 * w->room, "data/writer"));
    SIM_TRY(sim_grow(&w->labels, w->room, "data/writer"));
    SIM_TRY(sim_grow(&w->offset, w->room + 1, "data/writer"));
done:
    return st;
}

static void add_pixels(sim_moments *m, const uint8_t *p, size_t pixels, size_t c)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t k = 0; k < c; k++) {
            m->sum[k] += p[i * c + k];
            m->squares[k] += (uint64_t)p[i * c + k] * p[i * c + k];
        }
    m->pixels += pixels;
}

static void add_moments(sim_moments *m, const sim_moments *more)
{
    m->pixels += more->pixels;
    for (size_t k = 0; k < 3; k++) {
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

sim_status sim_dataset_append(sim_dataset_writer *w, const uint8_t *bytes, size_t n,
                              int32_t label, const sim_moments *moments)
{
    sim_status st = SIM_OK;

    SIM_TRY(make_room(w));
    if (w->spec.encoded) {
        add_moments(&w->moments, moments);
    } else {
        SIM_ASSERT(n == w->spec.h * w->spec.w * w->spec.c);
        add_pixels(&w->moments, bytes, w->spec.h * w->spec.w, w->spec.c);
    }
    sim_hash h = sim_hash_bytes(bytes, n);
    w->digest[2 * w->n] = h.low;
    w->digest[2 * w->n + 1] = h.high;
    w->labels[w->n] = label;
    w->n_labels += label >= 0;
    w->offset[w->n] = w->bytes;
    SIM_TRY(spool(w, bytes, n));
    w->n++;
    w->offset[w->n] = w->bytes;
done:
    return st;
}

static sim_status write_attributes(const sim_dataset_writer *w, sim_h5 *f,
                                   char fingerprint[33])
{
    sim_status st = SIM_OK;
    size_t c = w->spec.encoded ? 3 : w->spec.c;
    double mean[3], std[3];
    int64_t version = 1, n = (int64_t)w->n;
    sim_tensor number = {.type = SIM_I64, .data = &version};
    sim_tensor row = {.type = SIM_F64, .n_dims = 1, .dims = {c}, .data = mean};

    for (size_t k = 0; k < c; k++) {
        double m = (double)w->moments.sum[k] / (double)w->moments.pixels;
        double s = (double)w->moments.squares[k] / (double)w->moments.pixels - m * m;
        mean[k] = m / 255;
        std[k] = sqrt(s > 0 ? s : 0) / 255;
    }
    SIM_TRY(sim_h5_write_attribute_text(f, "format", "simile-dataset"));
    SIM_TRY(sim_h5_write_attribute(f, "format_version", &number));
    number.data = &n;
    SIM_TRY(sim_h5_write_attribute(f, "num_images", &number));
    SIM_TRY(sim_h5_write_attribute(f, "mean", &row));
    row.data = std;
    SIM_TRY(sim_h5_write_attribute(f, "std", &row));
    SIM_TRY(sim_h5_write_attribute_text(f, "source", w->spec.source));
    SIM_TRY(sim_h5_write_attribute_text(f, "created_by", w->spec.created_by));
    SIM_TRY(sim_h5_write_attribute_text(f, "fingerprint", fingerprint));
done:
    return st;
}

static sim_status write_names(sim_h5 *f, const char *const *names, size_t n)
{
    sim_status st = SIM_OK;
    char *text = NULL, *longer = NULL;

    SIM_TRY(sim_text_copy("", "data/names", &text));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(sim_text_format("data/names", &longer, "%s%s\n", text, names[i]));
        sim_free(text);
        text = longer;
        longer = NULL;
    }
    SIM_TRY(sim_h5_write_text(f, "/class_names", text));
done:
    sim_free(text);
    return st;
}

static sim_status fingerprint_of(const sim_dataset_writer *w, char out[33])
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;

    SIM_TRY(sim_hasher_create(&h));
    sim_hasher_add(h, w->digest, w->n * 2 * sizeof *w->digest);
    if (w->n_labels)
        sim_hasher_add(h, w->labels, w->n * sizeof *w->labels);
    sim_hash_hex(sim_hasher_value(h), out);
done:
    sim_hasher_destroy(&h);
    return st;
}

/* Everything but the bulk bytes, and where those go. */
static sim_status write_frame(const sim_dataset_writer *w, const char *const *names,
                              size_t n_names, char fingerprint[33], uint64_t *at)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    const size_t shape[4] = {w->n, w->spec.h, w->spec.w, w->spec.c};
    const size_t flat = (size_t)w->bytes;
    sim_tensor t = {.type = SIM_U64, .n_dims = 2, .dims = {w->n, 2}, .data = w->digest};

    SIM_TRY(sim_h5_create_file(w->frame, &f));
    if (w->spec.encoded)
        SIM_TRY(sim_h5_reserve(f, "/bytes", 1, &flat, at));
    else
        SIM_TRY(sim_h5_reserve(f, "/images", 4, shape, at));
    SIM_TRY(sim_h5_write(f, "/digest", &t));
    t = (sim_tensor){.type = SIM_U64, .n_dims = 1, .dims = {w->n + 1}, .data = w->offset};
    if (w->spec.encoded)
        SIM_TRY(sim_h5_write(f, "/offset", &t));
    t = (sim_tensor){.type = SIM_I32, .n_dims = 1, .dims = {w->n}, .data = w->labels};
    if (w->n_labels)
        SIM_TRY(sim_h5_write(f, "/labels", &t));
    if (n_names)
        SIM_TRY(write_names(f, names, n_names));
    SIM_TRY(fingerprint_of(w, fingerprint));
    SIM_TRY(write_attributes(w, f, fingerprint));
    SIM_TRY(sim_h5_finish(&f));
done:
    sim_h5_close(&f);
    return st;
}

static sim_status copy_bytes(sim_dataset_writer *w, uint64_t to)
{
    sim_status st = SIM_OK;
    int in = -1, out = -1;
    uint64_t length = 0;

    SIM_TRY(sim_file_open_read(w->part, &in, &length));
    SIM_TRY(sim_file_open_update(w->frame, &out));
    for (uint64_t at = 0; at < w->bytes;) {
        size_t n = w->bytes - at < BUFFER ? (size_t)(w->bytes - at) : BUFFER;
        SIM_TRY(sim_file_read_at(in, w->part, at, w->buffer, n));
        SIM_TRY(sim_file_write_at(out, w->frame, to + at, w->buffer, n));
        at += n;
    }
    SIM_TRY(sim_file_sync(out, w->frame));
    SIM_TRY(sim_file_close(&out, w->frame));
done:
    SIM_IGNORE(sim_file_close(&in, w->part));
    SIM_IGNORE(sim_file_close(&out, w->frame));
    return st;
}

sim_status sim_dataset_finish(sim_dataset_writer **out, const char *const *class_names,
                              size_t n_classes, char fingerprint[33])
{
    sim_status st = SIM_OK;
    sim_dataset_writer *w = *out;
    uint64_t at = 0;

    SIM_CHECK(w->n > 0, SIM_E_DATA, "%s: there is no image to write", w->path);
    SIM_CHECK(w->n_labels == 0 || w->n_labels == w->n, SIM_E_DATA,
              "%s: %zu of %zu images have a label", w->path, w->n_labels, w->n);
    SIM_TRY(flush(w));
    SIM_TRY(write_frame(w, class_names, n_classes, fingerprint, &at));
    SIM_TRY(copy_bytes(w, at));
    SIM_TRY(sim_file_rename(w->frame, w->path));
    w->frame[0] = '\0';
done:
    sim_dataset_abandon(out);
    return st;
}
