/*
 * test_augments.c - properties of every augmentation of augments.def.
 *
 * Each row needs a case below: whether its parameters are drawn and, where a plain loop is
 * short, the expected view at probability 1, and a digest of its bits, which the failing test prints.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "private.h"

#include "simile/hash.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>

enum { SIDE = 24, MAX_VIEW = SIDE * SIDE * 3, N_SAMPLES = 24, SEED = 77 };

static const augment_row *const rows[] = {
#define SIM_AUGMENT(name, id) &sim_augment_##name,
#include "augments.def"
#undef SIM_AUGMENT
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

/* ---- independent references: byte pixels to the expected view ---- */

static void expect_flip(const uint8_t *in, size_t c, float *out)
{
    for (size_t y = 0; y < SIDE; y++)
        for (size_t x = 0; x < SIDE; x++)
            for (size_t k = 0; k < c; k++)
                out[(y * SIDE + x) * c + k] =
                    (float)in[(y * SIDE + (SIDE - 1 - x)) * c + k] / 255;
}

/* ITU-R BT.601 luma. */
static void expect_gray(const uint8_t *in, size_t c, float *out)
{
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        const uint8_t *p = in + i * c;
        double luma = c == 3 ? 0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2] : p[0];
        for (size_t k = 0; k < c; k++)
            out[i * c + k] = (float)(luma / 255);
    }
}

static void expect_solarize(const uint8_t *in, size_t c, float *out)
{
    for (size_t i = 0; i < SIDE * SIDE * c; i++)
        out[i] = (float)(in[i] >= 128 ? 255 - in[i] : in[i]) / 255;
}

static void expect_vflip(const uint8_t *in, size_t c, float *out)
{
    for (size_t y = 0; y < SIDE; y++)
        for (size_t i = 0; i < SIDE * c; i++)
            out[y * SIDE * c + i] = (float)in[(SIDE - 1 - y) * SIDE * c + i] / 255;
}

/* The default of 4 bits. */
static void expect_posterize(const uint8_t *in, size_t c, float *out)
{
    for (size_t i = 0; i < SIDE * SIDE * c; i++)
        out[i] = (float)(in[i] - in[i] % 16) / 255;
}

/* A pixel becomes its number of darker pixels, in units of a 255th of all but the brightest. */
static void expect_equalize(const uint8_t *in, size_t c, float *out)
{
    for (size_t k = 0; k < c; k++)
        for (size_t i = 0; i < SIDE * SIDE; i++) {
            int n_darker = 0, n_below_top = 0;
            uint8_t top = 0;
            for (size_t j = 0; j < SIDE * SIDE; j++)
                top = in[j * c + k] > top ? in[j * c + k] : top;
            for (size_t j = 0; j < SIDE * SIDE; j++) {
                n_darker += in[j * c + k] < in[i * c + k];
                n_below_top += in[j * c + k] < top;
            }
            const int step = n_below_top / 255, value = (n_darker + step / 2) / step;
            out[i * c + k] = (float)(value > 255 ? 255 : value) / 255;
        }
}

/* ---- cases ---- */

typedef struct {
    const char *name;
    bool draws_at_1; /* at probability 1 the view depends on further draws */
    void (*expect)(const uint8_t *in, size_t c,
                   float *out); /* at probability 1, or NULL */
    const char
        *digest; /* of views with default options at probability 0.7; never changes */
} augment_case;

/* A crop at probability 0 is the centre box, which is the whole of a square image. */
static const augment_case cases[] = {
    {"crop", true, NULL, "5ce9bf9be6ffd400693ed62d75ac2e58"},
    {"flip", false, expect_flip, "8b3d4001e3da3cfd8dd0fb33dcbfcf5c"},
    {"jitter", true, NULL, "668d60626817a4072ca20ba1fb865f0c"},
    {"gray", false, expect_gray, "8ee0532d075070474026f9ce7a4d36ea"},
    {"blur", true, NULL, "a406e49457354320ba443d2025425d76"},
    {"solarize", false, expect_solarize, "de568ebc29fb1c985089bf7b739f64de"},
    {"pad_crop", true, NULL, "d05f1b85699d4e3458b954537ffab823"},
    {"vflip", false, expect_vflip, "b68562d044ad43bed0ad92f12018ecfd"},
    {"turn", true, NULL, "6947706daac1e0a438cec1002939a193"},
    {"erase", true, NULL, "6ff02fff91a50549f9ee27ffcaf010a8"},
    {"noise", true, NULL, "906f3e930974c7d4c12ab2eb0d73af75"},
    {"rotate", true, NULL, "1f8453509d14c9855a435eda7276fc0c"},
    {"posterize", false, expect_posterize, "dc52e557bb8a6b92aedd9e2d916eacaf"},
    {"equalize", false, expect_equalize, "56fdfe16472e5159e78a0ae6bbb73dc0"},
    {"channel_drop", true, NULL, "db1e063c03e50d7dc2549082c502fd93"},
    {"channel_jitter", true, NULL, "961ea9bfcd3d7861ab750716375c0dc6"},
};

