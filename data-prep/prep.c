/*
 * prep.c - a source into a data set: its format found, its items chosen, its set finished.
 *
 * The items go through transfer.c.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREP_FORMAT(name) extern const prep_format sim_prep_format_##name;
#include "formats.def"
#undef PREP_FORMAT

static const prep_format *const formats[] = {
#define PREP_FORMAT(name) &sim_prep_format_##name,
#include "formats.def"
#undef PREP_FORMAT
};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

const char *sim_prep_format_names(void)
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
              sim_prep_format_names());
    SIM_FAIL(SIM_E_DATA, "%s looks like none of %s; say which with --format", source,
             sim_prep_format_names());
done:
    return st;
}

/* ---- a balanced part ---- */

typedef struct {
    uint32_t class, key, item;
} ticket;

static int by_class_and_key(const void *a, const void *b)
{
    const ticket *x = a, *y = b;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static void draw_tickets(const prep_source *s, ticket *tickets)
{
    for (size_t i = 0; i < s->n_items; i++) {
        sim_random r = {.purpose = SIM_RANDOM_SPLIT, .sample = (uint32_t)i};
        uint32_t w[4];
        sim_random_words(&r, w);
        tickets[i] = (ticket){s->labels ? (uint32_t)s->labels[i] : 0, w[0], (uint32_t)i};
    }
    qsort(tickets, s->n_items, sizeof *tickets, by_class_and_key);
}

/* Draws `limit` items: each class in turn gives its next one.  next [classes + 1] */
static void take_in_turn(const prep_source *s, const ticket *tickets, size_t *next,
                         size_t classes, size_t limit, bool *chosen)
{
    size_t left = limit, at = 0;
    for (size_t c = 0; c < classes; c++) {
        next[c] = at;
        while (at < s->n_items && tickets[at].class == c)
            at++;
    }
    for (bool any = true; left > 0 && any;) {
        any = false;
        for (size_t c = 0; c < classes && left > 0; c++) {
            if (next[c] == s->n_items || tickets[next[c]].class != c)
                continue;
            chosen[tickets[next[c]++].item] = true;
            left--;
            any = true;
        }
    }
}

/* [n_items] of the part that --limit wants, NULL for all. */
static sim_status choose(const prep_source *s, size_t limit, bool **out)
{
    sim_status st = SIM_OK;
    ticket *tickets = NULL;
    size_t *next = NULL, classes = s->labels ? s->n_classes : 1;
    bool *chosen = NULL;

    if (limit == 0 || limit >= s->n_items)
        goto done;
    SIM_TRY(sim_alloc(&chosen, s->n_items, "prep/choose"));
    SIM_TRY(sim_alloc(&tickets, s->n_items, "prep/choose"));
    SIM_TRY(sim_alloc(&next, classes, "prep/choose"));
    draw_tickets(s, tickets);
    take_in_turn(s, tickets, next, classes, limit, chosen);
    *out = chosen;
    chosen = NULL;
done:
    sim_free(chosen);
    sim_free(tickets);
    sim_free(next);
    return st;
}

/* ---- what is converted, and how: a conversion that was killed goes on only alike ---- */

static void add_text(sim_hasher *h, const char *text)
{
    sim_hasher_add(h, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void add_numbers(sim_hasher *h, const uint64_t *numbers, size_t n)
{
    sim_hasher_add(h, numbers, n * sizeof *numbers);
}

static void add_options(sim_hasher *h, const prep_options *o)
{
    const uint64_t numbers[] = {o->coarse, o->limit, o->size, o->keep_shape,
                                o->fail_on_bad};
    add_numbers(h, numbers, sizeof numbers / sizeof *numbers);
    add_text(h, o->split);
    add_text(h, o->images_key);
    add_text(h, o->labels_key);
    add_text(h, o->path);
    add_text(h, o->created_by);
}

static void add_source(sim_hasher *h, const prep_format *format, const char *path,
                       const prep_source *s)
{
    const uint64_t numbers[] = {s->n_items, s->photos,    s->h,    s->w,
                                s->c,       s->n_classes, s->n_bad};
    char name[1024];
    struct stat about;

    add_text(h, format->name);
    add_numbers(h, numbers, sizeof numbers / sizeof *numbers);
    if (stat(path, &about) == 0 && S_ISREG(about.st_mode)) {
        const uint64_t file[] = {(uint64_t)about.st_size, (uint64_t)about.st_mtime};
        add_numbers(h, file, 2);
    }
    if (s->labels)
        sim_hasher_add(h, s->labels, s->n_items * sizeof *s->labels);
    for (size_t i = 0; s->class_names && i < s->n_classes; i++)
        add_text(h, s->class_names[i]);
    for (size_t i = 0; s->photos && i < s->n_items; i++) {
        format->item_name(s, i, name, sizeof name);
        add_text(h, name);
    }
}

static sim_status identity_of(const prep_format *format, const char *path,
                              const prep_source *s, const prep_options *options,
                              sim_hash *out)
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;

    SIM_TRY(sim_hasher_create(&h));
    add_options(h, options);
    add_source(h, format, path, s);
    *out = sim_hasher_value(h);
done:
    sim_hasher_destroy(&h);
    return st;
}

/* ---- the whole ---- */

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
    sim_prep_free_lines(s->class_names, s->class_names ? s->n_classes : 0);
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

typedef struct {
    const prep_format *format;
    const char *path, *out;
    const prep_options *options;
    prep_source source;
    bool *chosen;
    sim_dataset_spec spec;
    char text[200]; /* for the spec */
    sim_dataset_writer *writer;
    bool made; /* our part's temporaries are there */
} conversion;

static void part_path(const conversion *c, size_t k, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%.3900s.rank-%zu-of-%zu", c->out, k,
                   c->options->n_parts);
}

static sim_status add_file(const char *out, uint64_t *bytes)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    uint64_t here = 0;
    int fd = -1;

    (void)snprintf(path, sizeof path, "%.4000s.part", out);
    if (sim_path_exists(path))
        SIM_TRY(sim_file_open_read(path, &fd, &here));
    *bytes += here;
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    return st;
}

