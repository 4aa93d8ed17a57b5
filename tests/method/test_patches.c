/*
 * test_patches.c - images in patches, and the negatives that are drawn among them.
 */
#include "simile_test.h"

#include "predict.h"

#include "simile/memory.h"

static float pixel(size_t image, size_t y, size_t x, size_t c)
{
    return (float)(((image * 41 + y) * 37 + x) * 3 + c);
}

static void a_patch_is_two_steps_and_the_grid_stands_in_the_middle(void **state)
{
    (void)state;
    static const struct {
        size_t grid, h, w, patch_h, patch_w, top, left;
    } cases[] = {{7, 32, 32, 8, 8, 0, 0},
                 {3, 32, 32, 16, 16, 0, 0},
                 {7, 256, 256, 64, 64, 0, 0},
                 {4, 17, 28, 6, 10, 1, 1},
                 {1, 9, 9, 8, 8, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_patches p;
        ASSERT_OK(sim_patches_of(cases[i].grid, cases[i].h, cases[i].w, 3, &p));
        assert_int_equal(p.patch_h, cases[i].patch_h);
        assert_int_equal(p.patch_w, cases[i].patch_w);
        assert_int_equal(p.top, cases[i].top);
        assert_int_equal(p.left, cases[i].left);
    }
}

static void patches_hold_their_pixels(void **state)
{
    (void)state;
    enum { H = 17, W = 13, C = 3, N = 2, GRID = 4 };
    static float x[N * H * W * C];
    sim_patches p;
    float *out = NULL;

    for (size_t i = 0; i < N * H * W * C; i++)
        x[i] = pixel(i / (H * W * C), i / (W * C) % H, i / C % W, i % C);
    ASSERT_OK(sim_patches_of(GRID, H, W, C, &p));
    ASSERT_OK(sim_alloc(&out, N * sim_patches_floats(&p), "test"));
    sim_patches_cut(&p, N, x, out);
    /* 17 / 5 = 3 and 13 / 5 = 2: patches of 6 x 4, from row 1 and column 1 on */
    size_t at = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t gy = 0; gy < GRID; gy++)
            for (size_t gx = 0; gx < GRID; gx++)
                for (size_t y = 0; y < 6; y++)
                    for (size_t k = 0; k < 4 * C; k++, at++)
                        assert_true(out[at] ==
                                    pixel(i, 1 + 3 * gy + y, 1 + 2 * gx + k / C, k % C));
    sim_free(out);
}

static void the_mean_is_over_patches(void **state)
{
    (void)state;
    enum { N = 2, D = 3 };
    const sim_patches p = {.grid = 2};
    float x[N * 4 * D], out[N * D];

    for (size_t i = 0; i < N * 4 * D; i++)
        x[i] = (float)(i * i);
    sim_patches_mean(&p, N, D, x, out);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < D; k++) {
            const float *of = x + i * 4 * D + k;
            assert_true(out[i * D + k] == (of[0] + of[D] + of[2 * D] + of[3 * D]) / 4);
        }
}

static void a_grid_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    sim_patches p;
    ASSERT_OK(sim_patches_of(15, 32, 40, 1, &p));
    ASSERT_REFUSED(sim_patches_of(16, 32, 40, 1, &p), SIM_E_CONFIG, "images of 32 x 40");
    ASSERT_REFUSED(sim_patches_of(16, 32, 40, 1, &p), SIM_E_CONFIG, "nearest: 15");
    ASSERT_REFUSED(sim_patches_of(2, 5, 40, 1, &p), SIM_E_CONFIG, "6 pixels");
    ASSERT_OK(sim_patches_of(2, 6, 6, 1, &p));
    ASSERT_OK(sim_patches_of(0, 1, 1, 1, &p));
    assert_int_equal(p.patch_h, 1);
}

static void a_step_must_find_targets_in_the_grid(void **state)
{
    (void)state;
    predict_spec s = {.grid = 7, .steps = 5, .skip = 1};
    ASSERT_OK(sim_predict_check(&s));
    s.skip = 2;
    ASSERT_REFUSED(sim_predict_check(&s), SIM_E_CONFIG, "method.steps: 5 steps");
    ASSERT_REFUSED(sim_predict_check(&s), SIM_E_CONFIG, "nearest: 4");
    s.skip = 6;
    ASSERT_REFUSED(sim_predict_check(&s), SIM_E_CONFIG, "method.skip: 6 rows");
}

