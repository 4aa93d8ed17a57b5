/*
 * statistics.c - mean, deviation and extremes of every channel of samples of 16 bits or floats.
 *
 * They are computed from PATH.part when it is complete, image by image, and merged in the order of the
 * images, so they do not depend on threads, ranks or interruptions.
 */
#include "statistics.h"

#include "private.h"

#include "simile/h5.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

enum { IMAGES_AT_ONCE = 64 };

/* Of the samples of one channel. */
typedef struct {
    double n, mean, squares; /* squares: the sum of squared differences to the mean */
    double lo, hi;
} channel_sums;

typedef struct {
    const sim_dataset_writer *writer;
    int fd;              /* of PATH.part */
    size_t first;        /* image */
    channel_sums *sums;  /* [IMAGES_AT_ONCE][c] */
    sim_image *images;   /* [IMAGES_AT_ONCE] */
    sim_status *results; /* [IMAGES_AT_ONCE] */
} pass;

static channel_sums sum_channel(const sim_image *image, size_t c)
{
    const size_t n = image->h * image->w;
    const double first = sim_image_sample(image, c);
    channel_sums s = {.n = (double)n, .lo = first, .hi = first};

    for (size_t i = 0; i < n; i++) {
        const double v = sim_image_sample(image, i * image->c + c);
        s.mean += v;
        s.lo = v < s.lo ? v : s.lo;
        s.hi = v > s.hi ? v : s.hi;
    }
    s.mean /= s.n;
    for (size_t i = 0; i < n; i++) {
        const double d = sim_image_sample(image, i * image->c + c) - s.mean;
        s.squares += d * d;
    }
    return s;
}

static sim_status read_image(const pass *p, size_t i, sim_image *image)
{
    sim_status st = SIM_OK;
    const sim_dataset_writer *w = p->writer;
    const sim_dataset_spec *s = &w->spec;
    const size_t bytes = (size_t)(w->offset[i + 1] - w->offset[i]);

    SIM_TRY(sim_image_shape(image, s->h, s->w, s->c, s->type));
    SIM_ASSERT(bytes == s->h * s->w * s->c * sim_type_bytes(s->type));
    SIM_TRY(sim_file_read_at(p->fd, w->part, SIM_H5_BULK_AT + w->offset[i], image->pixels,
                             bytes));
done:
    return st;
}

static void sum_image(size_t i, void *ctx)
{
    const pass *p = ctx;
    const size_t c = p->writer->spec.c;

    p->results[i] = read_image(p, p->first + i, &p->images[i]);
    for (size_t k = 0; k < c && p->results[i] == SIM_OK; k++)
        p->sums[i * c + k] = sum_channel(&p->images[i], k);
}

/* Adds the sums of another image by the formula of Chan et al. */
static void merge_sums(channel_sums *a, const channel_sums *b)
{
    const double n = a->n + b->n, d = b->mean - a->mean;

    if (a->n == 0) {
        *a = *b;
        return;
    }
    a->mean += d * (b->n / n);
    a->squares += b->squares + d * d * (a->n * b->n / n);
    a->n = n;
    a->lo = b->lo < a->lo ? b->lo : a->lo;
    a->hi = b->hi > a->hi ? b->hi : a->hi;
}

static sim_status sum_images(pass *p, channel_sums *total)
{
    sim_status st = SIM_OK;
    const sim_dataset_writer *w = p->writer;
    const size_t c = w->spec.c;

    for (p->first = 0; p->first < w->n; p->first += IMAGES_AT_ONCE) {
        const size_t rest = w->n - p->first,
                     n = rest < IMAGES_AT_ONCE ? rest : IMAGES_AT_ONCE;
        sim_for(n, sum_image, p);
        for (size_t i = 0; i < n; i++) {
            SIM_CHECK(p->results[i] == SIM_OK, p->results[i],
                      "%s: image %zu cannot be read back", w->part, p->first + i);
            for (size_t k = 0; k < c; k++)
                merge_sums(&total[k], &p->sums[i * c + k]);
        }
    }
done:
    return st;
}

/* The given scale, or the extremes of a channel; a constant channel becomes 0. */
static sim_value_range choose_scale(const sim_value_range *given, const channel_sums *s)
{
    const sim_value_range extremes = {s->lo, s->hi};
    const double step = fabs(s->lo) > 1 ? 1e-6 * fabs(s->lo) : 1;

    if (given->lo < given->hi)
        return *given;
    return sim_value_range_is_usable(&extremes) ? extremes
                                                : (sim_value_range){s->lo, s->lo + step};
}

/* Samples are scaled in float32, in which their differences must remain visible. */
static sim_status check_given(const sim_dataset_writer *w, size_t channel,
                              const channel_sums *s)
{
    enum { MOST = 100000 };
    sim_status st = SIM_OK;
    const sim_value_range *given = &w->spec.range;

    SIM_CHECK(
        s->hi <= s->lo || given->hi - given->lo <= MOST * (s->hi - s->lo), SIM_E_DATA,
        "%s: the range %g to %g is too wide for channel %zu, whose values are %g to "
        "%g; choose a closer --range",
        w->path, given->lo, given->hi, channel, s->lo, s->hi);
done:
    return st;
}

sim_status sim_writer_statistics(const sim_dataset_writer *w, double *mean, double *std,
                                 sim_value_range *scale)
{
    sim_status st = SIM_OK;
    channel_sums total[SIM_MAX_CHANNELS] = {0};
    pass p = {.writer = w, .fd = -1};
    uint64_t length = 0;

    SIM_TRY(sim_alloc(&p.sums, IMAGES_AT_ONCE * w->spec.c, "data/statistics"));
    SIM_TRY(sim_alloc(&p.images, IMAGES_AT_ONCE, "data/statistics"));
    SIM_TRY(sim_alloc(&p.results, IMAGES_AT_ONCE, "data/statistics"));
    SIM_TRY(sim_file_open_read(w->part, &p.fd, &length));
    SIM_TRY(sum_images(&p, total));
    for (size_t k = 0; k < w->spec.c; k++) {
        mean[k] = total[k].mean;
        std[k] = sqrt(total[k].squares / total[k].n);
        scale[k] = choose_scale(&w->spec.range, &total[k]);
        SIM_TRY(check_given(w, k, &total[k]));
    }
done:
    for (size_t i = 0; p.images && i < IMAGES_AT_ONCE; i++)
        sim_free(p.images[i].pixels);
    SIM_IGNORE(sim_file_close(&p.fd, w->part));
    sim_free(p.images);
    sim_free(p.sums);
    sim_free(p.results);
    return st;
}
