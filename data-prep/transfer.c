/*
 * transfer.c - reads, decodes and resizes the items of a source and writes them in order.
 *
 * A pipeline of three chunks: while the threads process one chunk, one of them writes the
 * previous chunk and reads the next one.  Memory is bounded, the result has the same bytes
 * for any number of threads, and each chunk is committed after it is written.
 */
#include "prep.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_CHUNK = 256, /* items */
    MIN_CHUNK = 16,
    CHUNK_BYTES = 64 << 20, /* target size of a chunk; photos differ much in size */
    JPEG_QUALITY = 92
};

typedef struct {
    size_t item;
    uint8_t *file;        /* bytes read; NULL if they are borrowed from the source */
    const uint8_t *bytes; /* [n], bytes read */
    size_t n;
    uint8_t *output; /* bytes to store; NULL: the bytes read */
    sim_dataset_item stored;
    sim_status code;
    char message[512]; /* error or warning */
    size_t warnings;
    uint8_t largest; /* value of 8 bits */
    bool clipped;    /* values are outside of the range */
    bool has_more;   /* pages or frames of the file */
} task;

typedef struct {
    task items[MAX_CHUNK];
    size_t n, next; /* next: first item after the chunk */
} chunk;

typedef struct {
    prep_transfer transfer;
    prep_result *result;
    sim_dataset_mark mark;
    chunk *previous, *current, *next;
    size_t cursor;            /* next item to read */
    size_t n_stored, n_bytes; /* by this process, to estimate the size of items */
    size_t n_all, n_done;     /* selected items; completed ones */
    size_t n_recovered;       /* completed ones of an interrupted conversion */
    sim_progress_line progress;
    sim_status code; /* of reading and writing in this round */
    char message[4096];
} pipeline;

/* ---- one item ---- */

/* Measures values of 8 bits and maps them to the range of the source. */
static void map_values(const pipeline *l, task *w, const uint8_t *from, size_t n,
                       uint8_t *to)
{
    const sim_value_range *range = &l->transfer.source->range;
    const uint8_t *map = l->transfer.map;
    uint8_t lo = UINT8_MAX, hi = 0;

    for (size_t i = 0; i < n; i++) {
        lo = from[i] < lo ? from[i] : lo;
        hi = from[i] > hi ? from[i] : hi;
    }
    w->largest = hi;
    w->clipped = map && (lo < range->lo || hi > range->hi);
    for (size_t i = 0; map && i < n; i++)
        to[i] = map[from[i]];
}

/* The samples of the channels to keep, [pixels][n_channels]. */
static void select_channels(const prep_options *o, const sim_image *image, void *out)
{
    const size_t bytes = sim_type_bytes(image->type), n = image->h * image->w;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < o->n_channels; k++)
            memcpy((char *)out + (i * o->n_channels + k) * bytes,
                   (const char *)image->pixels + (i * image->c + o->channels[k]) * bytes,
                   bytes);
}

/* Replaces the samples by those of the channels of --channels. */
static sim_status keep_channels(const prep_options *o, sim_image *image)
{
    sim_status st = SIM_OK;
    void *kept = NULL;

    if (o->n_channels == 0)
        goto done;
    SIM_TRY(sim_alloc_bytes(image->h * image->w * o->n_channels,
                            sim_type_bytes(image->type), "prep/channels", &kept));
    select_channels(o, image, kept);
    sim_free(image->pixels);
    image->pixels = kept;
    image->c = o->n_channels;
done:
    return st;
}

/* "photos/cat/1.jpg" of a file, "photos.tar: cat/1.jpg" of an archive. */
static void name_for_message(const prep_transfer *t, size_t item, char *out,
                             size_t out_bytes)
{
    char name[512], path[PATH_MAX];

    if (t->format->item_path && t->format->item_path(t->source, item, path) == SIM_OK) {
        (void)snprintf(out, out_bytes, "%.900s", path);
        return;
    }
    t->format->item_name(t->source, item, name, sizeof name);
    (void)snprintf(out, out_bytes, "%.200s%s%s", t->path ? t->path : "",
                   t->path ? ": " : "", name);
}

