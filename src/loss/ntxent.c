/*
 * ntxent.c - NT-Xent, DCL, DCLW and SupCon over the global batch.
 *
 * In: unit rows of this rank. Out: the loss and the gradient of the global mean.
 * L_i = -(mean over positives p of s_ip) / T + lse_i, lse_i = log sum_{j in D(i)} exp(s_ij / T).
 * D(i) is all rows but i; if decoupled, all rows but i and its positives. The first term is
 * multiplied by w_i (DCLW) or is -log sum_p exp(s_ip / T) (`inside`), with the mean in place of the sum
 * if `inside_mean` (SupCon, L_in).
 * Gradient, with R rows: dz_i = sum_j (P_ij + P_ji - a_ij - a_ji) z_j / (T R), where
 * P_ij = exp(s_ij / T - lse_i) for j in D(i), else 0, and for each positive j the weight a_ij is
 * w_i / |P(i)| or, if inside, the softmax of s_ij / T over the positives of i. If j is a positive
 * of i, i is one of j, and both have equally many.
 *
 * The logits s_ij / T are quadratic in z, so by Euler's theorem on homogeneous functions the
 * gradient with respect to log T is -1/2 sum_i z_i . dz_i, where dz is the part through the logits.
 * The part through DCLW's weights, which do not depend on T, is subtracted.
 * Chen et al. 2020, arXiv 2002.05709, equation 1; Yeh et al. 2022, arXiv 2110.06848; Khosla
 * et al. 2020, arXiv 2004.11362.
 */
#include "ntxent.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

typedef struct {
    sim_contrast *e;
    const sim_ntxent_options *options;
    float inverse;     /* 1 / T */
    bool fixed;        /* sim_tile_shift_is_fixed */
    float *dz;         /* [views][local][d] */
    sim_range anchors; /* slots of this rank whose rows are anchors */
} ntxent;

static double loss_factor(const sim_ntxent_options *o)
{
    return o->factor > 0 ? o->factor : 1;
}

/* Scale of the gradients: factor / (T R). */
static double gradient_scale(const sim_contrast *e, const sim_ntxent_options *o)
{
    return loss_factor(o) / (o->temperature * (double)(e->shape.views * e->shape.n));
}

/* ---- one tile of similarities ---- */

/* A pass of the anchors over the rows of all views. */
static row_pass pass_over_columns(ntxent *q)
{
    return (row_pass){.slots = q->anchors, .rows = q->e->z, .columns = q->e->z, .ctx = q};
}

/* Finds the column of slot i in the tile; false if the tile does not contain it. */
static bool find_column(column_tile c, size_t i, size_t *at)
{
    *at = i - c.lo;
    return i >= c.lo && i < c.lo + c.n;
}

/* ---- first pass: log-sum-exp, loss ---- */

/* Running state of a row over the column tiles. Positives are kept separate from negatives,
 * so that no precision is lost when one of them dominates the sum. */
typedef struct {
    running_sum negatives;
    double *positives;    /* without labels: [n_positives] similarities */
    running_sum of_label; /* with labels: over the positives */
    size_t n_positives;
    double positive_sum;              /* of their similarities */
    float min_positive, max_negative; /* similarities */
} row_state;

static row_state begin_row(const ntxent *q, size_t row)
{
    const running_sum none = sim_running_begin(q->fixed, q->inverse);
    return (row_state){.negatives = none,
                       .of_label = none,
                       .positives = q->e->positives + row * (q->e->shape.views - 1),
                       .min_positive = INFINITY,
                       .max_negative = -INFINITY};
}

/* Adds n similarities, -INFINITY where masked; returns the largest. */
static float ntxent_add_row(const ntxent *q, running_sum *r, size_t n, const float *s)
{
    float max = sim_row_max(n, s);
    if (max > -INFINITY)
        sim_running_add(r, q->fixed, q->inverse, n, s, max);
    return max;
}

/* The row of a view of an image of this rank. */
static const float *row_of(const sim_contrast *e, size_t view, size_t slot)
{
    return sim_passes_row(&e->passes, &e->z, view, slot);
}

/* The similarity of two views of an image in double, because the weight of a positive is a difference
 * of probabilities that may both be close to 1. */
static double ntxent_similarity(const sim_contrast *e, size_t slot, size_t view,
                                size_t other)
{
    return sim_dot(e->shape.d, row_of(e, view, slot), row_of(e, other, slot));
}

