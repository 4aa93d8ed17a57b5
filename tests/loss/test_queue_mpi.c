/*
 * test_queue_mpi.c - the sharded queue on 1 to 4 ranks against plain loops in double, and
 * against itself on one rank, bit by bit.
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

/* Everything of a case, whole, on every rank. */
static struct {
    size_t k, n, d;
    double temperature, factor;
    bool decoupled;
    bool active[MAX_K];
    float store[MAX_K * MAX_D], a[MAX_N * MAX_D], keys[MAX_N * MAX_D];
} now;

/* ---- rows ---- */

static void draw_row(float *row, size_t d, size_t sample, const float *near)
{
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = (uint32_t)sample};
    double norm = 0;
    for (size_t i = 0; i < d; i++) {
        double x = (double)sim_random_normal(&r) / sqrt((double)d);
        row[i] = (float)(near ? (double)near[i] + 0.5 * x : x);
        norm += (double)row[i] * (double)row[i];
    }
    for (size_t i = 0; i < d; i++)
        row[i] = (float)((double)row[i] / sqrt(norm));
}

static void draw_case(size_t k, size_t n, size_t d)
{
    now.k = k;
    now.n = n;
    now.d = d;
    now.factor = 1;
    for (size_t i = 0; i < k; i++) {
        draw_row(now.store + i * d, d, i, NULL);
        now.active[i] = true;
    }
    for (size_t i = 0; i < n; i++) {
        draw_row(now.a + i * d, d, 10000 + i, NULL);
        draw_row(now.keys + i * d, d, 20000 + i, now.a + i * d);
    }
}

/* ---- the meaning, in double ---- */

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
 * Anchor `a` with key `i`; its gradient, without 1 / n, is added to da: the sum over slots of
 * P (r - k), since the slots' P add to what pushes the key away.
 */
static anchor plain_anchor(const double *a, size_t i, double t, double *da)
{
    const float *key = now.keys + i * now.d;
    static double s[MAX_K];
    anchor out = {.positive = dot(a, key, now.d), .hit = true};
    double most = now.decoupled ? -(double)INFINITY : out.positive, sum;

    for (size_t j = 0; j < now.k; j++)
        if (now.active[j]) {
            s[j] = dot(a, now.store + j * now.d, now.d);
            most = s[j] > most ? s[j] : most;
            out.hit &= out.positive > s[j];
            out.negative += s[j];
        }
    sum = now.decoupled ? 0 : exp((out.positive - most) / t);
    for (size_t j = 0; j < now.k; j++)
        sum += now.active[j] ? exp((s[j] - most) / t) : 0;
    out.loss = most / t + log(sum) - out.positive / t;
    for (size_t j = 0; j < now.k; j++)
        for (size_t x = 0; now.active[j] && x < now.d; x++)
            da[x] += exp((s[j] - most) / t) / sum *
                     ((double)now.store[j * now.d + x] - (double)key[x]) / t;
    return out;
}

typedef struct {
    sim_loss_report report;
    double da[MAX_N * MAX_D], largest;
} meaning;

/* Mean over dimensions of the standard deviation of the anchors. */
static double spread_of_anchors(void)
{
    double n = (double)now.n, embedding_std = 0;
    for (size_t x = 0; x < now.d; x++) {
        double mean = 0, squares = 0;
        for (size_t i = 0; i < now.n; i++) {
            double v = (double)now.a[i * now.d + x];
            mean += v / n;
            squares += v * v / n;
        }
        embedding_std += sqrt(fmax(squares - mean * mean, 0)) / (double)now.d;
    }
    return embedding_std;
}

static void plain(meaning *m)
{
    double n = (double)now.n, slots = 0;
    memset(m, 0, sizeof *m);
    for (size_t j = 0; j < now.k; j++)
        slots += now.active[j];
    for (size_t i = 0; i < now.n; i++) {
        double a[MAX_D], *da = m->da + i * now.d;
        for (size_t x = 0; x < now.d; x++)
            a[x] = (double)now.a[i * now.d + x];
        anchor r = plain_anchor(a, i, now.temperature, da);
        m->report.loss += now.factor * r.loss / n;
        m->report.accuracy += r.hit / n;
        m->report.positive += r.positive / n;
        m->report.negative += r.negative / (n * slots);
        for (size_t x = 0; x < now.d; x++) {
            da[x] *= now.factor / n;
            m->report.d_log_temperature -= a[x] * da[x];
            m->largest = fmax(m->largest, fabs(da[x]));
        }
    }
    m->report.embedding_std = spread_of_anchors();
}

/* ---- the queue ---- */