static const augment_case *case_of(const augment_row *row)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(cases[i].name, row->name) == 0)
            return &cases[i];
    fail_msg("the augmentation %s of augments.def has no case in this test", row->name);
    return NULL;
}

/* ---- pipelines of one or more operations ---- */

static void set_option(const sim_option *o, const char *text, void *options)
{
    void *to = (char *)options + o->offset;
    if (o->type == SIM_OPTION_ENUM)
        *(int *)to = sim_choices_find(o->choices, text);
    else if (o->type == SIM_OPTION_INT)
        *(int64_t *)to = strtoll(text, NULL, 10);
    else
        *(double *)to = strtod(text, NULL);
}

/* Appends an operation with its default options and probability p. */
static void append(sim_option_items *items, const augment_row *row, const char *p)
{
    size_t at = items->n++;
    items->given = true;
    items->op[at] = -1;
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i] == row)
            items->op[at] = i;
    assert_string_equal(row->table.rows[0].name, "p");
    for (size_t i = 0; i < row->table.n_rows; i++)
        set_option(&row->table.rows[i], i ? row->table.rows[i].fallback : p,
                   &items->values[at]);
}

static sim_augment *create(const sim_augment_options *options, size_t c)
{
    const sim_preprocessing p = {
        .h = SIDE, .w = SIDE, .c = c, .type = SIM_U8, .std = {1, 1, 1}};
    sim_augment *a = NULL;
    ASSERT_OK(sim_augment_create(options, &p, &a));
    return a;
}

static sim_augment *create_single(const augment_row *row, const char *p, size_t c)
{
    static sim_augment_options options;
    options = (sim_augment_options){0};
    append(&options.view1, row, p);
    return create(&options, c);
}

static void fill_image(uint8_t *pixels, size_t c, uint32_t sample)
{
    for (size_t i = 0; i < SIDE * SIDE * c; i++) {
        sim_random r = {
            .purpose = SIM_RANDOM_TEST, .sample = sample, .draw = (uint32_t)i};
        uint32_t w[4];
        sim_random_words(&r, w);
        pixels[i] = (uint8_t)w[0];
    }
}

typedef struct {
    uint32_t seed, sample, epoch, view;
} draw_position;

static void make_view(const sim_augment *a, size_t c, uint32_t picture, draw_position d,
                      float *out)
{
    uint8_t pixels[MAX_VIEW];
    const sim_image image = {
        .h = SIDE, .w = SIDE, .c = c, .type = SIM_U8, .pixels = pixels};
    fill_image(pixels, c, picture);
    ASSERT_OK(sim_augment_view(a, d.seed, d.sample, d.epoch, d.view, &image, out));
}

static bool same_bits(const float *a, const float *b, size_t c)
{
    return memcmp(a, b, SIDE * SIDE * c * sizeof *a) == 0;
}

/* ---- tests ---- */

static void every_row_has_a_case_and_its_own_id(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++) {
        (void)case_of(rows[i]);
        assert_string_equal(rows[i]->name, rows[i]->table.section);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(rows[i]->id, rows[k]->id);
    }
#define SIM_AUGMENT(name, number) assert_int_equal(sim_augment_##name.id, number);
#include "augments.def"
#undef SIM_AUGMENT
}

static void a_view_is_finite_and_within_0_and_1(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++)
        for (size_t c = 1; c <= 3; c += 2) {
            sim_augment *a = create_single(rows[i], "1", c);
            for (uint32_t s = 0; s < N_SAMPLES; s++) {
                float got[MAX_VIEW];
                make_view(a, c, s, (draw_position){SEED, s, 0, 0}, got);
                for (size_t k = 0; k < SIDE * SIDE * c; k++)
                    if (!isfinite(got[k]) || got[k] < -1e-6f || got[k] > 1 + 1e-6f)
                        fail_msg("%s, c %zu, sample %u: value %g", rows[i]->name, c, s,
                                 (double)got[k]);
            }
            sim_augment_destroy(&a);
        }
}