/* ---- draws ---- */

enum { BLOCKS = 5, SLOTS = 2, GRID = 4, M = 50, TARGETS = BLOCKS * SLOTS * GRID * GRID };

static predict_spec spec_of(size_t lo, size_t hi)
{
    return (predict_spec){
        .images = {.n_blocks = BLOCKS, .blocks = {lo, hi}, .views = 1, .slots = SLOTS},
        .grid = GRID,
        .steps = 2,
        .skip = 1,
        .n_negatives = M,
        .seed = 3};
}

static int32_t *drawn(size_t lo, size_t hi, uint32_t epoch, int64_t samples, size_t k,
                      size_t *n)
{
    const predict_spec s = spec_of(lo, hi);
    int32_t *out = NULL;
    *n = (hi - lo) * SLOTS * sim_predict_rows(&s, k) * GRID * M;
    ASSERT_OK(sim_alloc(&out, *n, "test"));
    sim_predict_draw_others(&s, epoch, samples, k, out);
    return out;
}

static void draws_are_the_images_own_whoever_draws(void **state)
{
    (void)state;
    size_t n_all = 0, n_part = 0, from = 0;
    int32_t *all = drawn(0, BLOCKS, 7, 20, 1, &n_all);

    for (size_t lo = 0; lo < BLOCKS; lo += 2) {
        size_t hi = lo + 2 < BLOCKS ? lo + 2 : BLOCKS;
        int32_t *part = drawn(lo, hi, 7, 20, 1, &n_part);
        assert_memory_equal(part, all + from, n_part * sizeof *part);
        from += n_part;
        sim_free(part);
    }
    assert_int_equal(from, n_all);
    sim_free(all);
}

static void draws_are_all_but_the_anchors_own_target(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        const predict_spec s = spec_of(0, BLOCKS);
        size_t n = 0, rows = sim_predict_rows(&s, k), seen[TARGETS] = {0};
        int32_t *all = drawn(0, BLOCKS, 0, 0, k, &n);
        for (size_t i = 0; i < n; i++) {
            size_t anchor = i / M, image = anchor / (rows * GRID);
            size_t y = anchor / GRID % rows, x = anchor % GRID;
            size_t own = (image * GRID + y + k + 2) * GRID + x;
            assert_true(all[i] >= 0 && all[i] < TARGETS && (size_t)all[i] != own);
            seen[all[i]]++;
        }
        for (size_t t = 0; t < TARGETS; t++) { /* six deviations */
            double mean = (double)n / TARGETS;
            double off = (double)seen[t] - mean;
            assert_true(off * off < 36 * mean);
        }
        sim_free(all);
    }
}

static void draws_change_with_step_epoch_and_place(void **state)
{
    (void)state;
    static const struct {
        uint32_t epoch;
        int64_t samples;
        size_t k;
    } other[] = {{1, 0, 1}, {0, 10, 1}, {0, 0, 0}};
    size_t n = 0, m = 0;
    int32_t *first = drawn(0, BLOCKS, 0, 0, 1, &n);

    for (size_t i = 0; i < 3; i++) {
        int32_t *b = drawn(0, BLOCKS, other[i].epoch, other[i].samples, other[i].k, &m);
        size_t same = 0;
        for (size_t j = 0; j < n; j++)
            same += first[j] == b[j];
        assert_true(same < 4 * n / TARGETS);
        sim_free(b);
    }
    sim_free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_patch_is_two_steps_and_the_grid_stands_in_the_middle),
        cmocka_unit_test(patches_hold_their_pixels),
        cmocka_unit_test(the_mean_is_over_patches),
        cmocka_unit_test(a_grid_that_does_not_fit_is_refused),
        cmocka_unit_test(a_step_must_find_targets_in_the_grid),
        cmocka_unit_test(draws_are_the_images_own_whoever_draws),
        cmocka_unit_test(draws_are_all_but_the_anchors_own_target),
        cmocka_unit_test(draws_change_with_step_epoch_and_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