static sim_queue_shape shape_of(size_t unit)
{
    return (sim_queue_shape){.k = now.k,
                             .rows = {.n = now.n, .unit = unit, .views = 1, .d = now.d}};
}

static sim_queue *open_queue(const sim_comm *c, size_t unit)
{
    const sim_queue_shape shape = shape_of(unit);
    sim_queue *q = NULL;
    ASSERT_OK(sim_queue_create(c, &shape, &q));
    sim_range mine = sim_queue_local(q);
    memcpy(sim_queue_rows(q), now.store + mine.lo * now.d,
           (mine.hi - mine.lo) * now.d * sizeof(float));
    return q;
}

typedef struct {
    sim_loss_report report;
    sim_range mine;
    float da[MAX_N * MAX_D]; /* of `mine` */
} result;

static void compare(const sim_comm *c, size_t unit, sim_queue *q, result *out)
{
    const sim_queue_shape shape = shape_of(unit);
    const sim_cross_options options = {
        .temperature = now.temperature, .factor = now.factor, .decoupled = now.decoupled};
    memset(out, 0, sizeof *out);
    out->mine = sim_rows_local(sim_comm_partition(c), &shape.rows);
    sim_queue_contrast(q, &options, now.a + out->mine.lo * now.d,
                       now.keys + out->mine.lo * now.d, out->da, &out->report);
}

/* The result on all ranks has the bits of the one on one rank with two threads. */
static bool same_bits(const result *all, const result *one)
{
    size_t n = (all->mine.hi - all->mine.lo) * now.d;
    return memcmp(&all->report, &one->report, sizeof all->report) == 0 &&
           memcmp(all->da, one->da + all->mine.lo * now.d, n * sizeof(float)) == 0;
}

static bool near(const char *what, double is, double want, double bound)
{
    bool good = fabs(is - want) <= bound;
    if (!good)
        print_error("K %zu n %zu d %zu T %g%s: %s is %.12g, expected %.12g\n", now.k,
                    now.n, now.d, now.temperature, now.decoupled ? " decoupled" : "",
                    what, is, want);
    return good;
}

static bool means_right(const result *r, const meaning *m)
{
    double t = now.temperature, cold = t < 0.05 ? 0.05 / t : 1;
    double part = t >= 0.05 && t <= 1 ? 1e-5 : 1e-3, floor = 1e-30, worst = 0;
    const sim_loss_report *is = &r->report, *want = &m->report;
    bool good =
        near("loss", is->loss, want->loss, 1e-6 * fmax(1, fabs(want->loss)) * cold);

    good &= near("accuracy", is->accuracy, want->accuracy, 1e-12);
    good &= near("positive", is->positive, want->positive, 1e-6);
    good &= near("negative", is->negative, want->negative, 1e-6);
    good &= near("spread", is->embedding_std, want->embedding_std, 1e-6);
    good &= near("d_log_temperature", is->d_log_temperature, want->d_log_temperature,
                 part * (double)now.n * m->largest + floor);
    for (size_t i = 0; i < (r->mine.hi - r->mine.lo) * now.d; i++)
        worst = fmax(worst, isfinite(r->da[i])
                                ? fabs((double)r->da[i] - m->da[r->mine.lo * now.d + i])
                                : (double)INFINITY);
    return good & near("worst error of da", worst, 0, part * m->largest + floor);
}

static meaning want;
static result all, one;

/* One case on these ranks, on one rank, and in double. */
static bool case_is_right(size_t unit)
{
    sim_queue *q = open_queue(comm, unit), *single = open_queue(&alone, unit);
    compare(comm, unit, q, &all);
    sim_threads_set(2);
    compare(&alone, unit, single, &one);
    sim_threads_set(1);
    plain(&want);
    sim_queue_destroy(&q);
    sim_queue_destroy(&single);
    bool same = near("bits over ranks", same_bits(&all, &one), 1, 0);
    return means_right(&all, &want) && same;
}

static const size_t sizes_k[] = {1, 3, 255, 256, 257, 1000};
static const double temperatures[] = {0.005, 0.07, 0.2, 1, 10};

static void loss_and_gradient_are_the_plain_ones_with_the_bits_of_one_rank(void **state)
{
    (void)state;
    static const size_t sizes_n[] = {2, 7, 32, 100}, sizes_d[] = {3, 16, 65};
    bool good = true;
    for (size_t k = 0; k < 6; k++)
        for (size_t n = 0; n < 4; n++)
            for (size_t d = 0; d < 3; d++) {
                draw_case(sizes_k[k], sizes_n[n], sizes_d[d]);
                for (size_t t = 0; t < 10; t++) {
                    now.temperature = temperatures[t / 2];
                    now.decoupled = t % 2 == 1;
                    good &= case_is_right(d == 1 ? 5 : 32);
                }
            }
    assert_true(good);
}