/* Every coordinate of the position selects other draws, and nothing else does. */
static void a_view_is_a_function_of_its_position(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++) {
        const bool draws = case_of(rows[i])->draws_at_1;
        sim_augment *a = create_single(rows[i], draws ? "1" : "0.5", 3);
        size_t n_differ[4] = {0};
        for (uint32_t s = 0; s < N_SAMPLES; s++) {
            const draw_position base = {SEED, s, 3, 0};
            const draw_position others[4] = {{SEED + 1, s, 3, 0},
                                             {SEED, s + 100, 3, 0},
                                             {SEED, s, 4, 0},
                                             {SEED, s, 3, 2}};
            float want[MAX_VIEW], got[MAX_VIEW];
            make_view(a, 3, s, base, want);
            for (int k = 0; k < 4; k++) {
                make_view(a, 3, s, others[k], got);
                n_differ[k] += !same_bits(got, want, 3);
            }
            make_view(a, 3, s, base, got);
            if (!same_bits(got, want, 3))
                fail_msg("%s: sample %u differs when it is recomputed", rows[i]->name, s);
        }
        for (int k = 0; k < 4; k++)
            if (n_differ[k] == 0)
                fail_msg("%s: coordinate %d of the position has no effect", rows[i]->name,
                         k);
        sim_augment_destroy(&a);
    }
}

static void probability_0_keeps_the_image(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++)
        for (size_t c = 1; c <= 3; c += 2) {
            sim_augment *a = create_single(rows[i], "0", c);
            for (uint32_t s = 0; s < N_SAMPLES; s++) {
                uint8_t pixels[MAX_VIEW];
                float got[MAX_VIEW];
                fill_image(pixels, c, s);
                make_view(a, c, s, (draw_position){SEED, s, 0, 0}, got);
                for (size_t k = 0; k < SIDE * SIDE * c; k++)
                    if (fabsf(got[k] - (float)pixels[k] / 255) > 1e-6f)
                        fail_msg("%s, c %zu, sample %u: %g for the byte %u",
                                 rows[i]->name, c, s, (double)got[k], pixels[k]);
            }
            sim_augment_destroy(&a);
        }
}

static void values_match_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++)
        for (size_t c = 1; case_of(rows[i])->expect && c <= 3; c += 2) {
            sim_augment *a = create_single(rows[i], "1", c);
            for (uint32_t s = 0; s < N_SAMPLES; s++) {
                uint8_t pixels[MAX_VIEW];
                float got[MAX_VIEW], want[MAX_VIEW];
                fill_image(pixels, c, s);
                case_of(rows[i])->expect(pixels, c, want);
                make_view(a, c, s, (draw_position){SEED, s, 0, 0}, got);
                for (size_t k = 0; k < SIDE * SIDE * c; k++)
                    if (fabsf(got[k] - want[k]) > 2e-6f)
                        fail_msg("%s, c %zu, sample %u: %g, expected %g", rows[i]->name,
                                 c, s, (double)got[k], (double)want[k]);
            }
            sim_augment_destroy(&a);
        }
}

static void digest_views(const augment_row *row, char digest[33])
{
    sim_hasher *hasher = NULL;

    ASSERT_OK(sim_hasher_create(&hasher));
    for (size_t c = 1; c <= 3; c += 2) {
        sim_augment *a = create_single(row, "0.7", c);
        for (uint32_t s = 0; s < N_SAMPLES; s++) {
            float got[MAX_VIEW];
            make_view(a, c, s, (draw_position){SEED, s, 0, 0}, got);
            sim_hasher_add(hasher, got, SIDE * SIDE * c * sizeof *got);
        }
        sim_augment_destroy(&a);
    }
    sim_hash_hex(sim_hasher_value(hasher), digest);
    sim_hasher_destroy(&hasher);
}

/* An operation of probability 0 before or after another one leaves the other's draws alone. */
static void adding_an_operation_changes_no_other_draws(void **state)
{
    (void)state;
    static sim_augment_options options;
    for (int i = 0; i < N_ROWS; i++) {
        sim_augment *alone = create_single(rows[i], "0.7", 3);
        for (int k = 0; k < N_ROWS; k++)
            for (int before = 0; before < 2 && k != i; before++) {
                options = (sim_augment_options){0};
                if (before)
                    append(&options.view1, rows[k], "0");
                append(&options.view1, rows[i], "0.7");
                if (!before)
                    append(&options.view1, rows[k], "0");
                sim_augment *both = create(&options, 3);
                for (uint32_t s = 0; s < N_SAMPLES; s++) {
                    float want[MAX_VIEW], got[MAX_VIEW];
                    make_view(alone, 3, s, (draw_position){SEED, s, 0, 0}, want);
                    make_view(both, 3, s, (draw_position){SEED, s, 0, 0}, got);
                    for (size_t j = 0; j < MAX_VIEW; j++)
                        if (fabsf(got[j] - want[j]) > 1e-5f)
                            fail_msg("%s with %s %s it: sample %u differs", rows[i]->name,
                                     rows[k]->name, before ? "before" : "after", s);
                }
                sim_augment_destroy(&both);
            }
        sim_augment_destroy(&alone);
    }
}

