/*
 * axis.c - the axes of a plot: linear, logarithmic or categories; range and steps of y.
 */
#include "plot.h"

#include "simile/memory.h"

#include <math.h>
#include <stdlib.h>

/* ---- x ---- */

static bool parse_number(const char *text, double *out)
{
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Largest gap between neighbours divided by the smallest; values are ascending and differ. */
static double unevenness(const double *values, size_t n, bool logarithmic)
{
    double least = INFINITY, most = 0;

    for (size_t i = 1; i < n; i++) {
        const double gap =
            logarithmic ? log(values[i] / values[i - 1]) : values[i] - values[i - 1];
        least = gap < least ? gap : least;
        most = gap > most ? gap : most;
    }
    return most / least;
}

/* Logarithmic if it spaces the values more evenly; of two values, if their ratio is large. */
static bool is_logarithmic(const double *sorted, size_t n)
{
    enum { LARGE_RATIO = 10 };

    if (!(sorted[0] > 0))
        return false;
    if (n == 2)
        return sorted[1] / sorted[0] >= LARGE_RATIO;
    return unevenness(sorted, n, true) < unevenness(sorted, n, false);
}

/* On an axis of numbers, some of these would lie on each other. */
static bool are_crowded(const double *sorted, size_t n)
{
    enum { MOST = 12 };
    return n > 2 && unevenness(sorted, n, is_logarithmic(sorted, n)) > MOST;
}

static bool are_different(const double *sorted, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (!(sorted[i] > sorted[i - 1]))
            return false;
    return true;
}

static void place_numbers(double *at, const double *sorted, size_t n)
{
    const bool logarithmic = is_logarithmic(sorted, n);
    const double low = logarithmic ? log(sorted[0]) : sorted[0],
                 high = logarithmic ? log(sorted[n - 1]) : sorted[n - 1];

    for (size_t i = 0; i < n; i++)
        at[i] = ((logarithmic ? log(at[i]) : at[i]) - low) / (high - low);
}

static void place_categories(double *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        at[i] = ((double)i + 0.5) / (double)n;
}

sim_status sim_plot_x_create(const sim_plot *p, sim_plot_x *out)
{
    sim_status st = SIM_OK;
    double *sorted = NULL;

    *out = (sim_plot_x){.is_numeric = p->n_x >= 2};
    SIM_TRY(sim_alloc(&out->at, p->n_x, "report/plot"));
    SIM_TRY(sim_alloc(&sorted, p->n_x, "report/plot"));
    for (size_t i = 0; i < p->n_x; i++) {
        out->is_numeric = parse_number(p->x[i], &out->at[i]) && out->is_numeric;
        sorted[i] = out->at[i];
    }
    qsort(sorted, p->n_x, sizeof *sorted, compare_doubles);
    out->is_numeric =
        out->is_numeric && are_different(sorted, p->n_x) && !are_crowded(sorted, p->n_x);
    if (out->is_numeric)
        place_numbers(out->at, sorted, p->n_x);
    else
        place_categories(out->at, p->n_x);
done:
    sim_free(sorted);
    return st;
}

void sim_plot_x_destroy(sim_plot_x *x)
{
    SIM_FREE(x->at);
}

/* ---- y ---- */

/* 1, 2 or 5 times a power of ten. */
static double round_step(double step)
{
    const double power = pow(10, floor(log10(step))), digit = step / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

sim_plot_y sim_plot_axis(double low, double high, int intervals)
{
    if (!(low <= high)) /* no point */
        low = 0, high = 1;
    const double least = fmax(fabs(low), fabs(high)) * 1e-3; /* of equal points */
    if (high - low < least || !(high > low)) {
        const double around = least > 0 ? least : 1;
        low -= around;
        high += around;
    }
    const double step = round_step((high - low) / intervals);
    const double decimals = -floor(log10(step) + 1e-9);
    return (sim_plot_y){.low = floor(low / step) * step,
                        .high = ceil(high / step) * step,
                        .step = step,
                        .decimals = decimals > 0 ? (int)decimals : 0};
}

sim_plot_y sim_plot_y_of(const sim_plot *p, const sim_plot_panel *panel)
{
    enum { INTERVALS = 5 };
    double low = INFINITY, high = -INFINITY;

    for (size_t i = 0; i < p->n_series * p->n_x; i++) {
        const sim_plot_point *q = &panel->points[i];
        if (!isfinite(q->y))
            continue;
        low = q->y - q->deviation < low ? q->y - q->deviation : low;
        high = q->y + q->deviation > high ? q->y + q->deviation : high;
    }
    return sim_plot_axis(low, high, INTERVALS);
}