static void a_factor_multiplies_loss_and_gradient(void **state)
{
    (void)state;
    draw_case(300, 7, 16);
    now.temperature = 0.2;
    now.decoupled = false;
    now.factor = 0.5;
    assert_true(case_is_right(2));
}

/* Anchors that meet themselves or their opposites, in the queue or as keys. */
static void extremes_stay_finite(void **state)
{
    (void)state;
    bool good = true;
    for (int which = 0; which < 4; which++)
        for (size_t t = 0; t < 10; t++) {
            draw_case(520, 2, 3);
            now.temperature = temperatures[t / 2];
            now.decoupled = t % 2 == 1;
            for (size_t i = 0; i < 6; i++) {
                now.a[i] = now.a[i % 3];
                now.keys[i] = which & 1 ? -now.a[i] : now.a[i];
            }
            for (size_t i = 0; i < 520 * 3; i++)
                now.store[i] = which & 2 ? -now.a[i % 3] : now.a[i % 3];
            plain(&want);
            sim_queue *q = open_queue(comm, 1);
            compare(comm, 1, q, &all);
            sim_queue_destroy(&q);
            good &= isfinite(all.report.d_log_temperature);
            good &= near("loss", all.report.loss, want.report.loss,
                         1e-5 * fmax(1, fabs(want.report.loss)));
            good &= near("accuracy", all.report.accuracy, which == 2, 0);
            for (size_t i = 0; i < (all.mine.hi - all.mine.lo) * 3; i++)
                good &= isfinite(all.da[i]);
        }
    assert_true(good);
}

/* The yardstick itself: its gradient is the slope of its loss. */
static void the_plain_gradient_matches_finite_differences(void **state)
{
    (void)state;
    const double h = 1e-5;
    draw_case(40, 3, 5);
    for (size_t t = 2; t < 10; t++) {
        now.temperature = temperatures[t / 2];
        now.decoupled = t % 2 == 1;
        for (size_t x = 0; x < now.d; x++) {
            double a[MAX_D], b[MAX_D], da[MAX_D] = {0}, unused[MAX_D] = {0}, inner = 0;
            for (size_t i = 0; i < now.d; i++)
                a[i] = b[i] = (double)now.a[now.d + i];
            (void)plain_anchor(a, 1, now.temperature, da);
            double t_up = now.temperature * exp(h), t_down = now.temperature * exp(-h);
            double by_t = plain_anchor(a, 1, t_up, unused).loss -
                          plain_anchor(a, 1, t_down, unused).loss;
            for (size_t i = 0; i < now.d; i++)
                inner += a[i] * da[i];
            a[x] += h;
            b[x] -= h;
            double by_a = plain_anchor(a, 1, now.temperature, unused).loss -
                          plain_anchor(b, 1, now.temperature, unused).loss;
            assert_true(fabs(by_a / (2 * h) - da[x]) <= 1e-5 * fmax(1, fabs(da[x])));
            assert_true(fabs(by_t / (2 * h) + inner) <= 1e-5 * fmax(1, fabs(inner)));
        }
    }
}

/* ---- pushes ---- */

/* The queue as an array: `now.store`, and how often it was pushed to. */
static void plain_push(const float *batch, size_t *pointer, size_t *filled)
{
    for (size_t i = 0; i < now.n; i++) {
        memcpy(now.store + *pointer * now.d, batch + i * now.d, now.d * sizeof *batch);
        now.active[*pointer] = true;
        *pointer = (*pointer + 1) % now.k;
        *filled += *filled < now.k;
    }
}

static bool holds(sim_queue *q, size_t pointer, size_t filled)
{
    sim_range mine = sim_queue_local(q);
    return (size_t)sim_queue_pointer(q) == pointer &&
           (size_t)sim_queue_filled(q) == filled &&
           memcmp(sim_queue_rows(q), now.store + mine.lo * now.d,
                  (mine.hi - mine.lo) * now.d * sizeof(float)) == 0;
}

static bool nearest_is_right(sim_queue *q, size_t unit);