/* Bytes of images that an earlier start left: of the whole, and of each part. */
static sim_status add_written(const conversion *c, uint64_t *bytes)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    SIM_TRY(add_file(c->out, bytes));
    for (size_t k = 0; c->options->n_parts > 1 && k < c->options->n_parts; k++) {
        part_path(c, k, path);
        SIM_TRY(add_file(path, bytes));
    }
done:
    return st;
}

/* Pixels are known before: a disk that is too small is refused at once, by the first of
 * several processes, before any of them writes.  (Parts and what is joined of them stand
 * there together.) */
static sim_status check_space(const conversion *c, size_t n)
{
    sim_status st = SIM_OK;
    const char *out = c->out;
    const sim_dataset_spec *spec = &c->spec;
    enum { PER_IMAGE = 28, SLACK = 1 << 20 };
    char folder[4096];
    uint64_t free_bytes = 0, there = 0;

    if (spec->encoded || c->options->part > 0)
        goto done;
    const char *base = sim_prep_base_name(out);
    (void)snprintf(folder, sizeof folder, "%.*s", base > out ? (int)(base - out) : 1,
                   base > out ? out : ".");
    SIM_TRY(sim_path_free_bytes(folder, &free_bytes));
    SIM_TRY(add_written(c, &there));
    size_t copies = c->options->n_parts > 1 ? 2 : 1;
    uint64_t need = copies * n * (spec->h * spec->w * spec->c + PER_IMAGE) + SLACK;
    SIM_CHECK(need <= free_bytes + there, SIM_E_IO,
              "%s needs %.1f MB, and its disk has %.1f MB left", out, (double)need / 1e6,
              (double)free_bytes / 1e6);
done:
    return st;
}

/* What a format does not know is refused, not left out without a word. */
static sim_status check_options(const prep_format *format, const prep_options *o)
{
    sim_status st = SIM_OK;
    const struct {
        int of;
        bool given;
        const char *option;
    } all[] = {{PREP_UNLABELED, strcmp(o->split, "unlabeled") == 0, "--split unlabeled"},
               {PREP_RESIZE, o->size > 0, "--size"},
               {PREP_RESIZE, o->keep_shape, "--crop none"},
               {PREP_COARSE, o->coarse, "--labels coarse"},
               {PREP_KEYS, o->images_key != NULL, "--images-key"},
               {PREP_KEYS, o->labels_key != NULL, "--labels-key"},
               {PREP_KEYS, o->path != NULL, "--path"}};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        SIM_CHECK(!all[i].given || (format->knows & all[i].of), SIM_E_USAGE,
                  "%s: not for %s, which is %s", all[i].option, format->name,
                  format->help);
done:
    return st;
}

static sim_status open_source(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    const prep_source *s = &c->source;

    SIM_ASSERT(c->format);
    SIM_TRY(sim_path_check_output(c->out, c->path));
    SIM_TRY(check_options(c->format, c->options));
    st = c->format->open(c->path, c->options, &c->source);
    if (st != SIM_OK)
        goto done;
    if (s->n_bad)
        sim_log_warn("skipped: %s (%zu such)", s->first_bad, s->n_bad);
    result->n_bad = s->n_bad;
    result->format = c->format->name;
    result->n_classes = s->labels ? s->n_classes : 0;
    SIM_TRY(choose(s, c->options->limit, &c->chosen));
    source_text(c->format, c->path, c->options->split, c->text);
    c->spec = spec_of(s, c->options, c->text);
    SIM_TRY(identity_of(c->format, c->path, s, c->options, &c->spec.identity));
    SIM_TRY(check_space(c, c->chosen ? c->options->limit : s->n_items));
done:
    return st;
}

