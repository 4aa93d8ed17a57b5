/*
 * transfer.c - items of a source into the data set: read, decoded, resized, written in order.
 *
 * Three chunks are under way: while the threads work on one, one thread writes the chunk
 * before and reads the chunk behind.  Memory stays flat, the bytes are the same for any
 * number of threads, and every chunk that is written is committed.
 */
#include "prep.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <string.h>

enum {
    CHUNK = 256,
    CHUNK_LEAST = 16,
    CHUNK_BYTES = 64 << 20, /* aimed at: photos as they come differ much in size */
    JPEG_QUALITY = 92,
    RECORD_S = 60 /* between lines of progress in a batch log */
};

typedef struct {
    size_t item;
    uint8_t *file;          /* what was read, where it is ours */
    const uint8_t *bytes;   /* that, or borrowed */
    uint8_t *made;          /* what is stored, where it is not what was read */
    size_t n;               /* of bytes */
    sim_dataset_item store; /* what is stored */
    sim_status code;
    char why[512];
    size_t warnings;
} work;

typedef struct {
    work items[CHUNK];
    size_t n, next; /* next: the item behind it */
} chunk;

typedef struct {
    prep_way way;
    prep_result *result;
    sim_dataset_mark mark;
    chunk *past, *now, *ahead;
    size_t cursor;            /* next item to look at */
    size_t n_stored, n_bytes; /* in this process, for the size of chunks */
    size_t n_all, n_done;     /* items chosen, and behind us */
    size_t n_before;          /* of those done, by a process before */
    double begun_s, progress_s, record_s;
    sim_status code; /* of reading and writing, which run beside the work */
    char why[4096];
} line;

/* ---- one item ---- */

/* Pixels of one size: shorter side, centre. */
static sim_status to_square(const line *l, work *w, const sim_image *photo)
{
    sim_status st = SIM_OK;
    sim_image small = {0}, crop = {0};

    SIM_TRY(sim_image_resize_short(photo, l->way.options->size, &small));
    SIM_TRY(sim_image_crop_centre(&small, l->way.options->size, &crop));
    w->made = crop.pixels;
    w->store.n = crop.h * crop.w * crop.c;
    crop.pixels = NULL;
done:
    sim_free(small.pixels);
    sim_free(crop.pixels);
    return st;
}

/* Encoded layout: the file as it came, or resized and encoded anew. */
static sim_status to_encoded(const line *l, work *w, const sim_image *photo)
{
    sim_status st = SIM_OK;
    sim_image small = {0};

    if (l->way.options->size == 0) {
        SIM_TRY(sim_image_moments(photo, 0, &w->store.moments));
        w->store.n = w->n;
        goto done;
    }
    SIM_TRY(sim_image_resize_short(photo, l->way.options->size, &small));
    SIM_TRY(sim_image_moments(&small, l->way.options->size, &w->store.moments));
    SIM_TRY(sim_image_encode_jpeg(&small, JPEG_QUALITY, &w->made, &w->store.n));
done:
    sim_free(small.pixels);
    return st;
}

static sim_status do_photo(const line *l, work *w)
{
    sim_status st = SIM_OK;
    char name[512];
    sim_image photo = {0};
    sim_decode_notes notes = {0};

    l->way.format->item_name(l->way.source, w->item, name, sizeof name);
    SIM_TRY(sim_image_decode(name, w->bytes, w->n, &photo, &notes));
    w->warnings = notes.warnings;
    if (notes.warnings)
        (void)snprintf(w->why, sizeof w->why, "%.250s: %s", name, notes.first);
    st = l->way.options->size && !l->way.options->keep_shape ? to_square(l, w, &photo)
                                                             : to_encoded(l, w, &photo);
    if (st != SIM_OK)
        sim_error_prefix("%s: ", name);
done:
    sim_free(photo.pixels);
    return st;
}

static sim_status read_item(const line *l, work *w)
{
    return l->way.format->read(l->way.source, w->item, &w->bytes, &w->n, &w->file);
}

static sim_status do_item(const line *l, work *w)
{
    sim_status st = SIM_OK;

    if (!l->way.format->in_order)
        SIM_TRY(read_item(l, w));
    w->store.n = w->n;
    w->store.label = l->way.source->labels ? l->way.source->labels[w->item] : -1;
    if (l->way.source->photos)
        SIM_TRY(do_photo(l, w));
    w->store.bytes = w->made ? w->made : w->bytes;
    sim_dataset_measure(l->way.spec, &w->store);
    if (w->made)
        SIM_FREE(w->file);
done:
    return st;
}

/* ---- chunks ---- */

static void empty(chunk *c)
{
    for (size_t i = 0; i < c->n; i++) {
        sim_free(c->items[i].file);
        sim_free(c->items[i].made);
        c->items[i] = (work){0};
    }
    c->n = 0;
}

/* Of several processes each names its own. */
static void warn(const line *l, const char *what, const char *why)
{
    if (l->way.options->part == 0)
        sim_log_warn("%s: %s", what, why);
    else
        sim_log_each("warning: %s: %s", what, why);
}

/* An item that cannot be used: named and skipped, or the end.  Never skipped: a failure of
 * the machine (memory, a disk), or the set would depend on it. */
static sim_status refuse(line *l, const work *w)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!l->way.options->fail_on_bad && w->code != SIM_E_IO, w->code, "%s", w->why);
    warn(l, "skipped", w->why);
    l->mark.n_bad++;
done:
    return st;
}