static sim_status check_finite(const sim_image *image)
{
    sim_status st = SIM_OK;
    const size_t i = sim_image_find_unusable(image), n = image->h * image->w * image->c;

    SIM_CHECK(
        i == n, SIM_E_DATA,
        "pixel %zu, %zu, channel %zu is %g, expected a number of at most %g in size",
        i / image->c % image->w, i / image->c / image->w, i % image->c,
        (double)((const float *)image->pixels)[i], SIM_MAX_SAMPLE);
done:
    return st;
}

/* The samples of an item that is not a file, as an image of its own. */
static sim_status copy_samples(const pipeline *l, const task *w, sim_image *out)
{
    sim_status st = SIM_OK;
    const prep_source *s = l->transfer.source;

    *out = (sim_image){.h = s->h, .w = s->w, .c = s->c, .type = s->type};
    SIM_TRY(sim_alloc_bytes(w->n, 1, "prep/pixels", &out->pixels));
    memcpy(out->pixels, w->bytes, w->n);
done:
    return st;
}

static sim_status process_samples(const pipeline *l, task *w)
{
    sim_status st = SIM_OK;
    char name[1024];
    sim_image image = {0};

    SIM_TRY(copy_samples(l, w, &image));
    SIM_TRY(keep_channels(l->transfer.options, &image));
    st = check_finite(&image);
    name_for_message(&l->transfer, w->item, name, sizeof name);
    if (st != SIM_OK)
        sim_error_prefix("%s: ", name);
    SIM_TRY(st);
    w->stored.n = image.h * image.w * image.c * sim_type_bytes(image.type);
    if (image.type == SIM_U8)
        map_values(l, w, image.pixels, w->stored.n, image.pixels);
    w->output = image.pixels;
    image.pixels = NULL;
done:
    sim_free(image.pixels);
    return st;
}

static sim_status process_pixels(const pipeline *l, task *w)
{
    sim_status st = SIM_OK;

    if (l->transfer.source->type != SIM_U8 || l->transfer.options->n_channels) {
        SIM_TRY(process_samples(l, w));
        goto done;
    }
    if (l->transfer.map)
        SIM_TRY(sim_alloc(&w->output, w->n, "prep/pixels"));
    map_values(l, w, w->bytes, w->n, w->output);
done:
    return st;
}

/* Resizes the shorter side and crops the centre. */
static sim_status crop_photo(const pipeline *l, task *w, const sim_image *photo)
{
    sim_status st = SIM_OK;
    sim_image small = {0}, crop = {0};

    SIM_TRY(sim_image_resize_short(photo, l->transfer.options->size, &small));
    SIM_TRY(sim_image_crop_centre(&small, l->transfer.options->size, &crop));
    w->output = crop.pixels;
    w->stored.n = crop.h * crop.w * crop.c * sim_type_bytes(crop.type);
    crop.pixels = NULL;
done:
    sim_free(small.pixels);
    sim_free(crop.pixels);
    return st;
}

/* Encoded layout: the unchanged file, or the photo resized and encoded as JPEG. */
static sim_status encode_photo(const pipeline *l, task *w, const sim_image *photo)
{
    sim_status st = SIM_OK;
    sim_image small = {0};

    if (l->transfer.options->size == 0) {
        SIM_TRY(sim_image_moments(photo, 0, &w->stored.moments));
        w->stored.n = w->n;
        goto done;
    }
    SIM_TRY(sim_image_resize_short(photo, l->transfer.options->size, &small));
    SIM_TRY(sim_image_moments(&small, l->transfer.options->size, &w->stored.moments));
    SIM_TRY(sim_image_encode_jpeg(&small, JPEG_QUALITY, &w->output, &w->stored.n));
done:
    sim_free(small.pixels);
    return st;
}

static sim_status store_photo(const pipeline *l, task *w, const sim_image *photo)
{
    const prep_options *o = l->transfer.options;
    return o->size && !o->keep_shape ? crop_photo(l, w, photo)
                                     : encode_photo(l, w, photo);
}

/* Checks, selects and scales the samples of a decoded photo. */
static sim_status process_values(const pipeline *l, task *w,
                                 const sim_decode_notes *notes, sim_image *photo)
{
    sim_status st = SIM_OK;

    SIM_TRY(keep_channels(l->transfer.options, photo));
    SIM_TRY(check_finite(photo));
    if (notes->type == SIM_U8 && photo->type == SIM_U8)
        map_values(l, w, photo->pixels, photo->h * photo->w * photo->c, photo->pixels);
done:
    return st;
}

