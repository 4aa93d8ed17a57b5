/*
 * prep.c - items of a source into a data set: chosen, decoded, resized, written in order.
 *
 * Photos are decoded in parallel, a chunk at a time; memory stays flat, and the bytes are
 * the same for any number of threads.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREP_FORMAT(name) extern const prep_format prep_format_##name;
#include "formats.def"
#undef PREP_FORMAT

static const prep_format *const formats[] = {
#define PREP_FORMAT(name) &prep_format_##name,
#include "formats.def"
#undef PREP_FORMAT
};
enum { N_FORMATS = sizeof formats / sizeof formats[0], CHUNK = 64, JPEG_QUALITY = 92 };

const char *prep_format_names(void)
{
#define PREP_FORMAT(name) "|" #name
    static const char names[] =
#include "formats.def"
        ;
#undef PREP_FORMAT
    return names + 1;
}

static sim_status find_format(const char *source, const prep_options *options,
                              const prep_format **out)
{
    sim_status st = SIM_OK;

    SIM_CHECK(sim_path_exists(source), SIM_E_INPUT, "%s does not exist", source);
    for (int i = 0; i < N_FORMATS; i++) {
        bool wanted = options->format ? strcmp(options->format, formats[i]->name) == 0
                                      : formats[i]->probe(source);
        if (wanted) {
            *out = formats[i];
            goto done;
        }
    }
    SIM_CHECK(!options->format, SIM_E_USAGE, "--format %s is none of %s", options->format,
              prep_format_names());
    SIM_FAIL(SIM_E_DATA, "%s looks like none of %s; say which with --format", source,
             prep_format_names());
done:
    return st;
}

/* ---- a balanced part ---- */

typedef struct {
    uint32_t key, item;
} ticket;

