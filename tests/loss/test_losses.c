/*
 * test_losses.c - every loss against a plain loop in double: the value directly, the gradients by
 * central differences of that loop.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "simile/loss.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

enum { N = 37, D = 6, MAX_VIEWS = 4, ROWS = N * MAX_VIEWS, SLOTS = 300, DRAWS = 5 };
enum { SEEDS = 3, PROBES = 10 };

static const sim_comm alone = {.rank = 0, .size = 1};
static const double temperatures[] = {0.05, 0.2, 1};

/* The inputs of a loss; the engine receives the same rows in float. */
typedef struct problem problem;
struct problem {
    const char *name;
    uint32_t seed;
    size_t views;
    bool labelled, decoupled, both, inside, weighted, flow;
    double temperature, scale, bias;
    double a[ROWS * D], b[SLOTS * D], keys[N * D];
    int32_t labels[N], positive[N], negatives[N * DRAWS];
    double weights[N]; /* DCLW without gradient through the weights: constants */
    bool fixed_weights;
};

static double number(const problem *p, uint32_t sample, size_t draw)
{
    sim_random r = {.seed = p->seed,
                    .purpose = SIM_RANDOM_TEST,
                    .sample = sample,
                    .draw = (uint32_t)draw};
    return (double)sim_random_normal(&r);
}

/* Rows of unit length, exactly representable in float. */
static void draw_rows(const problem *p, uint32_t sample, size_t n, double *x)
{
    for (size_t i = 0; i < n; i++) {
        double norm = 0;
        for (size_t k = 0; k < D; k++) {
            x[i * D + k] = number(p, sample, i * D + k);
            norm += x[i * D + k] * x[i * D + k];
        }
        for (size_t k = 0; k < D; k++)
            x[i * D + k] = (double)(float)(x[i * D + k] / sqrt(norm));
    }
}

static int32_t draw_index(const problem *p, uint32_t sample, size_t i, int32_t n)
{
    return (int32_t)(fabs(number(p, sample, i)) * 1000) % n;
}

static void draw_problem(problem *p)
{
    draw_rows(p, 1, ROWS, p->a);
    draw_rows(p, 2, SLOTS, p->b);
    draw_rows(p, 3, N, p->keys);
    for (size_t i = 0; i < N; i++) {
        p->labels[i] = draw_index(p, 4, i, 5);
        p->positive[i] = draw_index(p, 5, i, N);
    }
    for (size_t i = 0; i < (size_t)N * DRAWS; i++)
        p->negatives[i] = draw_index(p, 6, i, N);
}

static double dot(const double *a, const double *b)
{
    double s = 0;
    for (size_t k = 0; k < D; k++)
        s += a[k] * b[k];
    return s;
}

/* ---- reference losses ---- */

static bool is_positive(const problem *p, size_t i, size_t j)
{
    return i != j &&
           (p->labelled ? p->labels[i % N] == p->labels[j % N] : i % N == j % N);
}

/* DCLW, arXiv 2110.06848, section 3.2. */
static void weight_pairs(const problem *p, double sigma, double *w)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        sum += exp(dot(p->a + i * D, p->a + (N + i) * D) / sigma);
    for (size_t i = 0; i < N; i++)
        w[i] = 2 - N * exp(dot(p->a + i * D, p->a + (N + i) * D) / sigma) / sum;
}

static double ntxent_anchor(const problem *p, size_t i, double weight)
{
    double t = p->temperature, sum = 0, positive = 0, exponentials = 0, count = 0;
    for (size_t j = 0; j < p->views * N; j++) {
        double s = dot(p->a + i * D, p->a + j * D) / t;
        if (j == i)
            continue;
        if (is_positive(p, i, j)) {
            positive += s;
            exponentials += exp(s);
            count++;
        }
        if (!p->decoupled || !is_positive(p, i, j))
            sum += exp(s);
    }
    if (count == 0)
        return 0;
    return log(sum) - weight * (p->inside ? log(exponentials) : positive / count);
}

static double ntxent_reference(const problem *p)
{
    double sum = 0, w[N];
    weight_pairs(p, 0.5, w);
    for (size_t i = 0; i < p->views * N; i++)
        sum += ntxent_anchor(p, i,
                             !p->weighted       ? 1
                             : p->fixed_weights ? p->weights[i % N]
                                                : w[i % N]);
    return sum / (double)(p->views * N);
}