/* Pushes from slot `start` on; what is not filled takes no part. */
static bool pushes_are_right(size_t k, size_t n, size_t start, size_t rounds)
{
    static float batch[MAX_N * MAX_D];
    size_t pointer = start % k, filled = 0;
    bool good = true;

    draw_case(k, n, 3);
    memset(now.active, 0, sizeof now.active);
    now.temperature = 0.2;
    now.decoupled = false;
    sim_queue *q = open_queue(comm, 5);
    sim_queue_set_pointer(q, (int64_t)pointer);
    sim_queue_only_filled(q, true);
    compare(comm, 5, q, &all);
    good &= all.report.loss == 0;
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < n; i++)
            draw_row(batch + i * 3, 3, 30000 + r * 1000 + i, NULL);
        sim_queue_push(q, batch + all.mine.lo * 3);
        plain_push(batch, &pointer, &filled);
        good &= near("what is held", holds(q, pointer, filled), 1, 0);
        plain(&want);
        compare(comm, 5, q, &all);
        good &= means_right(&all, &want);
        good &= nearest_is_right(q, 5);
    }
    sim_queue_destroy(&q);
    return good;
}

static void pushes_wrap_round_and_keep_the_last(void **state)
{
    (void)state;
    bool good = true;
    for (size_t k = 0; k < 6; k++) {
        good &= pushes_are_right(sizes_k[k], 2, 0, 3);
        good &= pushes_are_right(sizes_k[k], 7, sizes_k[k] - 1, 5);
        good &= pushes_are_right(sizes_k[k], 100, 130, 11);
    }
    assert_true(good);
}

/* ---- nearest ---- */

static bool wins(const double *a, size_t slot)
{
    const float *row = now.store + slot * now.d;
    double s = dot(a, row, now.d);
    for (size_t j = 0; j < now.k; j++) {
        if (!now.active[j])
            continue;
        bool equal = memcmp(row, now.store + j * now.d, now.d * sizeof *row) == 0;
        if ((equal && j < slot) || dot(a, now.store + j * now.d, now.d) > s + 1e-6)
            return false;
    }
    return now.active[slot];
}

static bool nearest_is_right(sim_queue *q, size_t unit)
{
    static float rows[MAX_N * MAX_D];
    int64_t slots[MAX_N];
    const sim_queue_shape shape = shape_of(unit);
    sim_range mine = sim_rows_local(sim_comm_partition(comm), &shape.rows);
    double embedding_std = 0;
    bool good = true;

    sim_queue_nearest(q, now.a + mine.lo * now.d, rows, slots, &embedding_std);
    good &= near("spread", embedding_std, spread_of_anchors(), 1e-6);
    for (size_t i = mine.lo; i < mine.hi; i++) {
        size_t slot = (size_t)slots[i - mine.lo];
        double a[MAX_D];
        for (size_t x = 0; x < now.d; x++)
            a[x] = (double)now.a[i * now.d + x];
        good &= near("nearest", slot < now.k && wins(a, slot), 1, 0);
        good &=
            slot < now.k && memcmp(rows + (i - mine.lo) * now.d, now.store + slot * now.d,
                                   now.d * sizeof *rows) == 0;
    }
    return good;
}

static void the_nearest_slot_is_the_lowest_of_equals(void **state)
{
    (void)state;
    bool good = true;
    for (size_t k = 0; k < 6; k++)
        for (size_t d = 3; d <= 65; d += 31) {
            draw_case(sizes_k[k], 33, d);
            for (size_t i = 0; i < now.k; i++) /* every row stands there several times */
                memcpy(now.store + i * d, now.store + i * 7 % 90 % now.k * d,
                       d * sizeof(float));
            for (size_t i = 0; i < now.n;
                 i += 4) /* products that are zero, either sign */
                memset(now.a + i * d, 0, d * sizeof(float));
            sim_queue *q = open_queue(comm, 32);
            good &= nearest_is_right(q, 32);
            sim_queue_destroy(&q);
        }
    assert_true(good);
}

/* ---- memory, state ---- */

static void create_takes_what_is_announced_and_a_step_nothing(void **state)
{
    (void)state;
    static float rows[MAX_N * MAX_D];
    int64_t slots[MAX_N];
    double embedding_std = 0;
    bool good = true;
    for (size_t k = 0; k < 6; k++) {
        draw_case(sizes_k[k], 33, 7);
        now.temperature = 0.1;
        const sim_queue_shape shape = shape_of(4);
        size_t before = sim_memory_bytes();
        sim_queue *q = open_queue(comm, 4);
        size_t takes = sim_memory_bytes() - before;
        good &= takes == sim_queue_bytes(sim_comm_partition(comm), &shape);
        uint64_t calls = sim_memory_calls();
        compare(comm, 4, q, &all);
        sim_queue_nearest(q, now.a + all.mine.lo * 7, rows, slots, &embedding_std);
        sim_queue_push(q, now.keys + all.mine.lo * 7);
        good &= sim_memory_calls() == calls;
        sim_queue_destroy(&q);
        good &= sim_memory_bytes() == before;
    }
    assert_true(good);
}