static sim_status write_item(line *l, const work *w)
{
    sim_status st = SIM_OK;
    if (w->code != SIM_OK) {
        SIM_TRY(refuse(l, w));
        goto done;
    }
    if (w->warnings) {
        warn(l, "kept", w->why);
        l->mark.n_warned++;
    }
    SIM_TRY(sim_dataset_append_item(l->way.writer, &w->store));
    l->n_stored++;
    l->n_bytes += w->store.n;
    l->result->n_images++;
done:
    return st;
}

/* "1280 of 100000 images, 812 images/s, 2m1s left" */
static void tell(line *l)
{
    char text[128], left[32];
    double now_s = sim_clock_s(), spent_s = now_s - l->begun_s;
    if (now_s - l->progress_s < 0.5)
        return;
    l->progress_s = now_s;
    double per_s = (double)(l->n_done - l->n_before) / spent_s;
    sim_clock_span((double)(l->n_all - l->n_done) / per_s, left, sizeof left);
    (void)snprintf(text, sizeof text, "%zu of %zu images, %.0f images/s, %s left",
                   l->n_done, l->n_all, per_s, left);
    sim_log_progress("%s", text);
    if (now_s - l->record_s < RECORD_S)
        return;
    l->record_s = now_s;
    sim_log_record("%s", text);
}

static sim_status write_past(line *l)
{
    sim_status st = SIM_OK;
    if (l->past->n == 0)
        goto done;
    for (size_t i = 0; i < l->past->n; i++)
        SIM_TRY(write_item(l, &l->past->items[i]));
    l->n_done += l->past->n;
    l->mark.next = l->past->next;
    SIM_TRY(sim_dataset_commit(l->way.writer, &l->mark));
    tell(l);
    empty(l->past);
done:
    return st;
}

/* How many items of the size seen so far make a chunk. */
static size_t chunk_items(const line *l)
{
    size_t mean = l->n_stored ? l->n_bytes / l->n_stored : 1 << 18;
    size_t n = CHUNK_BYTES / (mean + 1);
    return n > CHUNK ? CHUNK : n < CHUNK_LEAST ? CHUNK_LEAST : n;
}

static sim_status fill_ahead(line *l)
{
    sim_status st = SIM_OK;
    chunk *c = l->ahead;
    size_t most = chunk_items(l), bytes = 0;

    while (l->cursor < l->way.hi && c->n < most && bytes < CHUNK_BYTES) {
        size_t i = l->cursor++;
        if (l->way.chosen && !l->way.chosen[i])
            continue;
        work *w = &c->items[c->n++];
        w->item = i;
        if (l->way.format->in_order)
            SIM_TRY(read_item(l, w));
        bytes += w->file ? w->n : 0;
    }
    c->next = l->cursor;
done:
    return st;
}

static sim_status serve(line *l)
{
    sim_status st = SIM_OK;
    SIM_TRY(write_past(l));
    SIM_TRY(fill_ahead(l));
done:
    return st;
}

/* Item 0 of a round is the reading and writing; the others are images. */
static void do_part(size_t i, void *ctx)
{
    line *l = ctx;
    if (i == 0) {
        l->code = serve(l);
        if (l->code != SIM_OK)
            (void)snprintf(l->why, sizeof l->why, "%s", sim_error_message());
        return;
    }
    work *w = &l->now->items[i - 1];
    w->code = do_item(l, w);
    if (w->code != SIM_OK)
        (void)snprintf(w->why, sizeof w->why, "%s", sim_error_message());
}

static sim_status do_round(line *l)
{
    sim_status st = SIM_OK;
    sim_for(1 + l->now->n, do_part, l);
    SIM_CHECK(l->code == SIM_OK, l->code, "%s", l->why);
    chunk *done_with = l->past;
    l->past = l->now;
    l->now = l->ahead;
    l->ahead = done_with;
done:
    return st;
}

/* Counts what is to do, and takes up what was done before. */
static void begin(line *l)
{
    const prep_way *w = &l->way;
    l->mark = sim_dataset_resumed(w->writer, &l->result->n_images);
    l->cursor = l->mark.next < w->lo   ? w->lo
                : l->mark.next < w->hi ? l->mark.next
                                       : w->hi;
    for (size_t i = w->lo; i < w->hi; i++) {
        l->n_all += !w->chosen || w->chosen[i];
        l->n_done += i < l->cursor && (!w->chosen || w->chosen[i]);
    }
    l->n_before = l->n_done;
    if (l->n_before)
        sim_log("goes on after %zu of %zu images", l->n_before, l->n_all);
    l->begun_s = l->progress_s = l->record_s = sim_clock_s();
}

sim_status sim_prep_transfer(const prep_way *way, prep_result *result)
{
    sim_status st = SIM_OK;
    chunk *chunks = NULL;
    line *l = NULL;

    SIM_TRY(sim_alloc(&chunks, 3, "prep/chunks"));
    SIM_TRY(sim_new(&l, "prep/chunks"));
    *l = (line){.way = *way,
                .result = result,
                .past = &chunks[0],
                .now = &chunks[1],
                .ahead = &chunks[2]};
    begin(l);
    do
        SIM_TRY(do_round(l));
    while (l->past->n > 0 || l->now->n > 0);
    result->n_bad += l->mark.n_bad;
    result->n_warned += l->mark.n_warned;
done:
    for (size_t i = 0; chunks && i < 3; i++)
        empty(&chunks[i]);
    sim_free(chunks);
    sim_free(l);
    return st;
}
