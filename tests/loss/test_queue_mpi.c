/*
 * test_queue_mpi.c - the sharded queue on 1 to 4 ranks: compared with plain loops in double, and
 * bit by bit with the results of one rank.
 *
 * simile-test: timeout 300
 */
#include "simile_test.h"

#include "simile/loss.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

static const sim_comm *comm;
static const sim_comm alone = {.rank = 0, .size = 1};

enum { MAX_K = 1000, MAX_N = 100, MAX_D = 65 };

/* All inputs of the current case, on every rank. */
static struct {
    size_t k, n, d;
    double temperature, factor;
    bool decoupled;
    bool active[MAX_K];
    float store[MAX_K * MAX_D], a[MAX_N * MAX_D], keys[MAX_N * MAX_D];
} current;

/* ---- rows ---- */

static void draw_row(float *row, size_t d, size_t sample, const float *centre)
{
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = (uint32_t)sample};
    double norm = 0;
    for (size_t i = 0; i < d; i++) {
        double x = (double)sim_random_normal(&r) / sqrt((double)d);
        row[i] = (float)(centre ? (double)centre[i] + 0.5 * x : x);
        norm += (double)row[i] * (double)row[i];
    }
    for (size_t i = 0; i < d; i++)
        row[i] = (float)((double)row[i] / sqrt(norm));
}

static void draw_case(size_t k, size_t n, size_t d)
{
    current.k = k;
    current.n = n;
    current.d = d;
    current.factor = 1;
    for (size_t i = 0; i < k; i++) {
        draw_row(current.store + i * d, d, i, NULL);
        current.active[i] = true;
    }
    for (size_t i = 0; i < n; i++) {
        draw_row(current.a + i * d, d, 10000 + i, NULL);
        draw_row(current.keys + i * d, d, 20000 + i, current.a + i * d);
    }
}

/* ---- reference in double ---- */

static double dot(const double *a, const float *b, size_t d)
{
    double s = 0;
    for (size_t i = 0; i < d; i++)
        s += a[i] * (double)b[i];
    return s;
}

typedef struct {
    double loss, positive, negative;
    bool hit;
} anchor;

/*
 * The loss of anchor `a` with key i. Its gradient, without 1 / n, is added to da: the sum over
 * slots of P (row - key) / T, because the probabilities of all candidates sum to 1.
 */
static anchor reference_anchor(const double *a, size_t i, double t, double *da)
{
    const float *key = current.keys + i * current.d;
    static double s[MAX_K];
    anchor out = {.positive = dot(a, key, current.d), .hit = true};
    double max_value = current.decoupled ? -(double)INFINITY : out.positive, sum;

    for (size_t j = 0; j < current.k; j++)
        if (current.active[j]) {
            s[j] = dot(a, current.store + j * current.d, current.d);
            max_value = s[j] > max_value ? s[j] : max_value;
            out.hit &= out.positive > s[j];
            out.negative += s[j];
        }
    sum = current.decoupled ? 0 : exp((out.positive - max_value) / t);
    for (size_t j = 0; j < current.k; j++)
        sum += current.active[j] ? exp((s[j] - max_value) / t) : 0;
    out.loss = max_value / t + log(sum) - out.positive / t;
    for (size_t j = 0; j < current.k; j++)
        for (size_t x = 0; current.active[j] && x < current.d; x++)
            da[x] += exp((s[j] - max_value) / t) / sum *
                     ((double)current.store[j * current.d + x] - (double)key[x]) / t;
    return out;
}

typedef struct {
    sim_loss_report report;
    double da[MAX_N * MAX_D], largest;
} reference;

/* Mean over dimensions of the standard deviation of the anchors. */
static double anchor_embedding_std(void)
{
    double n = (double)current.n, embedding_std = 0;
    for (size_t x = 0; x < current.d; x++) {
        double mean = 0, squares = 0;
        for (size_t i = 0; i < current.n; i++) {
            double v = (double)current.a[i * current.d + x];
            mean += v / n;
            squares += v * v / n;
        }
        embedding_std += sqrt(fmax(squares - mean * mean, 0)) / (double)current.d;
    }
    return embedding_std;
}

