/*
 * decode_tiff.c - decodes untrusted TIFF files with libtiff: one page, or pages as channels.
 *
 * tiff_tags.c checks the size of a page before anything is allocated for it, tiff_samples.c reads strips
 * and tiles, and tiff_colors.c converts what is not gray, RGB or channels.  Reduced pages and masks of
 * transparency are skipped.  libtiff itself may allocate up to MAX_ALLOCATION bytes at once (version
 * 4.5 and later).
 */
#include "tiff.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum { MAX_ALLOCATION = 1 << 28, MAX_DIRECTORIES = 1024 };

/* ---- the file in memory ---- */

static tmsize_t read_bytes(thandle_t h, void *to, tmsize_t n)
{
    tiff_file *f = h;
    const uint64_t left = f->at < f->n ? f->n - f->at : 0;
    const size_t got = (uint64_t)n < left ? (size_t)n : (size_t)left;

    memcpy(to, f->bytes + f->at, got);
    f->at += got;
    return (tmsize_t)got;
}

static tmsize_t write_bytes(thandle_t h, void *from, tmsize_t n)
{
    (void)h, (void)from, (void)n;
    return 0;
}

/* Positions behind the end are allowed; nothing can be read there. */
static toff_t seek(thandle_t h, toff_t to, int whence)
{
    tiff_file *f = h;
    const uint64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? f->at : f->n;

    f->at = base + to;
    return f->at;
}

static int close_file(thandle_t h)
{
    (void)h;
    return 0;
}

static toff_t size_of(thandle_t h)
{
    return ((const tiff_file *)h)->n;
}

/* ---- messages ---- */

static void add_error(tiff_file *f, const char *format, va_list arguments)
{
    (void)vsnprintf(f->text, sizeof f->text, format, arguments);
}

/* Tags that libtiff does not know, such as those of microscopes and of GeoTIFF, are no defect. */
static void add_warning(const tiff_file *f, const char *format, va_list arguments)
{
    static const char unknown[] = "Unknown field with tag";
    char text[200];

    (void)vsnprintf(text, sizeof text, format, arguments);
    if (f->notes && strncmp(text, unknown, sizeof unknown - 1) != 0)
        sim_notes_warn(f->notes, text);
}

#if TIFFLIB_VERSION >= 20221213 /* 4.5.0 has handlers of each file */
static int on_error(TIFF *t, void *file, const char *module, const char *format,
                    va_list arguments)
{
    (void)t, (void)module;
    add_error(file, format, arguments);
    return 1;
}

static int on_warning(TIFF *t, void *file, const char *module, const char *format,
                      va_list arguments)
{
    (void)t, (void)module;
    add_warning(file, format, arguments);
    return 1;
}

static TIFF *open_tiff(tiff_file *f)
{
    TIFFOpenOptions *o = TIFFOpenOptionsAlloc();
    TIFF *t = NULL;

    if (!o)
        return NULL;
    TIFFOpenOptionsSetMaxSingleMemAlloc(o, MAX_ALLOCATION);
    TIFFOpenOptionsSetErrorHandlerExtR(o, on_error, f);
    TIFFOpenOptionsSetWarningHandlerExtR(o, on_warning, f);
    t = TIFFClientOpenExt(f->name, "rm", f, read_bytes, write_bytes, seek, close_file,
                          size_of, NULL, NULL, o);
    TIFFOpenOptionsFree(o);
    return t;
}
#else
/* The handlers are those of the process and receive the file. */
static void on_error(thandle_t file, const char *module, const char *format,
                     va_list arguments)
{
    (void)module;
    add_error(file, format, arguments);
}

static void on_warning(thandle_t file, const char *module, const char *format,
                       va_list arguments)
{
    (void)module;
    add_warning(file, format, arguments);
}

static TIFF *open_tiff(tiff_file *f)
{
    (void)TIFFSetErrorHandler(NULL);
    (void)TIFFSetWarningHandler(NULL);
    (void)TIFFSetErrorHandlerExt(on_error);
    (void)TIFFSetWarningHandlerExt(on_warning);
    return TIFFClientOpen(f->name, "rm", f, read_bytes, write_bytes, seek, close_file,
                          size_of, NULL, NULL);
}
#endif

/* ---- pages ---- */

static sim_status decode_page(const tiff_file *f, TIFF *t, sim_image *out)
{
    sim_status st = SIM_OK;
    tiff_page p = {0};

    SIM_TRY(sim_tiff_read_tags(f, t, &p));
    SIM_TRY(sim_tiff_read_samples(f, t, &p, out));
    SIM_TRY(sim_tiff_convert_colors(f, t, &p, out));
    SIM_TRY(sim_image_upright(out, p.orientation));
done:
    return st;
}

/* Whether the current page is neither a reduced version of another one nor a mask. */
static bool is_full_page(TIFF *t)
{
    uint32_t kind = 0;
    return !TIFFGetField(t, TIFFTAG_SUBFILETYPE, &kind) ||
           !(kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK));
}