static int by_key(const void *a, const void *b)
{
    const ticket *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Draws `limit` items: each class in turn gives its next one. */
static sim_status choose(const prep_source *s, size_t limit, bool *chosen)
{
    sim_status st = SIM_OK;
    ticket *tickets = NULL;
    size_t *next = NULL, classes = s->labels ? s->n_classes : 1, left = limit;
    bool any = true;

    SIM_TRY(sim_alloc(&tickets, s->n_items, "prep/choose"));
    SIM_TRY(sim_alloc(&next, classes, "prep/choose"));
    for (size_t i = 0; i < s->n_items; i++) {
        sim_random r = {.purpose = SIM_RANDOM_SPLIT, .sample = (uint32_t)i};
        uint32_t w[4];
        sim_random_words(&r, w);
        tickets[i] = (ticket){w[0], (uint32_t)i};
    }
    qsort(tickets, s->n_items, sizeof *tickets, by_key);
    while (left > 0 && any) {
        any = false;
        for (size_t c = 0; c < classes && left > 0; c++) {
            while (next[c] < s->n_items && s->labels &&
                   (size_t)s->labels[tickets[next[c]].item] != c)
                next[c]++;
            if (next[c] == s->n_items)
                continue;
            chosen[tickets[next[c]++].item] = true;
            left--;
            any = true;
        }
    }
done:
    sim_free(tickets);
    sim_free(next);
    return st;
}

/* ---- items ---- */

typedef struct {
    size_t item;
    uint8_t *bytes; /* what is stored */
    size_t n;
    sim_moments moments; /* encoded layout: its part of mean and std */
    sim_status code;
    char why[512];
    size_t warnings;
} work;

typedef struct {
    const prep_format *format;
    const prep_source *source;
    const prep_options *options;
    sim_dataset_writer *writer;
    prep_result *result;
    work chunk[CHUNK];
    size_t n;
} job;

/* Pixels of one size: shorter side, centre. */
static sim_status to_square(const job *j, work *w, const sim_image *photo)
{
    sim_status st = SIM_OK;
    sim_image small = {0}, crop = {0};

    SIM_TRY(sim_image_resize_short(photo, j->options->size, &small));
    SIM_TRY(sim_image_crop_centre(&small, j->options->size, &crop));
    w->bytes = crop.pixels;
    w->n = crop.h * crop.w * crop.c;
    crop.pixels = NULL;
done:
    sim_free(small.pixels);
    sim_free(crop.pixels);
    return st;
}

/* Encoded layout: the file as it came, or resized and encoded anew. */
static sim_status to_encoded(const job *j, work *w, uint8_t **file, size_t n,
                             const sim_image *photo)
{
    sim_status st = SIM_OK;
    sim_image small = {0};

    if (j->options->size == 0) {
        SIM_TRY(sim_image_moments(photo, 0, &w->moments));
        w->bytes = *file;
        w->n = n;
        *file = NULL;
        goto done;
    }
    SIM_TRY(sim_image_resize_short(photo, j->options->size, &small));
    SIM_TRY(sim_image_moments(&small, j->options->size, &w->moments));
    SIM_TRY(sim_image_encode_jpeg(&small, JPEG_QUALITY, &w->bytes, &w->n));
done:
    sim_free(small.pixels);
    return st;
}

static sim_status do_photo(const job *j, work *w)
{
    sim_status st = SIM_OK;
    char name[512];
    const uint8_t *bytes = NULL;
    uint8_t *file = NULL;
    size_t n = 0;
    sim_image photo = {0};
    sim_decode_notes notes = {0};

    j->format->item_name(j->source, w->item, name, sizeof name);
    SIM_TRY(j->format->read(j->source, w->item, &bytes, &n, &file));
    SIM_TRY(sim_image_decode(name, bytes, n, &photo, &notes));
    w->warnings = notes.warnings;
    if (notes.warnings)
        (void)snprintf(w->why, sizeof w->why, "%.250s: %s", name, notes.first);
    if (j->options->size && !j->options->keep_shape)
        st = to_square(j, w, &photo);
    else
        st = to_encoded(j, w, &file, n, &photo);
    if (st != SIM_OK)
        sim_story_prefix("%s: ", name);
done:
    sim_free(photo.pixels);
    sim_free(file);
    return st;
}

static void photo_item(size_t i, void *ctx)
{
    job *j = ctx;
    work *w = &j->chunk[i];
    w->code = do_photo(j, w);
    if (w->code != SIM_OK)
        (void)snprintf(w->why, sizeof w->why, "%s", sim_story());
}

static int32_t label_of(const job *j, size_t item)
{
    return j->source->labels ? j->source->labels[item] : -1;
}

/* A photo that cannot be used: named and skipped, or the end.  Never skipped: a failure of
 * the machine (memory, a disk), or the set would depend on it. */
static sim_status refuse(job *j, const work *w)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!j->options->fail_on_bad && w->code != SIM_E_IO, w->code, "%s", w->why);
    sim_log_warn("skipped: %s", w->why);
    j->result->n_bad++;
done:
    return st;
}

static sim_status write_photo(job *j, work *w)
{
    sim_status st = SIM_OK;
    if (w->code != SIM_OK) {
        SIM_TRY(refuse(j, w));
        goto done;
    }
    if (w->warnings) {
        sim_log_warn("%s (kept)", w->why);
        j->result->n_warned++;
    }
    SIM_TRY(
        sim_dataset_append(j->writer, w->bytes, w->n, label_of(j, w->item), &w->moments));
    j->result->n_images++;
done:
    return st;
}

static sim_status flush_photos(job *j)
{
    sim_status st = SIM_OK;
    sim_for(j->n, photo_item, j);
    for (size_t i = 0; i < j->n; i++) {
        if (st == SIM_OK)
            st = write_photo(j, &j->chunk[i]);
        sim_free(j->chunk[i].bytes);
        j->chunk[i] = (work){0};
    }
    j->n = 0;
    return st;
}

