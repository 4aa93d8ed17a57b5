/*
 * map.c - images as points of a plane, by principal components and t-SNE, and in clusters, by k-means.
 *
 * In: features of a few thousand images.  Out: coordinates.  Sums are double and in a fixed order, and nothing
 * is random: the same features have the same map.
 * t-SNE: van der Maaten and Hinton 2008, JMLR 9; exact gradient, initial coordinates from the principal
 * components as in Kobak and Berens 2019, Nature Communications 10:5416.
 */
#include "simile/eval.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

/* ---- principal components ---- */

enum { COMPONENTS = 2, POWER_STEPS = 3000 };
static const double converged = 1e-10; /* change of the entries of an axis in a step */

typedef struct {
    size_t n, dim;
    double *rows;   /* [n][dim] centred */
    double *axes;   /* [COMPONENTS][dim] orthonormal */
    double *last;   /* [dim] the axis before a step */
    double *scores; /* [n] */
} pca;

static void centre_rows(pca *p, const float *features)
{
    for (size_t j = 0; j < p->dim; j++) {
        double mean = 0;
        for (size_t i = 0; i < p->n; i++)
            mean += (double)features[i * p->dim + j];
        mean /= (double)p->n;
        for (size_t i = 0; i < p->n; i++)
            p->rows[i * p->dim + j] = (double)features[i * p->dim + j] - mean;
    }
}