static void compute_reference(reference *m)
{
    double n = (double)current.n, slots = 0;
    memset(m, 0, sizeof *m);
    for (size_t j = 0; j < current.k; j++)
        slots += current.active[j];
    for (size_t i = 0; i < current.n; i++) {
        double a[MAX_D], *da = m->da + i * current.d;
        for (size_t x = 0; x < current.d; x++)
            a[x] = (double)current.a[i * current.d + x];
        anchor r = reference_anchor(a, i, current.temperature, da);
        m->report.loss += current.factor * r.loss / n;
        m->report.accuracy += r.hit / n;
        m->report.positive += r.positive / n;
        m->report.negative += r.negative / (n * slots);
        for (size_t x = 0; x < current.d; x++) {
            da[x] *= current.factor / n;
            m->report.d_log_temperature -= a[x] * da[x];
            m->largest = fmax(m->largest, fabs(da[x]));
        }
    }
    m->report.embedding_std = anchor_embedding_std();
}

/* ---- the queue ---- */

static sim_queue_shape shape_of(size_t unit)
{
    return (sim_queue_shape){
        .k = current.k,
        .rows = {.n = current.n, .unit = unit, .views = 1, .d = current.d}};
}

static sim_queue *open_queue(const sim_comm *c, size_t unit)
{
    const sim_queue_shape shape = shape_of(unit);
    sim_queue *q = NULL;
    ASSERT_OK(sim_queue_create(c, &shape, &q));
    sim_range local = sim_queue_local(q);
    memcpy(sim_queue_rows(q), current.store + local.lo * current.d,
           (local.hi - local.lo) * current.d * sizeof(float));
    return q;
}

typedef struct {
    sim_loss_report report;
    sim_range local;
    float da[MAX_N * MAX_D]; /* of rows `local` */
} result;

static void run_queue(const sim_comm *c, size_t unit, sim_queue *q, result *out)
{
    const sim_queue_shape shape = shape_of(unit);
    const sim_cross_options options = {.temperature = current.temperature,
                                       .factor = current.factor,
                                       .decoupled = current.decoupled};
    memset(out, 0, sizeof *out);
    out->local = sim_rows_local(sim_comm_partition(c), &shape.rows);
    sim_queue_contrast(q, &options, current.a + out->local.lo * current.d,
                       current.keys + out->local.lo * current.d, out->da, &out->report);
}

/* Whether the result on all ranks has the bits of that on one rank. */
static bool same_bits(const result *result_all, const result *result_one)
{
    size_t n = (result_all->local.hi - result_all->local.lo) * current.d;
    return memcmp(&result_all->report, &result_one->report, sizeof result_all->report) ==
               0 &&
           memcmp(result_all->da, result_one->da + result_all->local.lo * current.d,
                  n * sizeof(float)) == 0;
}

static bool within(const char *what, double actual, double expected, double bound)
{
    bool good = fabs(actual - expected) <= bound;
    if (!good)
        print_error("K %zu n %zu d %zu T %g%s: %s is %.12g, expected %.12g\n", current.k,
                    current.n, current.d, current.temperature,
                    current.decoupled ? " decoupled" : "", what, actual, expected);
    return good;
}

static bool matches_reference(const result *r, const reference *m)
{
    double t = current.temperature, cold = t < 0.05 ? 0.05 / t : 1;
    double tolerance = t >= 0.05 && t <= 1 ? 1e-5 : 1e-3, floor = 1e-30, max_error = 0;
    const sim_loss_report *actual = &r->report, *expected = &m->report;
    bool good = within("loss", actual->loss, expected->loss,
                       1e-6 * fmax(1, fabs(expected->loss)) * cold);

    good &= within("accuracy", actual->accuracy, expected->accuracy, 1e-12);
    good &= within("positive", actual->positive, expected->positive, 1e-6);
    good &= within("negative", actual->negative, expected->negative, 1e-6);
    good &= within("embedding_std", actual->embedding_std, expected->embedding_std, 1e-6);
    good &= within("d_log_temperature", actual->d_log_temperature,
                   expected->d_log_temperature,
                   tolerance * (double)current.n * m->largest + floor);
    for (size_t i = 0; i < (r->local.hi - r->local.lo) * current.d; i++)
        max_error = fmax(max_error,
                         isfinite(r->da[i])
                             ? fabs((double)r->da[i] - m->da[r->local.lo * current.d + i])
                             : (double)INFINITY);
    return good &
           within("worst error of da", max_error, 0, tolerance * m->largest + floor);
}

