/*
 * test_presets.c - every preset of presets.def parses and applies to images of any kind.
 */
#include "simile_test.h"

#include "simile/data.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <math.h>

typedef struct {
    const char *name, *views[2];
} preset_row;

#define SIM_PRESET(name, view1, view2) {name, {view1, view2}},
static const preset_row presets[] = {
#include "presets.def"
};
#undef SIM_PRESET
enum { N_PRESETS = sizeof presets / sizeof presets[0], N_SAMPLES = 4, MAX_TEXT = 1024 };

static const struct {
    size_t h, w, c;
    bool encoded; /* a view is then 224 x 224 */
} shapes[] = {
    {12, 12, 1, false}, {32, 32, 3, false}, {224, 224, 3, false}, {90, 130, 3, true}};

static const char *choices_of(const char *key)
{
    for (size_t i = 0; i < sim_augment_table.n_rows; i++)
        if (strcmp(sim_augment_table.rows[i].name, key) == 0)
            return sim_augment_table.rows[i].choices;
    fail_msg("section augment has no key %s", key);
    return NULL;
}

static sim_augment *create(int preset, size_t shape)
{
    static sim_augment_options options;
    const sim_dataset_info about = {.n_images = 1,
                                    .encoded = shapes[shape].encoded,
                                    .h = shapes[shape].encoded ? 0 : shapes[shape].h,
                                    .w = shapes[shape].encoded ? 0 : shapes[shape].w,
                                    .c = shapes[shape].c,
                                    .type = SIM_U8,
                                    .mean = {0.5, 0.4, 0.3},
                                    .std = {0.2, 0.25, 0.3}};
    const sim_preprocessing p = sim_preprocessing_of(0, &about);
    sim_augment *a = NULL;
    options = (sim_augment_options){.preset = preset};
    ASSERT_OK(sim_augment_create(&options, &p, &a));
    return a;
}

static void the_key_lists_the_presets_in_order(void **state)
{
    (void)state;
    const char *choices = choices_of("preset");
    assert_int_equal(sim_choices_count(choices), N_PRESETS);
    for (int i = 0; i < N_PRESETS; i++)
        assert_int_equal(sim_choices_find(choices, presets[i].name), i);
}

/* The operations of a view of presets.def: its words without '='. */
static size_t count_operations(const char *text)
{
    char copy[MAX_TEXT];
    size_t n = 0;
    (void)snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        if (strchr(word, '='))
            continue;
        if (sim_choices_find(choices_of("view1"), word) < 0)
            fail_msg("\"%s\": %s is not an augmentation", text, word);
        n++;
    }
    return n;
}

static void a_preset_has_the_operations_of_its_row(void **state)
{
    (void)state;
    for (int i = 0; i < N_PRESETS; i++) {
        sim_augment *a = create(i, 1);
        for (uint32_t v = 0; v < 2; v++) {
            const char *row =
                presets[i].views[v][0] ? presets[i].views[v] : presets[i].views[0];
            char *text = NULL;
            size_t n = 0;
            ASSERT_OK(sim_augment_text(a, v, &text));
            for (const char *p = text; row[0] && (p = strstr(p, ", ")) != NULL; p += 2)
                n++;
            n += row[0] != '\0';
            if (n != count_operations(row))
                fail_msg("%s, view %u: \"%s\" for \"%s\"", presets[i].name, v, text, row);
            sim_free(text);
        }
        sim_augment_destroy(&a);
    }
}

static void fill(uint8_t *pixels, size_t n, uint32_t sample)
{
    for (size_t i = 0; i < n; i++) {
        sim_random r = {
            .purpose = SIM_RANDOM_TEST, .sample = sample, .draw = (uint32_t)i};
        pixels[i] = (uint8_t)(sim_random_unit(&r) * 256);
    }
}

/* Normalized values lie between those of black and white. */
static void check_view(const float *view, size_t n, size_t c, const char *preset)
{
    static const float mean[3] = {0.5f, 0.4f, 0.3f}, std[3] = {0.2f, 0.25f, 0.3f};
    for (size_t i = 0; i < n; i++) {
        float lo = (0 - mean[i % c]) / std[i % c], hi = (1 - mean[i % c]) / std[i % c];
        if (!isfinite(view[i]) || view[i] < lo - 1e-4f || view[i] > hi + 1e-4f)
            fail_msg("%s: value %g of channel %zu", preset, (double)view[i], i % c);
    }
}

static void check_preset(int preset, size_t shape)
{
    sim_augment *a = create(preset, shape);
    size_t h, w, c, n_image = shapes[shape].h * shapes[shape].w * shapes[shape].c;
    const size_t side_h = shapes[shape].encoded ? 224 : shapes[shape].h;
    const size_t side_w = shapes[shape].encoded ? 224 : shapes[shape].w;
    uint8_t *pixels = NULL;
    float *one = NULL, *two = NULL;
    size_t n_differ = 0;

    sim_augment_shape(a, 0, &h, &w, &c);
    assert_true(h == side_h && w == side_w && c == shapes[shape].c);
    ASSERT_OK(sim_alloc(&pixels, n_image, "test"));
    ASSERT_OK(sim_alloc(&one, h * w * c, "test"));
    ASSERT_OK(sim_alloc(&two, h * w * c, "test"));
    const sim_image image = {shapes[shape].h, shapes[shape].w, c, SIM_U8, pixels};
    for (uint32_t s = 0; s < N_SAMPLES; s++) {
        fill(pixels, n_image, s);
        ASSERT_OK(sim_augment_view(a, 1, s, 0, 0, &image, one));
        ASSERT_OK(sim_augment_view(a, 1, s, 0, 1, &image, two));
        check_view(one, h * w * c, c, presets[preset].name);
        check_view(two, h * w * c, c, presets[preset].name);
        n_differ += memcmp(one, two, h * w * c * sizeof *one) != 0;
    }
    if ((n_differ > 0) != (presets[preset].views[0][0] != '\0'))
        fail_msg("%s: %zu of %d pairs of views differ", presets[preset].name, n_differ,
                 N_SAMPLES);
    sim_free(pixels);
    sim_free(one);
    sim_free(two);
    sim_augment_destroy(&a);
}

static void every_preset_applies_to_every_kind_of_image(void **state)
{
    (void)state;
    for (int i = 0; i < N_PRESETS; i++)
        for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++)
            check_preset(i, k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_lists_the_presets_in_order),
        cmocka_unit_test(a_preset_has_the_operations_of_its_row),
        cmocka_unit_test(every_preset_applies_to_every_kind_of_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