static double dot(size_t n, const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Makes axis k orthogonal to those before it and of unit length; false if nothing is left of it. */
static bool orthonormalize(pca *p, size_t k)
{
    double *axis = p->axes + k * p->dim;

    for (size_t e = 0; e < k; e++) {
        const double *earlier = p->axes + e * p->dim;
        const double along = dot(p->dim, axis, earlier);
        for (size_t j = 0; j < p->dim; j++)
            axis[j] -= along * earlier[j];
    }
    const double length = sqrt(dot(p->dim, axis, axis));
    for (size_t j = 0; j < p->dim; j++)
        axis[j] = length > 0 ? axis[j] / length : 0;
    return length > 0;
}

static void compute_scores(pca *p, const double *axis)
{
    for (size_t i = 0; i < p->n; i++)
        p->scores[i] = dot(p->dim, p->rows + i * p->dim, axis);
}

static double largest_change(const pca *p, const double *axis)
{
    double most = 0;
    for (size_t j = 0; j < p->dim; j++)
        most = fmax(most, fabs(axis[j] - p->last[j]));
    return most;
}

/* Axis k by power iteration on the covariance; it starts at the row of the largest length. */
static void find_axis(pca *p, size_t k)
{
    double *axis = p->axes + k * p->dim, longest = -1;

    for (size_t i = 0; i < p->n; i++) {
        const double *row = p->rows + i * p->dim;
        const double length = dot(p->dim, row, row);
        if (length > longest) {
            longest = length;
            memcpy(axis, row, p->dim * sizeof *axis);
        }
    }
    for (size_t j = 0; j < p->dim; j++) /* not orthogonal to any axis by chance */
        axis[j] += 1e-3 * sqrt(longest) * cos((double)((k + 1) * (j + 1)));
    for (int step = 0; step < POWER_STEPS && orthonormalize(p, k); step++) {
        if (step > 0 && largest_change(p, axis) < converged)
            break;
        memcpy(p->last, axis, p->dim * sizeof *axis);
        compute_scores(p, axis);
        memset(axis, 0, p->dim * sizeof *axis);
        for (size_t i = 0; i < p->n; i++)
            for (size_t j = 0; j < p->dim; j++)
                axis[j] += p->scores[i] * p->rows[i * p->dim + j];
    }
    (void)orthonormalize(p, k);
}

/* The sign of an axis is arbitrary: its largest entry becomes positive. */
static void fix_sign(pca *p, size_t k)
{
    double *axis = p->axes + k * p->dim;
    size_t largest = 0;

    for (size_t j = 1; j < p->dim; j++)
        largest = fabs(axis[j]) > fabs(axis[largest]) ? j : largest;
    const bool is_negative = axis[largest] < 0;
    for (size_t j = 0; is_negative && j < p->dim; j++)
        axis[j] = -axis[j];
}

sim_status sim_map_pca(size_t n, size_t dim, const float *features, double *out)
{
    sim_status st = SIM_OK;
    pca p = {.n = n, .dim = dim};
    sim_buffer list[] = {SIM_BUFFER(p.rows, n * dim),
                         SIM_BUFFER(p.axes, COMPONENTS * dim), SIM_BUFFER(p.scores, n),
                         SIM_BUFFER(p.last, dim)};

    SIM_TRY(sim_buffers_create(list, 4, "eval/map"));
    centre_rows(&p, features);
    for (size_t k = 0; k < COMPONENTS; k++) {
        find_axis(&p, k);
        fix_sign(&p, k);
        compute_scores(&p, p.axes + k * dim);
        for (size_t i = 0; i < n; i++)
            out[i * COMPONENTS + k] = p.scores[i];
    }
done:
    sim_buffers_destroy(list, 4);
    return st;
}

/* ---- t-SNE ---- */

enum { STEPS = 1000, EXAGGERATED = 250, BISECTIONS = 60 };
static const double exaggeration = 12, start_deviation = 1e-4, least_gain = 0.01;

typedef struct {
    size_t n;
    const float *features; /* [n][dim] */
    size_t dim;
    double perplexity, rate;
    double *p;      /* [n][n] joint probabilities */
    double *y;      /* [n][2] coordinates */
    double *q_sums; /* [n] of the unnormalized similarities of a row */
    double *gradient, *velocity, *gain; /* [n][2] */
    double q_sum, factor;
} tsne;

/* Conditional probabilities of row i, whose entropy is the logarithm of the perplexity. */
static void fill_row(size_t i, void *ctx)
{
    const tsne *t = ctx;
    double *row = t->p + i * t->n, low = 0, high = INFINITY, beta = 1, nearest = INFINITY;

    for (size_t j = 0; j < t->n; j++) {
        double sum = 0;
        for (size_t k = 0; k < t->dim; k++) {
            const double x =
                (double)t->features[i * t->dim + k] - (double)t->features[j * t->dim + k];
            sum += x * x;
        }
        row[j] = sum;
        nearest = j != i && sum < nearest ? sum : nearest;
    }
    for (int step = 0; step < BISECTIONS; step++) {
        double sum = 0, weighted = 0;
        for (size_t j = 0; j < t->n; j++) {
            const double d = row[j] - nearest, w = j == i ? 0 : sim_exp_double(-beta * d);
            sum += w;
            weighted += w * d;
        }
        const double entropy = sim_ln(sum) + beta * weighted / sum;
        if (entropy > sim_ln(t->perplexity)) {
            low = beta;
            beta = isinf(high) ? 2 * beta : (low + high) / 2;
        } else {
            high = beta;
            beta = (low + high) / 2;
        }
    }
    double sum = 0;
    for (size_t j = 0; j < t->n; j++) {
        row[j] = j == i ? 0 : sim_exp_double(-beta * (row[j] - nearest));
        sum += row[j];
    }
    for (size_t j = 0; j < t->n; j++)
        row[j] /= sum;
}

static void make_symmetric(tsne *t)
{
    for (size_t i = 0; i < t->n; i++)
        for (size_t j = i + 1; j < t->n; j++) {
            const double joint =
                (t->p[i * t->n + j] + t->p[j * t->n + i]) / (2 * (double)t->n);
            t->p[i * t->n + j] = t->p[j * t->n + i] = joint;
        }
}

static double similarity(const double *a, const double *b)
{
    const double x = a[0] - b[0], y = a[1] - b[1];
    return 1 / (1 + x * x + y * y);
}

static void sum_row(size_t i, void *ctx)
{
    const tsne *t = ctx;
    double sum = 0;

    for (size_t j = 0; j < t->n; j++)
        sum += j == i ? 0 : similarity(t->y + 2 * i, t->y + 2 * j);
    t->q_sums[i] = sum;
}

static void gradient_row(size_t i, void *ctx)
{
    const tsne *t = ctx;
    double sum[2] = {0, 0};

    for (size_t j = 0; j < t->n; j++) {
        const double q = similarity(t->y + 2 * i, t->y + 2 * j),
                     force = 4 * (t->factor * t->p[i * t->n + j] - q / t->q_sum) * q;
        for (int k = 0; k < 2 && j != i; k++)
            sum[k] += force * (t->y[2 * i + (size_t)k] - t->y[2 * j + (size_t)k]);
    }
    t->gradient[2 * i] = sum[0];
    t->gradient[2 * i + 1] = sum[1];
}

/* Gradient descent with momentum and the gains of the authors' code. */
static void update(tsne *t, double momentum)
{
    for (size_t k = 0; k < 2 * t->n; k++) {
        const bool same = t->gradient[k] * t->velocity[k] > 0;
        t->gain[k] = same ? t->gain[k] * 0.8 : t->gain[k] + 0.2;
        t->gain[k] = t->gain[k] < least_gain ? least_gain : t->gain[k];
        t->velocity[k] =
            momentum * t->velocity[k] - t->rate * t->gain[k] * t->gradient[k];
        t->y[k] += t->velocity[k];
    }
}

static void descend(tsne *t)
{
    for (int step = 0; step < STEPS; step++) {
        t->factor = step < EXAGGERATED ? exaggeration : 1;
        t->q_sum = 0;
        sim_for(t->n, sum_row, t);
        for (size_t i = 0; i < t->n; i++)
            t->q_sum += t->q_sums[i];
        sim_for(t->n, gradient_row, t);
        update(t, step < EXAGGERATED ? 0.5 : 0.8);
    }
}

/* The first principal component gets the standard deviation start_deviation. */
static void scale_start(tsne *t)
{
    double squares = 0;

    for (size_t i = 0; i < t->n; i++)
        squares += t->y[2 * i] * t->y[2 * i];
    const double deviation = sqrt(squares / (double)t->n);
    for (size_t k = 0; k < 2 * t->n; k++)
        t->y[k] = deviation > 0 ? t->y[k] / deviation * start_deviation
                                : start_deviation * cos((double)k);
}

sim_status sim_map_tsne(size_t n, size_t dim, const float *features, double perplexity,
                        double *out)
{
    sim_status st = SIM_OK;
    const double most = ((double)n - 1) / 3, rate = (double)n / exaggeration / 4;
    tsne t = {.n = n,
              .dim = dim,
              .features = features,
              .perplexity = perplexity < most ? perplexity : most,
              .rate = rate > 50 ? rate : 50,
              .y = out};
    sim_buffer list[] = {SIM_BUFFER(t.p, n * n), SIM_BUFFER(t.q_sums, n),
                         SIM_BUFFER(t.gradient, 2 * n), SIM_BUFFER(t.velocity, 2 * n),
                         SIM_BUFFER(t.gain, 2 * n)};

    SIM_TRY(sim_buffers_create(list, 5, "eval/map"));
    SIM_TRY(sim_map_pca(n, dim, features, out));
    if (n < 5) /* no perplexity above 1 */
        goto done;
    sim_for(n, fill_row, &t);
    make_symmetric(&t);
    scale_start(&t);
    for (size_t k = 0; k < 2 * n; k++)
        t.gain[k] = 1;
    descend(&t);
done:
    sim_buffers_destroy(list, 5);
    return st;
}

/* ---- clusters ---- */

enum { ROUNDS = 50 };

typedef struct {
    size_t n, dim, k;
    const float *rows;
    double *centres, *sums; /* [k][dim] */
    double *nearest;        /* [n] squared distance to the nearest centre */
    size_t *sizes;          /* [k] */
} clustering;

static double squared_distance(const clustering *c, size_t row, size_t centre)
{
    double sum = 0;
    for (size_t j = 0; j < c->dim; j++) {
        const double x =
            (double)c->rows[row * c->dim + j] - c->centres[centre * c->dim + j];
        sum += x * x;
    }
    return sum;
}

static void copy_centre(clustering *c, size_t centre, size_t row)
{
    for (size_t j = 0; j < c->dim; j++)
        c->centres[centre * c->dim + j] = (double)c->rows[row * c->dim + j];
}

/* The first centre is row 0, and each further one the row that is farthest from those before it. */
static void choose_centres(clustering *c)
{
    size_t row = 0;

    for (size_t i = 0; i < c->n; i++)
        c->nearest[i] = INFINITY;
    for (size_t k = 0; k < c->k; k++) {
        copy_centre(c, k, row);
        row = 0;
        for (size_t i = 0; i < c->n; i++) {
            c->nearest[i] = fmin(c->nearest[i], squared_distance(c, i, k));
            row = c->nearest[i] > c->nearest[row] ? i : row;
        }
    }
}

/* Assigns rows to the nearest centre, the lower of equal ones.  Returns whether one has changed. */
static bool assign_rows(const clustering *c, int32_t *clusters)
{
    bool changed = false;

    for (size_t i = 0; i < c->n; i++) {
        size_t best = 0;
        double least = squared_distance(c, i, 0);
        for (size_t k = 1; k < c->k; k++) {
            const double d = squared_distance(c, i, k);
            best = d < least ? k : best;
            least = d < least ? d : least;
        }
        changed = changed || clusters[i] != (int32_t)best;
        clusters[i] = (int32_t)best;
    }
    return changed;
}

/* Centres become the means of their rows; one without rows stays. */
static void move_centres(clustering *c, const int32_t *clusters)
{
    memset(c->sums, 0, c->k * c->dim * sizeof *c->sums);
    memset(c->sizes, 0, c->k * sizeof *c->sizes);
    for (size_t i = 0; i < c->n; i++) {
        const size_t k = (size_t)clusters[i];
        c->sizes[k]++;
        for (size_t j = 0; j < c->dim; j++)
            c->sums[k * c->dim + j] += (double)c->rows[i * c->dim + j];
    }
    for (size_t k = 0; k < c->k; k++)
        for (size_t j = 0; c->sizes[k] > 0 && j < c->dim; j++)
            c->centres[k * c->dim + j] = c->sums[k * c->dim + j] / (double)c->sizes[k];
}

sim_status sim_map_clusters(size_t n, size_t dim, const float *features, size_t k,
                            int32_t *out)
{
    sim_status st = SIM_OK;
    clustering c = {.n = n, .dim = dim, .k = k < n ? k : n, .rows = features};
    sim_buffer list[] = {SIM_BUFFER(c.centres, c.k * dim), SIM_BUFFER(c.sums, c.k * dim),
                         SIM_BUFFER(c.nearest, n), SIM_BUFFER(c.sizes, c.k)};

    SIM_TRY(sim_buffers_create(list, 4, "eval/map"));
    choose_centres(&c);
    for (size_t i = 0; i < n; i++)
        out[i] = -1;
    for (int round = 0; round < ROUNDS && assign_rows(&c, out); round++)
        move_centres(&c, out);
done:
    sim_buffers_destroy(list, 4);
    return st;
}