static reference expected;
static result result_all, result_one;

/* Compares all ranks with one rank (with two threads) and with the reference. */
static bool check_case(size_t unit)
{
    sim_queue *q = open_queue(comm, unit), *single = open_queue(&alone, unit);
    run_queue(comm, unit, q, &result_all);
    sim_threads_set(2);
    run_queue(&alone, unit, single, &result_one);
    sim_threads_set(1);
    compute_reference(&expected);
    sim_queue_destroy(&q);
    sim_queue_destroy(&single);
    bool same = within("bits over ranks", same_bits(&result_all, &result_one), 1, 0);
    return matches_reference(&result_all, &expected) && same;
}

static const size_t sizes_k[] = {1, 3, 255, 256, 257, 1000};
static const double temperatures[] = {0.005, 0.07, 0.2, 1, 10};

static void loss_and_gradient_match_the_reference_and_the_bits_of_one_rank(void **state)
{
    (void)state;
    static const size_t sizes_n[] = {2, 7, 32, 100}, sizes_d[] = {3, 16, 65};
    bool good = true;
    for (size_t k = 0; k < 6; k++)
        for (size_t n = 0; n < 4; n++)
            for (size_t d = 0; d < 3; d++) {
                draw_case(sizes_k[k], sizes_n[n], sizes_d[d]);
                for (size_t t = 0; t < 10; t++) {
                    current.temperature = temperatures[t / 2];
                    current.decoupled = t % 2 == 1;
                    good &= check_case(d == 1 ? 5 : 32);
                }
            }
    assert_true(good);
}

static void a_factor_multiplies_loss_and_gradient(void **state)
{
    (void)state;
    draw_case(300, 7, 16);
    current.temperature = 0.2;
    current.decoupled = false;
    current.factor = 0.5;
    assert_true(check_case(2));
}

/* Keys and queue rows that equal the anchors or their negatives. */
static void extreme_similarities_give_finite_results(void **state)
{
    (void)state;
    bool good = true;
    for (int signs = 0; signs < 4; signs++)
        for (size_t t = 0; t < 10; t++) {
            draw_case(520, 2, 3);
            current.temperature = temperatures[t / 2];
            current.decoupled = t % 2 == 1;
            for (size_t i = 0; i < 6; i++) {
                current.a[i] = current.a[i % 3];
                current.keys[i] = signs & 1 ? -current.a[i] : current.a[i];
            }
            for (size_t i = 0; i < 520 * 3; i++)
                current.store[i] = signs & 2 ? -current.a[i % 3] : current.a[i % 3];
            compute_reference(&expected);
            sim_queue *q = open_queue(comm, 1);
            run_queue(comm, 1, q, &result_all);
            sim_queue_destroy(&q);
            good &= isfinite(result_all.report.d_log_temperature);
            good &= within("loss", result_all.report.loss, expected.report.loss,
                           1e-5 * fmax(1, fabs(expected.report.loss)));
            good &= within("accuracy", result_all.report.accuracy, signs == 2, 0);
            for (size_t i = 0; i < (result_all.local.hi - result_all.local.lo) * 3; i++)
                good &= isfinite(result_all.da[i]);
        }
    assert_true(good);
}

/* Checks the reference: its gradient is the derivative of its loss. */
static void the_reference_gradient_matches_finite_differences(void **state)
{
    (void)state;
    const double h = 1e-5;
    draw_case(40, 3, 5);
    for (size_t t = 2; t < 10; t++) {
        current.temperature = temperatures[t / 2];
        current.decoupled = t % 2 == 1;
        for (size_t x = 0; x < current.d; x++) {
            double a[MAX_D], b[MAX_D], da[MAX_D] = {0}, unused[MAX_D] = {0}, inner = 0;
            for (size_t i = 0; i < current.d; i++)
                a[i] = b[i] = (double)current.a[current.d + i];
            (void)reference_anchor(a, 1, current.temperature, da);
            double t_up = current.temperature * exp(h),
                   t_down = current.temperature * exp(-h);
            double by_t = reference_anchor(a, 1, t_up, unused).loss -
                          reference_anchor(a, 1, t_down, unused).loss;
            for (size_t i = 0; i < current.d; i++)
                inner += a[i] * da[i];
            a[x] += h;
            b[x] -= h;
            double by_a = reference_anchor(a, 1, current.temperature, unused).loss -
                          reference_anchor(b, 1, current.temperature, unused).loss;
            assert_true(fabs(by_a / (2 * h) - da[x]) <= 1e-5 * fmax(1, fabs(da[x])));
            assert_true(fabs(by_t / (2 * h) + inner) <= 1e-5 * fmax(1, fabs(inner)));
        }
    }
}