/* Without labels: masks the column of the anchor's slot, which is the anchor itself or a positive;
 * records the positive. */
static void split_slot(const sim_contrast *e, size_t view, size_t i, column_tile c,
                       float *s, row_state *r)
{
    size_t at = 0;

    if (!find_column(c, i, &at))
        return;
    if (c.view != view) {
        double similarity = ntxent_similarity(e, i, view, c.view);
        r->positives[r->n_positives++] = similarity;
        r->positive_sum += similarity;
        r->min_positive = s[at] < r->min_positive ? s[at] : r->min_positive;
    }
    s[at] = -INFINITY;
}

/* With labels: masks all columns of the anchor's label; records them as positives, except the
 * anchor. */
static void split_label(const ntxent *q, size_t view, size_t i, column_tile c, float *s,
                        row_state *r)
{
    const int32_t *labels = q->options->labels + c.lo, label = q->options->labels[i];
    float same[COLUMN_TILE]; /* the similarities of these columns, else -INFINITY */
    size_t at = 0, n_same = sim_label_count(c.n, labels, label);

    if (n_same == 0)
        return;
    sim_label_split(c.n, labels, label, s, same);
    if (find_column(c, i, &at) && c.view == view) {
        same[at] = -INFINITY;
        n_same--;
    }
    r->n_positives += n_same;
    sim_label_sum(c.n, same, &r->positive_sum, &r->min_positive);
    (void)ntxent_add_row(q, &r->of_label, c.n, same);
}

/* Adds one row of a tile; s is overwritten. */
static void ntxent_accumulate_row(const ntxent *q, size_t view, size_t i, column_tile c,
                                  float *s, row_state *r)
{
    if (q->options->labels)
        split_label(q, view, i, c, s, r);
    else
        split_slot(q->e, view, i, c, s, r);
    float max = ntxent_add_row(q, &r->negatives, c.n, s);
    r->max_negative = max > r->max_negative ? max : r->max_negative;
}

/* Sum over positives of exp(s / T - shift), where shift is that of r->negatives. With labels, if
 * the shift of the positives is larger, r->negatives is first rescaled to it. */
static double sum_positives(const ntxent *q, row_state *r)
{
    running_sum *negatives = &r->negatives;
    double sum = 0;

    if (q->options->labels) {
        double difference = r->of_label.shift - negatives->shift;
        if (!(difference > 0))
            return r->of_label.sum * sim_exp_double(difference);
        negatives->sum *= sim_exp_double(-difference);
        negatives->shift = r->of_label.shift;
        return r->of_label.sum;
    }
    for (size_t p = 0; p < r->n_positives; p++)
        sum +=
            sim_exp_double(r->positives[p] / q->options->temperature - negatives->shift);
    return sum;
}

static void ntxent_record_row(const ntxent *q, row_state *r, row_record *out)
{
    const sim_ntxent_options *o = q->options;
    double positives = sum_positives(q, r), n = (double)r->n_positives;
    double total = r->negatives.sum + (o->decoupled ? 0 : positives);

    *out = (row_record){
        .n_positives = n, .positive_sum = r->positive_sum, .lse = (double)INFINITY};
    if (r->n_positives == 0 || !(total > 0))
        return; /* no positive, or decoupled and no negative: the loss is 0 */
    out->lse = r->negatives.shift + sim_ln(total);
    out->correct = r->min_positive > r->max_negative ? 1 : 0;
    out->negative_share = r->negatives.sum / total;
    if (o->inside && r->n_positives > 1) {
        out->positives_lse = r->negatives.shift + sim_ln(positives);
        out->loss = out->lse - out->positives_lse + (o->inside_mean ? sim_ln(n) : 0);
    } else {
        out->positive_weight = 1 / n;
        out->loss = out->lse - r->positive_sum / n / o->temperature;
    }
}

size_t sim_ntxent_scratch(size_t d)
{
    return sim_tile_scratch_bytes(d);
}

_Static_assert(sizeof(row_state) <= MAX_ROW_STATE, "states of the pass engine");

static size_t index_of(const sim_contrast *e, const pass_row *row)
{
    return row->view * e->shape.n + row->slot;
}

static void ntxent_first_begin(void *ctx, const pass_row *row)
{
    const ntxent *q = ctx;
    *(row_state *)row->state = begin_row(q, index_of(q->e, row));
}