static sim_status process_photo(const pipeline *l, task *w)
{
    sim_status st = SIM_OK;
    char name[1024];
    sim_image photo = {0};
    sim_decode_notes notes = {0};

    name_for_message(&l->transfer, w->item, name, sizeof name);
    const sim_image_target target = {.type = l->transfer.source->type,
                                     .c = l->transfer.source->c,
                                     .range = l->transfer.source->range,
                                     .pages = l->transfer.options->pages};
    SIM_TRY(sim_image_decode(name, w->bytes, w->n, &target, &photo, &notes));
    w->warnings = notes.warnings;
    w->has_more = notes.has_more;
    if (notes.warnings)
        (void)snprintf(w->message, sizeof w->message, "%.250s: %s", name, notes.first);
    st = process_values(l, w, &notes, &photo);
    if (st == SIM_OK)
        st = store_photo(l, w, &photo);
    if (st != SIM_OK)
        sim_error_prefix("%s: ", name);
done:
    sim_free(photo.pixels);
    return st;
}

static sim_status read_item(const pipeline *l, task *w)
{
    return l->transfer.format->read(l->transfer.source, w->item, &w->bytes, &w->n,
                                    &w->file);
}

/* The label or group of an item; -1 without labels or groups. */
static int32_t number_of(const int32_t *numbers, size_t item)
{
    return numbers ? numbers[item] : -1;
}

static sim_status process_item(const pipeline *l, task *w)
{
    sim_status st = SIM_OK;

    if (!l->transfer.format->sequential)
        SIM_TRY(read_item(l, w));
    w->stored.n = w->n;
    w->stored.source = w->item;
    w->stored.label = number_of(l->transfer.source->labels, w->item);
    w->stored.group = number_of(l->transfer.source->groups, w->item);
    SIM_TRY(l->transfer.source->photos ? process_photo(l, w) : process_pixels(l, w));
    w->stored.bytes = w->output ? w->output : w->bytes;
    sim_dataset_measure(l->transfer.spec, &w->stored);
    if (w->output)
        SIM_FREE(w->file);
done:
    return st;
}

/* ---- chunks ---- */

static void clear_chunk(chunk *c)
{
    for (size_t i = 0; i < c->n; i++) {
        sim_free(c->items[i].file);
        sim_free(c->items[i].output);
        c->items[i] = (task){0};
    }
    c->n = 0;
}

/* Every process warns of its own items. */
static void warn_item(const pipeline *l, const char *action, const char *message)
{
    if (l->transfer.options->part == 0)
        sim_log_warn("%s: %s", action, message);
    else
        sim_log_each("warning: %s: %s", action, message);
}

/* Skips a bad item with a warning, or fails.  Failures of the machine (memory, disk) and of the build (a
 * format that it lacks) are never skipped, because the data set must not depend on them. */
static sim_status skip_item(pipeline *l, const task *w)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!l->transfer.options->fail_on_bad && w->code != SIM_E_IO &&
                  w->code != SIM_E_INSTALL,
              w->code, "%s", w->message);
    warn_item(l, "skipped", w->message);
    l->mark.n_bad++;
done:
    return st;
}

static sim_status write_item(pipeline *l, const task *w)
{
    sim_status st = SIM_OK;
    if (w->code != SIM_OK) {
        SIM_TRY(skip_item(l, w));
        goto done;
    }
    if (w->warnings) {
        warn_item(l, "kept", w->message);
        l->mark.n_warned++;
    }
    SIM_TRY(sim_dataset_append_item(l->transfer.writer, &w->stored));
    l->mark.largest = w->largest > l->mark.largest ? w->largest : l->mark.largest;
    l->mark.n_clipped += w->clipped;
    l->mark.n_paged += w->has_more;
    l->n_stored++;
    l->n_bytes += w->stored.n;
    l->result->n_images++;
done:
    return st;
}

static sim_status write_chunk(pipeline *l)
{
    sim_status st = SIM_OK;
    if (l->previous->n == 0)
        goto done;
    for (size_t i = 0; i < l->previous->n; i++)
        SIM_TRY(write_item(l, &l->previous->items[i]));
    l->n_done += l->previous->n;
    l->mark.next = l->previous->next;
    SIM_TRY(sim_dataset_commit(l->transfer.writer, &l->mark));
    sim_progress_line_report(&l->progress, l->n_done);
    clear_chunk(l->previous);
done:
    return st;
}