static void a_million_slots_on_four_ranks_are_a_quarter_each(void **state)
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

static void drawn_rows_are_unit_and_know_no_ranks(void **state)
{
    (void)state;
    draw_case(1000, 2, 16);
    sim_queue *q = open_queue(comm, 1), *single = open_queue(&alone, 1);
    sim_range mine = sim_queue_local(q);
    sim_queue_draw(q, 7);
    sim_queue_draw(single, 7);
    const float *rows = sim_queue_rows(single);
    bool good = memcmp(sim_queue_rows(q), rows + mine.lo * 16,
                       (mine.hi - mine.lo) * 16 * sizeof *rows) == 0;
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
    sim_tensor seen[4];
    size_t n;
    int64_t pointer; /* put in its place, as a file would */
} witness;

static sim_status see(void *ctx, const char *group, const sim_tensor *t)
{
    witness *w = ctx;
    assert_string_equal(group, "/queue");
    w->seen[w->n++] = *t;
    if (strcmp(t->name, "pointer") == 0)
        *(int64_t *)t->data = w->pointer;
    return SIM_OK;
}

static void a_visitor_sees_shards_and_may_not_set_nonsense(void **state)
{
    (void)state;
    draw_case(300, 2, 16);
    sim_queue *q = open_queue(comm, 1);
    sim_range mine = sim_queue_local(q);
    witness w = {.pointer = 299}, bad = {.pointer = 300};
    const sim_visitor v = {see, &w}, worse = {see, &bad};
    ASSERT_OK(sim_queue_visit(q, "/queue", &v));
    assert_int_equal(w.n, 3);
    assert_string_equal(w.seen[0].name, "rows");
    assert_int_equal(w.seen[0].dims[0], 300);
    assert_int_equal(w.seen[0].dims[1], 16);
    assert_true(w.seen[0].sharded);
    assert_int_equal(w.seen[0].row_lo, mine.lo);
    assert_int_equal(w.seen[0].row_hi, mine.hi);
    assert_string_equal(w.seen[1].name, "pointer");
    assert_string_equal(w.seen[2].name, "filled");
    assert_int_equal(sim_queue_pointer(q), 299);
    ASSERT_REFUSED(sim_queue_visit(q, "/queue", &worse), SIM_E_DATA,
                   "/queue/pointer is 300, expected 0 to 299");
    sim_queue_destroy(&q);
}

static bool same_hash(sim_hash a, sim_hash b)
{
    return a.low == b.low && a.high == b.high;
}

static void one_hash_sees_rows_pointer_and_filled_and_knows_no_ranks(void **state)
{
    (void)state;
    draw_case(700, 2, 16);
    sim_queue *q = open_queue(comm, 1), *single = open_queue(&alone, 1);
    sim_range mine = sim_queue_local(q);
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
    if (mine.lo <= 600 && 600 < mine.hi)
        sim_queue_rows(q)[(600 - mine.lo) * 16 + 9] += 1;
    ASSERT_OK(sim_queue_hash(q, &other));
    assert_false(same_hash(first, other));
    sim_queue_push(single, now.a);
    ASSERT_OK(sim_queue_hash(single, &other));
    assert_false(same_hash(first, other));
    sim_queue_destroy(&q);
    sim_queue_destroy(&single);
}

static void a_refused_allocation_leaves_nothing_behind(void **state)
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
        cmocka_unit_test(loss_and_gradient_are_the_plain_ones_with_the_bits_of_one_rank),
        cmocka_unit_test(a_factor_multiplies_loss_and_gradient),
        cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(the_plain_gradient_matches_finite_differences),
        cmocka_unit_test(pushes_wrap_round_and_keep_the_last),
        cmocka_unit_test(the_nearest_slot_is_the_lowest_of_equals),
        cmocka_unit_test(create_takes_what_is_announced_and_a_step_nothing),
        cmocka_unit_test(a_million_slots_on_four_ranks_are_a_quarter_each),
        cmocka_unit_test(drawn_rows_are_unit_and_know_no_ranks),
        cmocka_unit_test(a_visitor_sees_shards_and_may_not_set_nonsense),
        cmocka_unit_test(one_hash_sees_rows_pointer_and_filled_and_knows_no_ranks),
        cmocka_unit_test(a_refused_allocation_leaves_nothing_behind),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 70;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