static void ntxent_first_row(void *ctx, const pass_row *row, column_tile c, float *s)
{
    ntxent_accumulate_row(ctx, row->view, row->slot, c, s, row->state);
}

static void ntxent_first_end(void *ctx, const pass_row *row)
{
    const ntxent *q = ctx;
    ntxent_record_row(q, row->state, &q->e->records[index_of(q->e, row)]);
    q->e->z_dot_dz[index_of(q->e, row)] = 0;
}

static void ntxent_first_pass(ntxent *q)
{
    row_pass pass = pass_over_columns(q);
    pass.begin = ntxent_first_begin;
    pass.compare = ntxent_first_row;
    pass.end = ntxent_first_end;
    sim_passes_run(&q->e->passes, &pass);
}

/* ---- second pass: the gradient ---- */

/* a_ij - P_ij of a positive if positives are inside the logarithm. a_ij is its softmax over the
 * positives, and P_ij = a_ij (1 - negative_share). */
static double inside_weight(const ntxent *q, const row_record *anchor, double s)
{
    double a = sim_exp_double(s / q->options->temperature - anchor->positives_lse);
    return a * anchor->negative_share;
}

/*
 * Weight P_ij + P_ji - a_ij - a_ji of the positive with similarity s. If an anchor has a single
 * positive, P_ij is computed as 1 - negative_share, because exp(s / T - lse) may round to 1.
 */
static double positive_weight(const ntxent *q, size_t row, size_t column, double s)
{
    double logit = s / q->options->temperature;
    const row_record *a = &q->e->records[row], *b = &q->e->records[column];
    if (q->options->inside && a->n_positives > 1)
        return -(inside_weight(q, a, s) + inside_weight(q, b, s));
    if (q->options->decoupled)
        return -(a->positive_weight + b->positive_weight);
    if (a->n_positives < 2)
        return (1 - a->positive_weight - a->negative_share) +
               (1 - b->positive_weight - b->negative_share);
    return sim_exp_double(logit - a->lse) - a->positive_weight +
           sim_exp_double(logit - b->lse) - b->positive_weight;
}

/* Replaces the weights p = P_ij + P_ji of the columns of the anchor's label by those of positives.
 * s: similarities of the tile. */
static void weight_label(const ntxent *q, size_t row, size_t i, column_tile c,
                         const float *s, float *p)
{
    const sim_ntxent_options *o = q->options;
    const int32_t *labels = o->labels + c.lo, label = o->labels[i];
    const row_record *a = &q->e->records[row];
    size_t first = c.view * q->e->shape.n + c.lo;

    if (sim_label_count(c.n, labels, label) == 0)
        return;
    if (!o->inside && a->n_positives > 1) { /* a_ij is equal for all anchors of a label */
        sim_label_accumulate(c.n, labels, label, o->decoupled,
                             (float)(2 * a->positive_weight), p);
        return;
    }
    for (size_t j = 0; j < c.n; j++)
        if (labels[j] == label)
            p[j] = (float)positive_weight(q, row, first + j, (double)s[j]);
}

/* Converts the similarities of row i to weights. Without labels, the positive, which is in the
 * anchor's slot and dominates the gradient, is added to the row's sum in double. */
static void ntxent_weight_row(const ntxent *q, size_t view, size_t i, column_tile c,
                              float *s, double *sum)
{
    const sim_contrast *e = q->e;
    size_t at = 0, n = e->shape.n, d = e->shape.d, row = view * n + i;
    bool in_tile = find_column(c, i, &at);
    float similarities[COLUMN_TILE];

    if (q->options->labels)
        memcpy(similarities, s, c.n * sizeof *s);
    sim_tile_probabilities(q->fixed, q->inverse, c.n, e->weights[row],
                           e->weights + c.view * n + c.lo, s);
    if (q->options->labels) {
        weight_label(q, row, i, c, similarities, s);
    } else if (in_tile && c.view != view) {
        size_t column = c.view * n + i;
        double similarity = ntxent_similarity(e, i, view, c.view);
        sim_tile_add_scaled(sum, d, positive_weight(q, row, column, similarity),
                            row_of(e, c.view, i));
    }
    if (in_tile && (c.view == view || !q->options->labels))
        s[at] = 0; /* the anchor itself, or a positive that was added in double */
}

static void ntxent_second_row(void *ctx, const pass_row *row, column_tile c, float *s)
{
    ntxent_weight_row(ctx, row->view, row->slot, c, s, row->sum);
}