/* Mean of -log softmax of the diagonal; with `swap`, of columns over anchors. */
static double softmax_reference(const problem *p, bool swap)
{
    double loss = 0;
    for (size_t i = 0; i < N; i++) {
        double sum = 0;
        for (size_t j = 0; j < N; j++)
            if (j != i || !p->decoupled)
                sum += exp(dot(p->a + (swap ? j : i) * D, p->b + (swap ? i : j) * D) /
                           p->temperature);
        loss += log(sum) - dot(p->a + i * D, p->b + i * D) / p->temperature;
    }
    return loss / N;
}

static double cross_reference(const problem *p)
{
    double loss = softmax_reference(p, false);
    return p->both ? (loss + softmax_reference(p, true)) / 2 : loss;
}

static double sigmoid_reference(const problem *p)
{
    double loss = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            double x = p->scale * dot(p->a + i * D, p->b + j * D) + p->bias;
            loss += log1p(exp(i == j ? -x : x));
        }
    return loss / N;
}

static double sampled_reference(const problem *p)
{
    double loss = 0;
    for (size_t i = 0; i < N; i++) {
        double s = dot(p->a + i * D, p->b + p->positive[i] * D) / p->temperature;
        double sum = p->decoupled ? 0 : exp(s);
        for (size_t m = 0; m < DRAWS; m++)
            sum += exp(dot(p->a + i * D, p->b + p->negatives[i * DRAWS + m] * D) /
                       p->temperature);
        loss += log(sum) - s;
    }
    return loss / N;
}

static double queue_reference(const problem *p)
{
    double loss = 0;
    for (size_t i = 0; i < N; i++) {
        double s = dot(p->a + i * D, p->keys + i * D) / p->temperature;
        double sum = p->decoupled ? 0 : exp(s);
        for (size_t j = 0; j < SLOTS; j++)
            sum += exp(dot(p->a + i * D, p->b + j * D) / p->temperature);
        loss += log(sum) - s;
    }
    return loss / N;
}

/* ---- the engines ---- */

static float a[ROWS * D], b[SLOTS * D], keys[N * D], da[ROWS * D], db[SLOTS * D];

typedef void engine_run(const problem *p, sim_loss_report *report);

static sim_rows_shape shape_of(size_t views)
{
    return (sim_rows_shape){.n = N, .unit = 8, .views = views, .d = D};
}

static sim_cross_options cross_options(const problem *p)
{
    return (sim_cross_options){
        .temperature = p->temperature, .decoupled = p->decoupled, .columns = p->both};
}

static void ntxent_run(const problem *p, sim_loss_report *report)
{
    const sim_rows_shape shape = shape_of(p->views);
    const sim_ntxent_options o = {.temperature = p->temperature,
                                  .decoupled = p->decoupled,
                                  .inside = p->inside,
                                  .weighted = p->weighted,
                                  .weight_flow = p->flow,
                                  .labels = p->labelled ? p->labels : NULL};
    sim_contrast *e = NULL;
    ASSERT_OK(sim_contrast_create(&alone, &shape, &e));
    sim_ntxent(e, &o, a, da, report);
    sim_contrast_destroy(&e);
}

static void cross_run(const problem *p, sim_loss_report *report)
{
    const sim_rows_shape shape = shape_of(1);
    const sim_cross_options o = cross_options(p);
    sim_cross *e = NULL;
    ASSERT_OK(sim_cross_create(&alone, &shape, &e));
    if (p->scale > 0)
        sim_cross_sigmoid(e, p->scale, p->bias, a, b, da, db, report);
    else
        sim_cross_softmax(e, &o, a, b, da, db, report);
    sim_cross_destroy(&e);
}

static void sampled_run(const problem *p, sim_loss_report *report)
{
    const sim_sampled_shape shape = {shape_of(1), shape_of(1), DRAWS};
    const sim_cross_options o = cross_options(p);
    sim_sampled *e = NULL;
    ASSERT_OK(sim_sampled_create(&alone, &shape, &e));
    sim_sampled_softmax(e, &o, a, b, p->positive, p->negatives, da, db, report);
    sim_sampled_destroy(&e);
}