/* ---- pushes ---- */

/* Pushes a batch to the array current.store. */
static void reference_push(const float *batch, size_t *pointer, size_t *filled)
{
    for (size_t i = 0; i < current.n; i++) {
        memcpy(current.store + *pointer * current.d, batch + i * current.d,
               current.d * sizeof *batch);
        current.active[*pointer] = true;
        *pointer = (*pointer + 1) % current.k;
        *filled += *filled < current.k;
    }
}

static bool has_rows(sim_queue *q, size_t pointer, size_t filled)
{
    sim_range local = sim_queue_local(q);
    return (size_t)sim_queue_pointer(q) == pointer &&
           (size_t)sim_queue_filled(q) == filled &&
           memcmp(sim_queue_rows(q), current.store + local.lo * current.d,
                  (local.hi - local.lo) * current.d * sizeof(float)) == 0;
}

static bool check_nearest(sim_queue *q, size_t unit);

/* Pushes batches starting at slot `start`; only filled slots are active. */
static bool check_pushes(size_t k, size_t n, size_t start, size_t rounds)
{
    static float batch[MAX_N * MAX_D];
    size_t pointer = start % k, filled = 0;
    bool good = true;

    draw_case(k, n, 3);
    memset(current.active, 0, sizeof current.active);
    current.temperature = 0.2;
    current.decoupled = false;
    sim_queue *q = open_queue(comm, 5);
    sim_queue_set_pointer(q, (int64_t)pointer);
    sim_queue_only_filled(q, true);
    run_queue(comm, 5, q, &result_all);
    good &= result_all.report.loss == 0;
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < n; i++)
            draw_row(batch + i * 3, 3, 30000 + r * 1000 + i, NULL);
        sim_queue_push(q, batch + result_all.local.lo * 3);
        reference_push(batch, &pointer, &filled);
        good &= within("rows, pointer, filled", has_rows(q, pointer, filled), 1, 0);
        compute_reference(&expected);
        run_queue(comm, 5, q, &result_all);
        good &= matches_reference(&result_all, &expected);
        good &= check_nearest(q, 5);
    }
    sim_queue_destroy(&q);
    return good;
}

static void pushes_wrap_around_and_keep_the_last_rows(void **state)
{
    (void)state;
    bool good = true;
    for (size_t k = 0; k < 6; k++) {
        good &= check_pushes(sizes_k[k], 2, 0, 3);
        good &= check_pushes(sizes_k[k], 7, sizes_k[k] - 1, 5);
        good &= check_pushes(sizes_k[k], 100, 130, 11);
    }
    assert_true(good);
}

/* ---- nearest ---- */

static bool is_nearest(const double *a, size_t slot)
{
    const float *row = current.store + slot * current.d;
    double s = dot(a, row, current.d);
    for (size_t j = 0; j < current.k; j++) {
        if (!current.active[j])
            continue;
        bool equal =
            memcmp(row, current.store + j * current.d, current.d * sizeof *row) == 0;
        if ((equal && j < slot) ||
            dot(a, current.store + j * current.d, current.d) > s + 1e-6)
            return false;
    }
    return current.active[slot];
}

static bool check_nearest(sim_queue *q, size_t unit)
{
    static float rows[MAX_N * MAX_D];
    int64_t slots[MAX_N];
    const sim_queue_shape shape = shape_of(unit);
    sim_range local = sim_rows_local(sim_comm_partition(comm), &shape.rows);
    double embedding_std = 0;
    bool good = true;

    sim_queue_nearest(q, current.a + local.lo * current.d, rows, slots, &embedding_std);
    good &= within("embedding_std", embedding_std, anchor_embedding_std(), 1e-6);
    for (size_t i = local.lo; i < local.hi; i++) {
        size_t slot = (size_t)slots[i - local.lo];
        double a[MAX_D];
        for (size_t x = 0; x < current.d; x++)
            a[x] = (double)current.a[i * current.d + x];
        good &= within("nearest", slot < current.k && is_nearest(a, slot), 1, 0);
        good &= slot < current.k &&
                memcmp(rows + (i - local.lo) * current.d,
                       current.store + slot * current.d, current.d * sizeof *rows) == 0;
    }
    return good;
}