/* Converts the sum of weighted rows to the gradient, and adds z . dz. */
static void ntxent_second_end(void *ctx, const pass_row *row)
{
    const ntxent *q = ctx;
    const sim_contrast *e = q->e;
    const size_t d = e->shape.d, local = e->local.hi - e->local.lo;
    const float *z = row_of(e, row->view, row->slot);
    float *dz = q->dz + (row->view * local + row->slot - e->local.lo) * d;
    double inner = 0;

    sim_tile_finish(d, row->sum, gradient_scale(e, q->options), dz);
    for (size_t k = 0; k < d; k++)
        inner += (double)z[k] * (double)dz[k];
    e->z_dot_dz[index_of(e, row)] += inner;
}

static void ntxent_second_pass(ntxent *q)
{
    row_pass pass = pass_over_columns(q);
    pass.compare = ntxent_second_row;
    pass.end = ntxent_second_end;
    pass.accumulate = true;
    sim_passes_run(&q->e->passes, &pass);
}

/* ---- public functions ---- */

/* a / b, or 0 if there is nothing to divide by. */
static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static void ntxent_report(sim_contrast *e, const sim_ntxent_options *options,
                          sim_loss_report *report)
{
    double rows = (double)(e->shape.views * e->shape.n), pairs = 0;
    double positive_sum = sim_contrast_sum(e, offsetof(row_record, positive_sum));
    double n_positives = sim_contrast_sum(e, offsetof(row_record, n_positives));

    *report = (sim_loss_report){
        .loss = loss_factor(options) * sim_contrast_mean(e, offsetof(row_record, loss)),
        .accuracy = sim_contrast_mean(e, offsetof(row_record, correct)),
        .positive = ratio(positive_sum, n_positives)};
    sim_contrast_statistics(e, &report->embedding_std, &pairs);
    report->negative = ratio(pairs - positive_sum, rows * (rows - 1) - n_positives);
    for (size_t r = 0; r < e->shape.views * e->shape.n; r++)
        report->anchors_without_positive += isinf(e->records[r].lse) != 0;
}

/* The slots of this rank whose rows are anchors. The other rows have no loss. */
static sim_range choose_anchors(sim_contrast *e, const sim_ntxent_options *o)
{
    const sim_range local = e->local;
    const size_t rows = e->shape.views * e->shape.n;
    sim_range r = {o->anchors.lo > local.lo ? o->anchors.lo : local.lo,
                   o->anchors.hi < local.hi ? o->anchors.hi : local.hi};

    if (o->anchors.hi == 0)
        return local;
    SIM_ASSERT(e->shape.views == 2 && !o->labels && !o->weighted);
    memset(e->z_dot_dz, 0, rows * sizeof *e->z_dot_dz);
    for (size_t i = 0; i < rows; i++)
        e->records[i] = (row_record){.lse = (double)INFINITY};
    return r.lo < r.hi ? r : (sim_range){local.lo, local.lo};
}

void sim_ntxent(sim_contrast *e, const sim_ntxent_options *options, const float *z,
                float *dz, sim_loss_report *report)
{
    ntxent q = {.e = e,
                .options = options,
                .inverse = (float)(1 / options->temperature),
                .fixed = sim_tile_shift_is_fixed(options->temperature),
                .dz = dz,
                .anchors = choose_anchors(e, options)};

    SIM_ASSERT(e->shape.n >= 2 && (e->shape.views >= 2 || options->labels));
    SIM_ASSERT(!options->weighted || (e->shape.views == 2 && !options->labels));
    SIM_ASSERT(!options->weight_group || e->shape.n % options->weight_group == 0);
    sim_passes_gather(&e->passes, z, e->gathered, &e->z);
    ntxent_first_pass(&q);
    sim_contrast_gather_records(e);
    for (size_t r = 0; r < e->shape.views * e->shape.n; r++)
        e->weights[r] = sim_tile_lse_weight(q.fixed, q.inverse, e->records[r].lse);
    if (options->weighted)
        sim_dclw_weights(e, options, gradient_scale(e, options));
    ntxent_report(e, options, report);
    if (!dz)
        return;
    ntxent_second_pass(&q);
    sim_contrast_gather_z_dot_dz(e);
    report->d_log_temperature =
        options->anchors.hi ? 0 : -0.5 * sim_contrast_sum_z_dot_dz(e);
}