static void queue_run(const problem *p, sim_loss_report *report)
{
    const sim_queue_shape shape = {.k = SLOTS, .rows = shape_of(1)};
    const sim_cross_options o = cross_options(p);
    sim_queue *q = NULL;
    ASSERT_OK(sim_queue_create(&alone, &shape, &q));
    memcpy(sim_queue_rows(q), b, sizeof b);
    sim_queue_contrast(q, &o, a, keys, da, report);
    sim_queue_destroy(&q);
}

/* ---- comparison ---- */

typedef double reference_loss(const problem *p);

static void expect(const problem *p, const char *what, double got, double expected,
                   double bound)
{
    if (!(fabs(got - expected) <= bound))
        fail_msg("%s, seed %u, views %zu, T %g: %s is %.9g, expected %.9g", p->name,
                 p->seed, p->views, p->temperature, what, got, expected);
}

static double difference(problem *p, reference_loss *loss, double *x, double h)
{
    double x0 = *x;
    *x = x0 + h;
    double up = loss(p);
    *x = x0 - h;
    double down = loss(p);
    *x = x0;
    return (up - down) / (2 * h);
}

/* Checks PROBES random elements of a gradient of n floats. */
static void check_gradient(problem *p, reference_loss *loss, size_t n, double *x,
                           const float *gradient)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)gradient[i]));
    for (size_t k = 0; k < PROBES; k++) {
        size_t i = (size_t)draw_index(p, 20, k, (int32_t)n);
        expect(p, x == p->a ? "da" : "db", (double)gradient[i],
               difference(p, loss, x + i, 1e-5), 1e-4 * largest);
    }
}

static void check_problem(problem *p, reference_loss *loss, engine_run *run, size_t n_b)
{
    sim_loss_report report = {0};
    size_t n_a = p->views * N * D;

    for (size_t i = 0; i < ROWS * D; i++)
        a[i] = (float)p->a[i];
    for (size_t i = 0; i < SLOTS * D; i++)
        b[i] = (float)p->b[i];
    for (size_t i = 0; i < N * D; i++)
        keys[i] = (float)p->keys[i];
    run(p, &report);
    double expected = loss(p);
    expect(p, "loss", report.loss, expected, 2e-6 * fmax(1, fabs(expected)));
    check_gradient(p, loss, n_a, p->a, da);
    if (n_b)
        check_gradient(p, loss, n_b, p->b, db);
    if (p->scale > 0) {
        double by_scale = p->scale * difference(p, loss, &p->scale, 1e-5);
        expect(p, "d_log_scale", report.d_log_scale, by_scale, 1e-4);
        expect(p, "d_bias", report.d_bias, difference(p, loss, &p->bias, 1e-5), 1e-4);
    } else {
        double by_t = p->temperature * difference(p, loss, &p->temperature, 1e-6);
        expect(p, "d_log_temperature", report.d_log_temperature, by_t,
               1e-4 * fmax(1, fabs(by_t)));
    }
}

/* All seeds and temperatures of a case. */
static void check_case(problem base, reference_loss *loss, engine_run *run, size_t n_b)
{
    static problem p;
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        for (size_t t = 0; t < sizeof temperatures / sizeof temperatures[0]; t++) {
            p = base;
            p.seed = seed;
            p.temperature = temperatures[t];
            if (p.views == 0)
                p.views = 1;
            draw_problem(&p);
            weight_pairs(&p, 0.5, p.weights);
            p.fixed_weights = p.weighted && !p.flow;
            check_problem(&p, loss, run, n_b);
        }
}

static void ntxent_over_two_to_four_views_matches_the_reference(void **state)
{
    (void)state;
    for (size_t views = 2; views <= MAX_VIEWS; views++)
        for (int flags = 0; flags < 4; flags++)
            check_case((problem){.name = "ntxent",
                                 .views = views,
                                 .decoupled = flags & 1,
                                 .inside = flags & 2},
                       ntxent_reference, ntxent_run, 0);
}