/* Number of items of the mean size so far that make a chunk. */
static size_t chunk_items(const pipeline *l)
{
    size_t mean = l->n_stored ? l->n_bytes / l->n_stored : 1 << 18;
    size_t n = CHUNK_BYTES / (mean + 1);
    return n > MAX_CHUNK ? MAX_CHUNK : n < MIN_CHUNK ? MIN_CHUNK : n;
}

static sim_status read_chunk(pipeline *l)
{
    sim_status st = SIM_OK;
    chunk *c = l->next;
    size_t max_items = chunk_items(l), bytes = 0;

    while (l->cursor < l->transfer.hi && c->n < max_items && bytes < CHUNK_BYTES) {
        size_t i = l->cursor++;
        if (l->transfer.selected && !l->transfer.selected[i])
            continue;
        task *w = &c->items[c->n++];
        w->item = i;
        if (l->transfer.format->sequential)
            SIM_TRY(read_item(l, w));
        bytes += w->file ? w->n : 0;
    }
    c->next = l->cursor;
done:
    return st;
}

static sim_status write_and_read(pipeline *l)
{
    sim_status st = SIM_OK;
    SIM_TRY(write_chunk(l));
    SIM_TRY(read_chunk(l));
done:
    return st;
}

/* Iteration 0 of a round reads and writes; each other one processes an item. */
static void run_iteration(size_t i, void *ctx)
{
    pipeline *l = ctx;
    if (i == 0) {
        l->code = write_and_read(l);
        if (l->code != SIM_OK)
            (void)snprintf(l->message, sizeof l->message, "%s", sim_error_message());
        return;
    }
    task *w = &l->current->items[i - 1];
    w->code = process_item(l, w);
    if (w->code != SIM_OK)
        (void)snprintf(w->message, sizeof w->message, "%s", sim_error_message());
}

static sim_status run_round(pipeline *l)
{
    sim_status st = SIM_OK;
    sim_for(1 + l->current->n, run_iteration, l);
    SIM_CHECK(l->code == SIM_OK, l->code, "%s", l->message);
    chunk *cleared = l->previous;
    l->previous = l->current;
    l->current = l->next;
    l->next = cleared;
done:
    return st;
}

/* Counts the items and skips those that the writer has recovered. */
static void begin_transfer(pipeline *l)
{
    const prep_transfer *w = &l->transfer;
    l->mark = sim_dataset_resumed(w->writer, &l->result->n_images);
    l->cursor = l->mark.next < w->lo   ? w->lo
                : l->mark.next < w->hi ? l->mark.next
                                       : w->hi;
    for (size_t i = w->lo; i < w->hi; i++) {
        l->n_all += !w->selected || w->selected[i];
        l->n_done += i < l->cursor && (!w->selected || w->selected[i]);
    }
    l->n_recovered = l->n_done;
    if (l->n_recovered)
        sim_log("resuming after %zu of %zu images", l->n_recovered, l->n_all);
    l->progress = sim_progress_line_begin(NULL, "images", l->n_done, l->n_all);
}

sim_status sim_prep_transfer(const prep_transfer *transfer, prep_result *result)
{
    sim_status st = SIM_OK;
    chunk *chunks = NULL;
    pipeline *l = NULL;

    SIM_TRY(sim_alloc(&chunks, 3, "prep/chunks"));
    SIM_TRY(sim_new(&l, "prep/chunks"));
    *l = (pipeline){.transfer = *transfer,
                    .result = result,
                    .previous = &chunks[0],
                    .current = &chunks[1],
                    .next = &chunks[2]};
    begin_transfer(l);
    do
        SIM_TRY(run_round(l));
    while (l->previous->n > 0 || l->current->n > 0);
    if (l->mark.next < transfer->hi) { /* the last items are not selected */
        l->mark.next = transfer->hi;
        SIM_TRY(sim_dataset_commit(transfer->writer, &l->mark));
    }
    result->n_bad += l->mark.n_bad;
    result->n_warned += l->mark.n_warned;
    result->n_clipped += l->mark.n_clipped;
    result->n_paged += l->mark.n_paged;
    result->largest = (unsigned)l->mark.largest;
done:
    for (size_t i = 0; chunks && i < 3; i++)
        clear_chunk(&chunks[i]);
    sim_free(chunks);
    sim_free(l);
    return st;
}