static void the_nearest_slot_is_the_lowest_of_equal_ones(void **state)
{
    (void)state;
    bool good = true;
    for (size_t k = 0; k < 6; k++)
        for (size_t d = 3; d <= 65; d += 31) {
            draw_case(sizes_k[k], 33, d);
            for (size_t i = 0; i < current.k; i++) /* every row occurs several times */
                memcpy(current.store + i * d, current.store + i * 7 % 90 % current.k * d,
                       d * sizeof(float));
            for (size_t i = 0; i < current.n;
                 i += 4) /* products that are zero with either sign */
                memset(current.a + i * d, 0, d * sizeof(float));
            sim_queue *q = open_queue(comm, 32);
            good &= check_nearest(q, 32);
            sim_queue_destroy(&q);
        }
    assert_true(good);
}

/* ---- memory, state ---- */

static void create_allocates_the_announced_bytes_and_a_step_none(void **state)
{
    (void)state;
    static float rows[MAX_N * MAX_D];
    int64_t slots[MAX_N];
    double embedding_std = 0;
    bool good = true;
    for (size_t k = 0; k < 6; k++) {
        draw_case(sizes_k[k], 33, 7);
        current.temperature = 0.1;
        const sim_queue_shape shape = shape_of(4);
        size_t before = sim_memory_bytes();
        sim_queue *q = open_queue(comm, 4);
        size_t allocated = sim_memory_bytes() - before;
        good &= allocated == sim_queue_bytes(sim_comm_partition(comm), &shape);
        uint64_t calls = sim_memory_calls();
        run_queue(comm, 4, q, &result_all);
        sim_queue_nearest(q, current.a + result_all.local.lo * 7, rows, slots,
                          &embedding_std);
        sim_queue_push(q, current.keys + result_all.local.lo * 7);
        good &= sim_memory_calls() == calls;
        sim_queue_destroy(&q);
        good &= sim_memory_bytes() == before;
    }
    assert_true(good);
}

static void memory_per_rank_is_inversely_proportional_to_the_number_of_ranks(void **state)
{
    (void)state;
    const sim_queue_shape shape = {.k = 1000000,
                                   .rows = {.n = 256, .unit = 32, .views = 1, .d = 128}};
    for (size_t ranks = 1; ranks <= 5; ranks++)
        for (size_t r = 0; r < ranks; r++) {
            const sim_partition p = {.size = ranks, .rank = r};
            assert_true(sim_queue_bytes(p, &shape) <
                        shape.k / ranks * 128 * sizeof(float) + ((size_t)10 << 20));
        }
}

static void initial_rows_are_of_unit_length_and_independent_of_ranks(void **state)
{
    (void)state;
    draw_case(1000, 2, 16);
    sim_queue *q = open_queue(comm, 1), *single = open_queue(&alone, 1);
    sim_range local = sim_queue_local(q);
    sim_queue_draw(q, 7);
    sim_queue_draw(single, 7);
    const float *rows = sim_queue_rows(single);
    bool good = memcmp(sim_queue_rows(q), rows + local.lo * 16,
                       (local.hi - local.lo) * 16 * sizeof *rows) == 0;
    double mean = 0;
    for (size_t i = 0; i < 1000; i++) {
        double norm = 0;
        for (size_t x = 0; x < 16; x++) {
            norm += (double)rows[i * 16 + x] * (double)rows[i * 16 + x];
            mean += (double)rows[i * 16 + x] / 16000;
        }
        good &= fabs(norm - 1) < 1e-6;
    }
    sim_queue_destroy(&q);
    sim_queue_destroy(&single);
    assert_true(good && fabs(mean) < 0.01);
}

typedef struct {
    sim_tensor tensors[4];
    size_t n;
    int64_t pointer; /* stored by the visitor, as a checkpoint does */
} visited_tensors;

static sim_status store_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    visited_tensors *w = ctx;
    assert_string_equal(group, "/queue");
    w->tensors[w->n++] = *t;
    if (strcmp(t->name, "pointer") == 0)
        *(int64_t *)t->data = w->pointer;
    return SIM_OK;
}

