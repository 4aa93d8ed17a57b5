/*
 * test_views_mpi.c - the views that a step reads: of the images of its slots, each with its own number,
 * in their place; those of a small size too.  On 1 to 4 ranks.
 */
#include "simile_test.h"

#include "small_job.h"

#include "simile/kernel.h"
#include "simile/memory.h"

enum { VIEWS = 2, SMALL = 3, EPOCH_STEPS = IMAGES / BATCH };

static sim_method_row wrapped;

static struct {
    sim_dataset *data;
    sim_augment *augment;
    uint32_t order[IMAGES]; /* of the first epoch */
    sim_order_key keys[IMAGES];
    sim_image image;
    int calls;
} expected;

/* Checks view `v` of the images of local block b, at x. */
static void check_block(size_t step, sim_range blocks, size_t b, uint32_t view,
                        const float *x)
{
    static float want[SIDE * SIDE];
    size_t h = 0, w = 0, c = 0;

    sim_augment_shape(expected.augment, view, &h, &w, &c);
    for (size_t i = 0; i < BLOCK; i++) {
        const uint32_t sample =
            expected.order[step * BATCH + (blocks.lo + b) * BLOCK + i];
        ASSERT_OK(sim_dataset_read(expected.data, sample, &expected.image));
        ASSERT_OK(sim_augment_view(expected.augment, (uint32_t)job.train.seed, sample, 0,
                                   view, &expected.image, want));
        if (memcmp(x + i * h * w * c, want, h * w * c * sizeof *want) != 0)
            fail_msg("step %zu, block %zu, slot %zu: view %u differs", step,
                     blocks.lo + b, i, view);
    }
}

static void check_views(void *self, const sim_method_batch *batch)
{
    const sim_range blocks = sim_partition_range(sim_comm_partition(comm), BATCH / BLOCK);
    const size_t step = (size_t)expected.calls++;
    size_t h = 0, w = 0, c = 0;

    sim_augment_shape(expected.augment, SIM_SMALL_VIEW, &h, &w, &c);
    assert_true(h == 9 && w == 9 && c == 1); /* 9/16 of 16 */
    for (size_t b = 0; b < blocks.hi - blocks.lo && step < EPOCH_STEPS; b++) {
        for (uint32_t v = 0; v < VIEWS; v++)
            check_block(step, blocks, b, v,
                        batch->x[0] + (b * VIEWS + v) * BLOCK * SIDE * SIDE);
        for (uint32_t v = 0; v < SMALL; v++)
            check_block(step, blocks, b, SIM_SMALL_VIEW + v,
                        batch->small_x + (b * SMALL + v) * BLOCK * h * w);
    }
    sim_methods_find(wrapped.name)->forward(self, batch);
}

static void begin_expected(void)
{
    ASSERT_OK(sim_dataset_open(job.train.train.text[0], &expected.data));
    const sim_preprocessing p = sim_preprocessing_of(0, sim_dataset_about(expected.data));
    ASSERT_OK(sim_augment_create(&job.augment, &p, &expected.augment));
    sim_order_epoch((uint32_t)job.train.seed, 0, IMAGES, expected.keys, expected.order);
}

static void a_step_reads_the_views_of_its_images(void **state)
{
    (void)state;
    static char empty[] = "";
    const sim_job_texts texts = {empty, empty, empty, empty};

    wrapped = *sim_methods_find("simclr");
    wrapped.forward = check_views;
    make_job(&wrapped, "views");
    job.augment.small_views = SMALL;
    begin_expected();
    const sim_train_request request = {.job = &job,
                                       .texts = &texts,
                                       .build = "test",
                                       .kernels = sim_kernels_name(),
                                       .arithmetic = sim_kernels_arithmetic(),
                                       .stop_after = -1};
    ASSERT_OK(sim_train(comm, &request));
    assert_int_equal(expected.calls, STEPS);
    sim_augment_destroy(&expected.augment);
    sim_dataset_close(&expected.data);
    sim_free(expected.image.pixels);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_reads_the_views_of_its_images),
    };
    if (sim_kernels_pick("auto") != SIM_OK ||
        sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    sim_comm_end();
    return failed != 0;
}