/* A second operation of the same kind has its own draws. */
static void a_repeated_operation_draws_independently(void **state)
{
    (void)state;
    static sim_augment_options options;
    const augment_row *flip = NULL;
    size_t n[2] = {0};
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i]->name, "flip") == 0)
            flip = rows[i];
    assert_non_null(flip);
    options = (sim_augment_options){0};
    append(&options.view1, flip, "0.5");
    append(&options.view1, flip, "0.5");
    sim_augment *a = create(&options, 3), *none = create_single(flip, "0", 3);
    for (uint32_t s = 0; s < 64; s++) {
        float got[MAX_VIEW], plain[MAX_VIEW];
        make_view(a, 3, s, (draw_position){SEED, s, 0, 0}, got);
        make_view(none, 3, s, (draw_position){SEED, s, 0, 0}, plain);
        n[same_bits(got, plain, 3)]++;
    }
    sim_augment_destroy(&a);
    sim_augment_destroy(&none);
    assert_true(n[0] > 16 && n[1] > 16); /* equal draws would always cancel */
}

/* A run that continues with a new version, or on another machine, sees the same views. */
static void every_instruction_set_computes_the_recorded_bits(void **state)
{
    (void)state;
    static const char *const isas[] = {
#define SIM_ISA(name, flags, runs) #name,
#include "../kernel/isa.def"
#undef SIM_ISA
    };
    char digest[33];

    for (size_t k = 0; k < sizeof isas / sizeof isas[0]; k++)
        for (int i = 0; sim_kernels_pick(isas[k]) == SIM_OK && i < N_ROWS; i++) {
            digest_views(rows[i], digest);
            if (strcmp(digest, case_of(rows[i])->digest) != 0)
                fail_msg("kernels %s, %s: digest %s, expected %s", isas[k], rows[i]->name,
                         digest, case_of(rows[i])->digest);
        }
}

/* ---- threads ---- */

typedef struct {
    const sim_augment *a;
    float (*out)[MAX_VIEW];
    size_t stride; /* order of the calls */
} thread_case;

static void make_one(size_t i, void *ctx)
{
    const thread_case *t = ctx;
    size_t s = i * t->stride % N_SAMPLES;
    make_view(t->a, 3, (uint32_t)s, (draw_position){SEED, (uint32_t)s, 0, 0}, t->out[s]);
}

static void any_thread_in_any_order_computes_the_same_bits(void **state)
{
    (void)state;
    static float want[N_SAMPLES][MAX_VIEW], got[N_SAMPLES][MAX_VIEW];
    for (int i = 0; i < N_ROWS; i++) {
        sim_augment *a = create_single(rows[i], "0.8", 3);
        thread_case serial = {a, want, 1}, other = {a, got, 7};
        for (size_t s = 0; s < N_SAMPLES; s++)
            make_one(s, &serial);
        for (int threads = 1; threads <= 3; threads++) {
            memset(got, 0, sizeof got);
            sim_threads_set(threads);
            sim_for(N_SAMPLES, make_one, &other);
            for (size_t s = 0; s < N_SAMPLES; s++)
                if (!same_bits(got[s], want[s], 3))
                    fail_msg("%s: sample %zu differs on %d threads", rows[i]->name, s,
                             threads);
        }
        sim_augment_destroy(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_a_case_and_its_own_id),
        cmocka_unit_test(a_view_is_finite_and_within_0_and_1),
        cmocka_unit_test(a_view_is_a_function_of_its_position),
        cmocka_unit_test(probability_0_keeps_the_image),
        cmocka_unit_test(values_match_the_reference),
        cmocka_unit_test(adding_an_operation_changes_no_other_draws),
        cmocka_unit_test(a_repeated_operation_draws_independently),
        cmocka_unit_test(every_instruction_set_computes_the_recorded_bits),
        cmocka_unit_test(any_thread_in_any_order_computes_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