static void a_visitor_receives_shards_and_the_ranges_of_values(void **state)
{
    (void)state;
    draw_case(300, 2, 16);
    sim_queue *q = open_queue(comm, 1);
    sim_range local = sim_queue_local(q);
    visited_tensors w = {.pointer = 299};
    const sim_visitor v = {store_tensor, &w};
    ASSERT_OK(sim_queue_visit(q, "/queue", &v));
    assert_int_equal(w.n, 3);
    assert_string_equal(w.tensors[0].name, "rows");
    assert_int_equal(w.tensors[0].dims[0], 300);
    assert_int_equal(w.tensors[0].dims[1], 16);
    assert_true(w.tensors[0].sharded);
    assert_int_equal(w.tensors[0].row_lo, local.lo);
    assert_int_equal(w.tensors[0].row_hi, local.hi);
    assert_string_equal(w.tensors[1].name, "pointer");
    assert_string_equal(w.tensors[2].name, "filled");
    for (size_t i = 0; i < w.n; i++)
        assert_true(w.tensors[i].bounded);
    assert_true(w.tensors[1].least == 0 && w.tensors[1].most == 299);
    assert_true(w.tensors[2].least == 0 && w.tensors[2].most == 300);
    assert_int_equal(sim_queue_pointer(q), 299);
    sim_queue_destroy(&q);
}

static bool same_hash(sim_hash a, sim_hash b)
{
    return a.low == b.low && a.high == b.high;
}

static void the_hash_covers_rows_pointer_and_filled_and_is_independent_of_ranks(
    void **state)
{
    (void)state;
    draw_case(700, 2, 16);
    sim_queue *q = open_queue(comm, 1), *single = open_queue(&alone, 1);
    sim_range local = sim_queue_local(q);
    sim_hash first, other;
    sim_queue_draw(q, 3);
    sim_queue_draw(single, 3);
    ASSERT_OK(sim_queue_hash(q, &first));
    ASSERT_OK(sim_queue_hash(single, &other));
    assert_true(same_hash(first, other));
    sim_queue_set_pointer(q, 5);
    ASSERT_OK(sim_queue_hash(q, &other));
    assert_false(same_hash(first, other));
    sim_queue_set_pointer(q, 0);
    if (local.lo <= 600 && 600 < local.hi)
        sim_queue_rows(q)[(600 - local.lo) * 16 + 9] += 1;
    ASSERT_OK(sim_queue_hash(q, &other));
    assert_false(same_hash(first, other));
    sim_queue_push(single, current.a);
    ASSERT_OK(sim_queue_hash(single, &other));
    assert_false(same_hash(first, other));
    sim_queue_destroy(&q);
    sim_queue_destroy(&single);
}

static void a_failed_create_leaks_nothing(void **state)
{
    (void)state;
    draw_case(300, 2, 16);
    const sim_queue_shape shape = shape_of(1);
    size_t before = sim_memory_bytes();
    sim_queue *q = NULL;
    for (uint64_t k = 1; !q; k++) {
        sim_memory_fail_at(k);
        if (sim_queue_create(comm, &shape, &q) != SIM_OK)
            assert_int_equal(sim_memory_bytes(), before);
    }
    sim_memory_fail_at(0);
    sim_queue_destroy(&q);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradient_match_the_reference_and_the_bits_of_one_rank),
        cmocka_unit_test(a_factor_multiplies_loss_and_gradient),
        cmocka_unit_test(extreme_similarities_give_finite_results),
        cmocka_unit_test(the_reference_gradient_matches_finite_differences),
        cmocka_unit_test(pushes_wrap_around_and_keep_the_last_rows),
        cmocka_unit_test(the_nearest_slot_is_the_lowest_of_equal_ones),
        cmocka_unit_test(create_allocates_the_announced_bytes_and_a_step_none),
        cmocka_unit_test(
            memory_per_rank_is_inversely_proportional_to_the_number_of_ranks),
        cmocka_unit_test(initial_rows_are_of_unit_length_and_independent_of_ranks),
        cmocka_unit_test(a_visitor_receives_shards_and_the_ranges_of_values),
        cmocka_unit_test(
            the_hash_covers_rows_pointer_and_filled_and_is_independent_of_ranks),
        cmocka_unit_test(a_failed_create_leaks_nothing),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 70;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