/* The items of part k into a writer that stands open. */
static sim_status convey(const conversion *c, size_t k, size_t n_parts,
                         prep_result *result)
{
    size_t n = c->source.n_items;
    const prep_way way = {.format = c->format,
                          .source = &c->source,
                          .options = c->options,
                          .chosen = c->chosen,
                          .lo = n / n_parts * k + n % n_parts * k / n_parts,
                          .hi = n / n_parts * (k + 1) + n % n_parts * (k + 1) / n_parts,
                          .spec = &c->spec,
                          .writer = c->writer};
    return sim_prep_transfer(&way, result);
}

static sim_status finish(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    const prep_source *s = &c->source;

    SIM_CHECK(result->n_images > 0, SIM_E_DATA, "%s: not one of its %zu images is good",
              c->path, s->n_items);
    SIM_TRY(sim_dataset_finish(&c->writer, (const char *const *)s->class_names,
                               s->class_names ? s->n_classes : 0, result->fingerprint));
done:
    return st;
}

static sim_status convert_alone(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    SIM_TRY(find_format(c->path, c->options, &c->format));
    SIM_TRY(open_source(c, result));
    SIM_TRY(sim_dataset_create(c->out, &c->spec, &c->writer));
    SIM_TRY(convey(c, 0, 1, result));
    SIM_TRY(finish(c, result));
done:
    return st;
}

/* ---- several processes: each makes a part, the first one joins them ---- */

static sim_status open_part(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    SIM_TRY(find_format(c->path, c->options, &c->format));
    SIM_TRY(open_source(c, result));
done:
    return st;
}

static sim_status convert_part(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    part_path(c, c->options->part, path);
    SIM_TRY(sim_dataset_create(path, &c->spec, &c->writer));
    c->made = true;
    SIM_TRY(convey(c, c->options->part, c->options->n_parts, result));
done:
    sim_dataset_suspend(&c->writer);
    return st;
}

/* A part's journal tells what was skipped in it. */
static sim_status join_parts(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    sim_dataset_mark mark;
    sim_dataset_spec spec = c->spec;

    spec.identity = (sim_hash){0}; /* the parts are what a new start goes on from */
    result->n_bad = c->source.n_bad;
    result->n_warned = 0;
    SIM_TRY(sim_dataset_create(c->out, &spec, &c->writer));
    for (size_t k = 0; k < c->options->n_parts; k++) {
        part_path(c, k, path);
        SIM_TRY(sim_dataset_absorb(c->writer, path, c->spec.identity, &mark));
        result->n_bad += mark.n_bad;
        result->n_warned += mark.n_warned;
    }
    (void)sim_dataset_resumed(c->writer, &result->n_images);
    SIM_TRY(finish(c, result));
    for (size_t k = 0; k < c->options->n_parts; k++) {
        part_path(c, k, path);
        SIM_TRY(sim_dataset_discard(path));
    }
done:
    return st;
}

static sim_status convert_together(conversion *c, prep_result *result)
{
    char path[PATH_MAX];
    const prep_options *o = c->options;
    sim_status st = o->meet(o->meet_ctx, open_part(c, result));

    if (st == SIM_OK)
        st = o->meet(o->meet_ctx, convert_part(c, result));
    if (st == SIM_OK && c->options->part == 0)
        st = join_parts(c, result);
    if (st != SIM_OK && st != SIM_E_IO && c->made) { /* a new start would end alike */
        part_path(c, c->options->part, path);
        SIM_IGNORE(sim_dataset_discard(path));
    }
    return st;
}

sim_status sim_prep_convert(const char *source, const char *out,
                            const prep_options *options, prep_result *result)
{
    sim_status st = SIM_OK;
    bool alone = options->n_parts < 2;
    conversion c = {.path = source, .out = out, .options = options};

    memset(result, 0, sizeof *result);
    st = alone ? convert_alone(&c, result) : convert_together(&c, result);
    if (st == SIM_E_IO && alone && result->n_images > 0)
        st = sim_error_begin(st, __FILE__, __LINE__,
                             "%s; once that is mended, the same command goes on after "
                             "%zu images",
                             sim_error_message(), result->n_images);
    if (st == SIM_E_IO)
        sim_dataset_suspend(&c.writer);
    sim_dataset_abandon(&c.writer);
    if (c.format)
        drop_source(c.format, &c.source);
    sim_free(c.chosen);
    return st;
}