static sim_status add_item(job *j, size_t i)
{
    sim_status st = SIM_OK;
    const uint8_t *bytes = NULL;
    uint8_t *grown = NULL;
    size_t n = 0;

    if (j->source->photos) {
        j->chunk[j->n++] = (work){.item = i};
        if (j->n == CHUNK)
            SIM_TRY(flush_photos(j));
        goto done;
    }
    SIM_TRY(j->format->read(j->source, i, &bytes, &n, &grown));
    SIM_TRY(sim_dataset_append(j->writer, bytes, n, label_of(j, i), NULL));
    j->result->n_images++;
done:
    sim_free(grown);
    return st;
}

static sim_status add_all(job *j)
{
    sim_status st = SIM_OK;
    bool *chosen = NULL;
    size_t n = j->source->n_items;
    bool part = j->options->limit > 0 && j->options->limit < n;

    SIM_TRY(sim_alloc(&chosen, n, "prep/choose"));
    if (part)
        SIM_TRY(choose(j->source, j->options->limit, chosen));
    for (size_t i = 0; i < n; i++) {
        if (!part || chosen[i])
            SIM_TRY(add_item(j, i));
        if (i % 256 == 0)
            sim_log_progress("%zu of %zu", i, n);
    }
    SIM_TRY(flush_photos(j));
done:
    for (size_t i = 0; i < CHUNK; i++)
        sim_free(j->chunk[i].bytes);
    sim_free(chosen);
    return st;
}

static sim_dataset_spec spec_of(const prep_source *s, const prep_options *options,
                                const char *source)
{
    bool encoded = s->photos && (options->size == 0 || options->keep_shape);
    return (sim_dataset_spec){.encoded = encoded,
                              .h = encoded     ? 0
                                   : s->photos ? options->size
                                               : s->h,
                              .w = encoded     ? 0
                                   : s->photos ? options->size
                                               : s->w,
                              .c = s->photos ? 3 : s->c,
                              .source = source,
                              .created_by = options->created_by};
}

static void drop_source(const prep_format *format, prep_source *s)
{
    format->close(s);
    sim_free(s->labels);
    prep_free_lines(s->class_names, s->class_names ? s->n_classes : 0);
}

/* "FORMAT: the last part of the path", for the attribute: no one's home directory. */
static void source_text(const prep_format *format, const char *source, const char *split,
                        char out[200])
{
    size_t n = strlen(source);
    while (n > 1 && source[n - 1] == '/')
        n--;
    size_t lo = n;
    while (lo > 0 && source[lo - 1] != '/')
        lo--;
    (void)snprintf(out, 200, "%s: %.*s (%s)", format->name, (int)(n - lo), source + lo,
                   split);
}

sim_status prep_convert(const char *source, const char *out, const prep_options *options,
                        prep_result *result)
{
    sim_status st = SIM_OK;
    const prep_format *format = NULL;
    prep_source s = {0};
    job *j = NULL;
    char text[200];

    memset(result, 0, sizeof *result);
    SIM_TRY(find_format(source, options, &format));
    st = format->open(source, options, &s);
    if (st != SIM_OK)
        goto done;
    SIM_TRY(sim_new(&j, "prep/job"));
    *j = (job){.format = format, .source = &s, .options = options, .result = result};
    if (s.n_bad) {
        sim_log_warn("skipped: %s (%zu such)", s.first_bad, s.n_bad);
        result->n_bad = s.n_bad;
    }
    source_text(format, source, options->split, text);
    const sim_dataset_spec spec = spec_of(&s, options, text);
    SIM_TRY(sim_dataset_create(out, &spec, &j->writer));
    SIM_TRY(add_all(j));
    SIM_CHECK(result->n_images > 0, SIM_E_DATA, "%s: not one of its %zu images is good",
              source, s.n_items);
    SIM_TRY(sim_dataset_finish(&j->writer, (const char *const *)s.class_names,
                               s.class_names ? s.n_classes : 0, result->fingerprint));
    result->format = format->name;
    result->n_classes = s.labels ? s.n_classes : 0;
done:
    if (j)
        sim_dataset_abandon(&j->writer);
    sim_free(j);
    if (format)
        drop_source(format, &s);
    return st;
}
