/*
 * test_small_views.c - small views: their size, the areas of crops, their draws, refused sizes.
 *
 * The area of a crop is measured on an image whose channels are the coordinates of its pixels.
 */
#include "simile_test.h"

#include "simile/data.h"
#include "simile/memory.h"

enum { CHANNELS = 3, MAX_SIDE = 224, SAMPLES = 200, SMALL_VIEWS = 6 };

/* The index of a choice of augment.preset or of an operation of augment.view1. */
static int choice(const char *key, const char *name)
{
    for (size_t i = 0; i < sim_augment_table.n_rows; i++)
        if (strcmp(sim_augment_table.rows[i].name, key) == 0)
            return sim_choices_find(sim_augment_table.rows[i].choices, name);
    fail_msg("section augment has no key %s", key);
    return -1;
}

static sim_preprocessing square(size_t side)
{
    return (sim_preprocessing){
        .h = side, .w = side, .c = CHANNELS, .type = SIM_U8, .std = {1, 1, 1}};
}

static sim_augment *create(size_t side, const char *preset, int64_t n, int64_t size)
{
    static sim_augment_options options;
    const sim_preprocessing p = square(side);
    sim_augment *a = NULL;

    options = (sim_augment_options){
        .preset = choice("preset", preset), .small_views = n, .small_size = size};
    ASSERT_OK(sim_augment_create(&options, &p, &a));
    return a;
}

/* Channel 0 is x, channel 1 is y, from 0 to 255. */
static sim_image coordinates(size_t side, uint8_t *pixels)
{
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++) {
            uint8_t *at = pixels + (y * side + x) * CHANNELS;
            at[0] = (uint8_t)(x * 255 / (side - 1));
            at[1] = (uint8_t)(y * 255 / (side - 1));
            at[2] = 0;
        }
    return (sim_image){side, side, CHANNELS, SIM_U8, pixels};
}

/* The part of an axis that a view covers: the difference of the centres of its first and last pixels, and
 * half a pixel at both ends. */
static double covered(const float *view, size_t n, size_t side, size_t channel)
{
    float lo = 1, hi = 0;
    for (size_t i = 0; i < n * n; i++) {
        const float value = view[i * CHANNELS + channel];
        lo = value < lo ? value : lo;
        hi = value > hi ? value : hi;
    }
    const double between = (double)(hi - lo) * (double)(side - 1) / (double)side;
    return between * (double)n / (double)(n - 1);
}

/* The areas of the crops of SAMPLES views. */
typedef struct {
    double least, most;
} area_range;

static area_range measure_areas(const sim_augment *a, size_t side, uint32_t view)
{
    static uint8_t pixels[MAX_SIDE * MAX_SIDE * CHANNELS];
    static float values[MAX_SIDE * MAX_SIDE * CHANNELS];
    const sim_image image = coordinates(side, pixels);
    area_range r = {1, 0};
    size_t h = 0, w = 0, c = 0;

    sim_augment_shape(a, view, &h, &w, &c);
    for (uint32_t s = 0; s < SAMPLES; s++) {
        ASSERT_OK(sim_augment_view(a, 1, s, 0, view, &image, values));
        const double area = covered(values, h, side, 0) * covered(values, h, side, 1);
        r.least = area < r.least ? area : r.least;
        r.most = area > r.most ? area : r.most;
    }
    return r;
}

static void expect_areas(const sim_augment *a, size_t side, uint32_t view, double lo,
                         double hi)
{
    const area_range r = measure_areas(a, side, view);
    const double slack = 0.02 * hi,
                 reach = 0.08 * (hi - lo); /* of whole pixels; of draws */
    if (r.least < lo - slack || r.least > lo + reach + slack || r.most > hi + slack ||
        r.most < hi - reach - slack)
        fail_msg("side %zu, view %u: areas %.3f to %.3f, expected %.3f to %.3f", side,
                 view, r.least, r.most, lo, hi);
}

/* Crops of SwAV for photos, and of suncet for CIFAR-10; without small views, those of the preset. */
static void crops_have_the_published_areas(void **state)
{
    (void)state;
    sim_augment *a = create(224, "supervised", 2, 0);
    expect_areas(a, 224, 0, 0.14, 1);
    expect_areas(a, 224, 1, 0.14, 1);
    expect_areas(a, 224, SIM_SMALL_VIEW + 1, 0.05, 0.14);
    sim_augment_destroy(&a);
    a = create(32, "supervised", 2, 0);
    expect_areas(a, 32, 0, 0.75, 1);
    expect_areas(a, 32, SIM_SMALL_VIEW, 0.3, 0.75);
    sim_augment_destroy(&a);
    a = create(224, "supervised", 0, 0);
    expect_areas(a, 224, 0, 0.08, 1);
    sim_augment_destroy(&a);
}