/* Advances to the next full page; *found is false at the end of the file. */
static sim_status next_page(tiff_file *f, TIFF *t, bool *found)
{
    sim_status st = SIM_OK;

    *found = false;
    for (int i = 0; !*found && i < MAX_DIRECTORIES && !TIFFLastDirectory(t); i++) {
        TIFF_CHECK(TIFFReadDirectory(t), f);
        *found = is_full_page(t);
    }
done:
    return st;
}

/* If all pages are reduced, the first of them is the image. */
static sim_status seek_first_page(tiff_file *f, TIFF *t)
{
    sim_status st = SIM_OK;
    bool found = is_full_page(t);

    if (!found)
        SIM_TRY(next_page(f, t, &found));
    if (!found)
        TIFF_CHECK(TIFFSetDirectory(t, 0), f);
done:
    return st;
}

/* A page that cannot be read is one more page. */
static bool has_more_pages(tiff_file *f, TIFF *t)
{
    bool found = false;

    f->notes = NULL;
    const bool failed = next_page(f, t, &found) != SIM_OK;
    sim_error_clear();
    return failed || found;
}

/* ---- pages as channels ---- */

typedef struct {
    sim_image pages[SIM_MAX_CHANNELS];
    size_t n;
} stack;

static sim_status check_page(const tiff_file *f, const stack *s, const sim_image *page)
{
    sim_status st = SIM_OK;
    const sim_image *first = &s->pages[0];

    SIM_CHECK(
        first->c == 1 && page->c == 1 && page->h == first->h && page->w == first->w &&
            page->type == first->type,
        SIM_E_DATA,
        "%s: page %zu has %zu x %zu pixels of %zu channels of %s, page 1 %zu x %zu of "
        "%zu of %s; pages are read as channels if each has one channel of equal size "
        "and type",
        f->name, s->n + 1, page->w, page->h, page->c, sim_type_name(page->type), first->w,
        first->h, first->c, sim_type_name(first->type));
    SIM_TRY(sim_image_check_size(f->name, page->h, page->w, s->n + 1, page->type));
done:
    return st;
}

static sim_status add_page(const tiff_file *f, TIFF *t, stack *s)
{
    sim_status st = SIM_OK;

    SIM_CHECK(s->n < SIM_MAX_CHANNELS, SIM_E_DATA,
              "%s has more than %d pages, expected at most as many as channels", f->name,
              SIM_MAX_CHANNELS);
    sim_image *page = &s->pages[s->n];
    SIM_TRY(decode_page(f, t, page));
    if (s->n > 0)
        SIM_TRY(check_page(f, s, page));
    s->n++;
done:
    return st;
}

/* Pages [n] of one channel as an image of n channels; a single page as it is. */
static sim_status join_pages(stack *s, sim_image *out)
{
    sim_status st = SIM_OK;
    const sim_image *first = &s->pages[0];
    const size_t bytes = sim_type_bytes(first->type), n = first->h * first->w;

    if (s->n == 1) {
        sim_free(out->pixels);
        *out = *first;
        s->pages[0].pixels = NULL;
        goto done;
    }
    SIM_TRY(sim_image_shape(out, first->h, first->w, s->n, first->type));
    for (size_t k = 0; k < s->n; k++)
        for (size_t i = 0; i < n; i++)
            memcpy((char *)out->pixels + (i * s->n + k) * bytes,
                   (const char *)s->pages[k].pixels + i * bytes, bytes);
done:
    return st;
}

static sim_status decode_pages(tiff_file *f, TIFF *t, sim_image *out)
{
    sim_status st = SIM_OK;
    stack *s = NULL;
    bool found = true;

    SIM_TRY(sim_new(&s, "data/tiff"));
    while (found) {
        SIM_TRY(add_page(f, t, s));
        SIM_TRY(next_page(f, t, &found));
    }
    SIM_TRY(join_pages(s, out));
done:
    for (size_t i = 0; s && i < SIM_MAX_CHANNELS; i++)
        sim_free(s->pages[i].pixels);
    sim_free(s);
    return st;
}

static sim_status decode_file(const char *name, const uint8_t *bytes, size_t n,
                              sim_image_pages pages, sim_image *out,
                              sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    tiff_file f = {.name = name, .bytes = bytes, .n = n, .notes = notes};
    TIFF *t = open_tiff(&f);

    TIFF_CHECK(t, &f);
    SIM_TRY(seek_first_page(&f, t));
    if (pages == SIM_PAGES_CHANNELS) {
        SIM_TRY(decode_pages(&f, t, out));
    } else {
        SIM_TRY(decode_page(&f, t, out));
        notes->has_more = has_more_pages(&f, t);
    }
done:
    if (t)
        TIFFClose(t);
    return st;
}

sim_status sim_decode_tiff(const char *name, const uint8_t *bytes, size_t n,
                           sim_image *out, sim_decode_notes *notes)
{
    return decode_file(name, bytes, n, SIM_PAGES_FIRST, out, notes);
}

sim_status sim_decode_tiff_pages(const char *name, const uint8_t *bytes, size_t n,
                                 sim_image *out, sim_decode_notes *notes)
{
    return decode_file(name, bytes, n, SIM_PAGES_CHANNELS, out, notes);
}