static void positives_by_label_match_the_reference(void **state)
{
    (void)state;
    for (size_t views = 1; views <= 2; views++)
        for (int flags = 0; flags < 4; flags++)
            check_case((problem){.name = "labels",
                                 .views = views,
                                 .labelled = true,
                                 .decoupled = flags & 1,
                                 .inside = flags & 2},
                       ntxent_reference, ntxent_run, 0);
}

static void weighted_positives_match_the_reference(void **state)
{
    (void)state;
    for (int flow = 0; flow < 2; flow++)
        check_case((problem){.name = flow ? "dclw with flow" : "dclw",
                             .views = 2,
                             .decoupled = true,
                             .weighted = true,
                             .flow = flow},
                   ntxent_reference, ntxent_run, 0);
}

static void softmax_over_columns_matches_the_reference(void **state)
{
    (void)state;
    for (int flags = 0; flags < 4; flags++)
        check_case((problem){.name = "cross", .decoupled = flags & 1, .both = flags & 2},
                   cross_reference, cross_run, (size_t)N * D);
}

static void sigmoid_matches_the_reference(void **state)
{
    (void)state;
    check_case((problem){.name = "sigmoid", .scale = 10, .bias = -3}, sigmoid_reference,
               cross_run, (size_t)N * D);
}

static void sampled_negatives_match_the_reference(void **state)
{
    (void)state;
    for (int decoupled = 0; decoupled < 2; decoupled++)
        check_case((problem){.name = "sampled", .decoupled = decoupled},
                   sampled_reference, sampled_run, (size_t)N * D);
}

static void the_queue_matches_the_reference(void **state)
{
    (void)state;
    for (int decoupled = 0; decoupled < 2; decoupled++)
        check_case((problem){.name = "queue", .decoupled = decoupled}, queue_reference,
                   queue_run, 0);
}

/* ---- cross-entropy ---- */

/* The definition: - sum_k q_k log softmax(l)_k with q_k = (1 - s) [k = label] + s / D. */
static double entropy_of(const float *logits, int32_t label, double smoothing)
{
    double sum = 0, loss = 0;

    for (size_t k = 0; k < D; k++)
        sum += exp((double)logits[k]);
    for (size_t k = 0; k < D; k++)
        loss -= ((k == (size_t)label ? 1 - smoothing : 0) + smoothing / D) *
                ((double)logits[k] - log(sum));
    return loss;
}

/* Class i of D has logits i to D - 1 of the same value, so several labels have the largest one. */
static void of_equal_logits_the_first_is_the_prediction(void **state)
{
    (void)state;
    static const sim_rows_shape shape = {.n = N, .unit = 8, .views = 1, .d = D};
    static const double smoothing = 0.3;
    float logits[N * D];
    int32_t labels[N];
    double loss = 0, correct = 0;
    sim_cross_entropy *e = NULL;
    sim_loss_report report;

    for (size_t i = 0; i < N; i++) {
        labels[i] = (int32_t)(i * 5 % D);
        for (size_t k = 0; k < D; k++)
            logits[i * D + k] = k < i % D ? -1.5f : 0.25f * (float)(i % 7);
        loss += entropy_of(logits + i * D, labels[i], smoothing) / N;
        correct += (size_t)labels[i] == i % D;
    }
    ASSERT_OK(sim_cross_entropy_create(&alone, &shape, &e));
    sim_cross_entropy_run(e, smoothing, labels, logits, NULL, &report);
    sim_cross_entropy_destroy(&e);
    assert_true(fabs(report.loss - loss) <= 1e-6 * loss);
    assert_true(correct > 0 && correct < N);
    assert_true(fabs(report.accuracy - correct / N) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ntxent_over_two_to_four_views_matches_the_reference),
        cmocka_unit_test(positives_by_label_match_the_reference),
        cmocka_unit_test(weighted_positives_match_the_reference),
        cmocka_unit_test(softmax_over_columns_matches_the_reference),
        cmocka_unit_test(sigmoid_matches_the_reference),
        cmocka_unit_test(sampled_negatives_match_the_reference),
        cmocka_unit_test(the_queue_matches_the_reference),
        cmocka_unit_test(of_equal_logits_the_first_is_the_prediction),
    };
    sim_threads_set(2);
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