static void a_small_view_has_its_size(void **state)
{
    (void)state;
    static const struct {
        size_t side;
        int64_t size;
        size_t expected;
    } cases[] = {{32, 0, 18}, {64, 0, 36},     {28, 0, 16}, {224, 0, 96},
                 {70, 0, 30}, {224, 128, 128}, {32, 32, 32}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_augment *a = create(cases[i].side, "simclr", 1, cases[i].size);
        size_t h = 0, w = 0, c = 0;
        sim_augment_shape(a, SIM_SMALL_VIEW, &h, &w, &c);
        if (h != cases[i].expected || w != h)
            fail_msg("small views of %zu: %zu x %zu, expected %zu", cases[i].side, h, w,
                     cases[i].expected);
        sim_augment_shape(a, 0, &h, &w, &c);
        assert_true(h == cases[i].side && w == h && c == CHANNELS);
        sim_augment_destroy(&a);
    }
    sim_augment *none = create(32, "simclr", 0, 0);
    size_t h = 1, w = 1, c = 1;
    sim_augment_shape(none, SIM_SMALL_VIEW, &h, &w, &c);
    assert_true(h == 0 && w == 0);
    sim_augment_destroy(&none);
}

/* All views differ, and each is a function of its number. */
static void every_view_has_its_own_draws(void **state)
{
    (void)state;
    enum { SIDE = 32, FLOATS = SIDE * SIDE * CHANNELS };
    static uint8_t pixels[FLOATS];
    static float views[SMALL_VIEWS][FLOATS], again[FLOATS];
    const sim_image image = coordinates(SIDE, pixels);
    sim_augment *a = create(SIDE, "supervised", SMALL_VIEWS, 0);
    size_t h = 0, w = 0, c = 0;

    sim_augment_shape(a, SIM_SMALL_VIEW, &h, &w, &c);
    for (uint32_t v = 0; v < SMALL_VIEWS; v++)
        ASSERT_OK(sim_augment_view(a, 1, 5, 2, SIM_SMALL_VIEW + v, &image, views[v]));
    for (uint32_t v = SMALL_VIEWS; v-- > 0;) {
        ASSERT_OK(sim_augment_view(a, 1, 5, 2, SIM_SMALL_VIEW + v, &image, again));
        assert_memory_equal(again, views[v], h * w * c * sizeof(float));
        for (uint32_t u = 0; u < v; u++)
            assert_true(memcmp(views[u], views[v], h * w * c * sizeof(float)) != 0);
    }
    sim_augment_destroy(&a);
}

static sim_option_items list_of(const char *operation)
{
    sim_option_items items = {.given = true, .n = 1};
    items.op[0] = choice("view1", operation);
    return items;
}

/* A given list is used as it is; `small` alone leaves the views of the preset larger than small ones. */
static void given_lists_are_used_as_they_are(void **state)
{
    (void)state;
    static sim_augment_options o;
    const sim_preprocessing p = square(32);
    char *text[3] = {NULL};
    sim_augment *a = NULL;

    o = (sim_augment_options){.small_views = 1};
    o.small = list_of("gray");
    ASSERT_OK(sim_augment_create(&o, &p, &a));
    ASSERT_OK(sim_augment_text(a, 0, &text[0]));
    ASSERT_OK(sim_augment_text(a, SIM_SMALL_VIEW, &text[1]));
    assert_non_null(strstr(text[0], "crop 0.75-1"));
    assert_non_null(strstr(text[1], "gray"));
    assert_null(strstr(text[1], "crop"));
    sim_augment_destroy(&a);
    o = (sim_augment_options){.small_views = 1};
    o.view1 = list_of("gray");
    ASSERT_OK(sim_augment_create(&o, &p, &a));
    ASSERT_OK(sim_augment_text(a, SIM_SMALL_VIEW, &text[2]));
    assert_string_equal(text[2], text[1]);
    sim_augment_destroy(&a);
    for (size_t i = 0; i < 3; i++)
        sim_free(text[i]);
}

static void small_views_larger_than_the_others_are_refused(void **state)
{
    (void)state;
    static sim_augment_options o;
    const sim_preprocessing p = square(32);
    sim_augment *a = NULL;

    o = (sim_augment_options){.small_views = 1, .small_size = 33};
    assert_int_equal(sim_augment_create(&o, &p, &a), SIM_E_CONFIG);
    assert_non_null(strstr(sim_error_message(), "augment.small_size: 33 "));
    assert_non_null(strstr(sim_error_message(), "32 x 32"));
    assert_null(a);
    o.small_views = 0; /* then the size is not used */
    ASSERT_OK(sim_augment_create(&o, &p, &a));
    sim_augment_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crops_have_the_published_areas),
        cmocka_unit_test(a_small_view_has_its_size),
        cmocka_unit_test(every_view_has_its_own_draws),
        cmocka_unit_test(given_lists_are_used_as_they_are),
        cmocka_unit_test(small_views_larger_than_the_others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
