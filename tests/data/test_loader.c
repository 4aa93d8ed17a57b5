/*
 * test_loader.c - the loader computes the bits of a direct call, on any number of threads.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "simile/data.h"
#include "simile/memory.h"

#include <fcntl.h>
#include <unistd.h>

enum { N = 24, SIDE = 14, SEED = 5, VIEW = SIDE * SIDE * 3, MOST = 4 * N };

static char directory[64], path[96];

static uint8_t pixel(size_t image, size_t at)
{
    return (uint8_t)(image * 37 + at * at * 11 + at / 7);
}

/* Writes N images with labels: pixels, or JPEG files of several shapes. */
static void make_set(bool encoded)
{
    const sim_dataset_spec spec = {.encoded = encoded,
                                   .h = encoded ? 0 : SIDE,
                                   .w = encoded ? 0 : SIDE,
                                   .c = encoded ? 0 : 3,
                                   .type = SIM_U8,
                                   .source = "test",
                                   .created_by = "test"};
    sim_dataset_writer *w = NULL;
    char fingerprint[33];

    ASSERT_OK(sim_dataset_create(path, &spec, &w));
    for (size_t i = 0; i < N; i++) {
        uint8_t pixels[2 * SIDE * SIDE * 3], *jpeg = NULL;
        sim_moments moments;
        sim_image image = {.h = SIDE,
                           .w = encoded ? SIDE + i % SIDE : SIDE,
                           .c = 3,
                           .type = SIM_U8,
                           .pixels = pixels};
        size_t n = image.h * image.w * 3;
        for (size_t k = 0; k < n; k++)
            pixels[k] = pixel(i, k);
        if (encoded)
            ASSERT_OK(sim_image_encode_jpeg(&image, 90, &jpeg, &n));
        ASSERT_OK(sim_image_moments(&image, SIDE, &moments));
        ASSERT_OK(sim_dataset_append(w, encoded ? jpeg : pixels, n, (int32_t)(i % 3),
                                     &moments));
        sim_free(jpeg);
    }
    ASSERT_OK(sim_dataset_finish(&w, NULL, 0, NULL, fingerprint));
}

typedef struct {
    sim_dataset *data;
    sim_augment *augment;
} source;

static source open_set(void)
{
    source s = {0};
    const sim_augment_options options = {.preset = 1, .size = SIDE}; /* with blur */
    ASSERT_OK(sim_dataset_open(path, &s.data));
    const sim_preprocessing p = sim_preprocessing_of(SIDE, sim_dataset_about(s.data));
    ASSERT_OK(sim_augment_create(&options, &p, &s.augment));
    return s;
}

static void close_set(source *s)
{
    sim_augment_destroy(&s->augment);
    sim_dataset_close(&s->data);
}

/* Request k of a list: adjacent requests of one image, repetitions, and steps back; some draw the view
 * of another sample. */
static sim_view_request request(size_t k, float *out)
{
    const size_t image = (k / 2 * 7 + k / 9) % N;
    return (sim_view_request){.image = (uint32_t)image,
                              .sample = (uint32_t)(k % 5 == 4 ? (image + k) % N : image),
                              .epoch = (uint32_t)(k / 40),
                              .view = (uint32_t)(k % 2),
                              .out = out};
}

static void expect_view(const source *s, sim_view_request r)
{
    sim_image image = {0};
    float want[VIEW];
    ASSERT_OK(sim_dataset_read(s->data, r.image, &image));
    ASSERT_OK(
        sim_augment_view(s->augment, SEED, r.sample, r.epoch, r.view, &image, want));
    if (memcmp(want, r.out, sizeof want) != 0)
        fail_msg("image %u, sample %u, epoch %u, view %u differs", r.image, r.sample,
                 r.epoch, r.view);
    sim_free(image.pixels);
}

/* Posts lists of several lengths, with up to four outstanding. */
static void serve_lists(const source *s, int n_threads)
{
    static const size_t lengths[] = {7, 0, 1, 40, 3, 19, 0, 26};
    enum { LISTS = sizeof lengths / sizeof lengths[0], AHEAD = 4 };
    static float out[MOST][VIEW];
    static sim_view_request all[MOST];
    sim_loader *l = NULL;
    size_t posted = 0, at = 0;

    memset(out, 0, sizeof out);
    ASSERT_OK(sim_loader_create(s->data, s->augment, SEED, n_threads, MOST, &l));
    for (size_t waited = 0; waited < LISTS; waited++) {
        for (; posted < LISTS && posted < waited + AHEAD; posted++) {
            for (size_t i = 0; i < lengths[posted]; i++)
                all[at + i] = request(at + i, out[at + i]);
            sim_loader_post(l, all + at, lengths[posted]);
            at += lengths[posted];
        }
        ASSERT_OK(sim_loader_wait(l));
    }
    sim_loader_destroy(&l);
    assert_int_equal(at, MOST);
    for (size_t k = 0; k < at; k++)
        expect_view(s, all[k]);
}

static void views_are_those_of_a_direct_call(void **state)
{
    (void)state;
    for (int encoded = 0; encoded < 2; encoded++) {
        make_set(encoded);
        source s = open_set();
        for (int n_threads = 1; n_threads <= 4; n_threads *= 2)
            serve_lists(&s, n_threads);
        close_set(&s);
    }
}

static void a_busy_loader_can_be_destroyed(void **state)
{
    (void)state;
    static float out[MOST][VIEW];
    make_set(false);
    source s = open_set();
    for (int round = 0; round < 8; round++) {
        sim_view_request all[MOST];
        sim_loader *l = NULL;
        ASSERT_OK(sim_loader_create(s.data, s.augment, SEED, 1 + round % 4, MOST, &l));
        for (size_t k = 0; k < MOST; k++)
            all[k] = request(k, out[k]);
        for (size_t list = 0; list < 4; list++)
            sim_loader_post(l, all + list * N, N);
        if (round % 2)
            ASSERT_OK(sim_loader_wait(l));
        sim_loader_destroy(&l);
        assert_null(l);
    }
    close_set(&s);
}

/* Changes a pixel of an image in the file, which is located by its first pixels. */
static void corrupt_image(size_t image)
{
    enum { MATCH = 64 };
    static uint8_t file[1 << 20];
    uint8_t want[MATCH];
    int fd = open(path, O_RDWR);
    ssize_t n = read(fd, file, sizeof file);

    for (size_t k = 0; k < MATCH; k++)
        want[k] = pixel(image, k);
    const uint8_t *at = memmem(file, (size_t)n, want, MATCH);
    assert_non_null(at);
    const uint8_t other = (uint8_t)(want[0] ^ 1);
    assert_int_equal(pwrite(fd, &other, 1, at - file), 1);
    (void)close(fd);
}

static void the_first_failure_of_a_list_is_reported(void **state)
{
    (void)state;
    static float out[3 * N][VIEW];
    sim_view_request all[3 * N];
    make_set(false);
    corrupt_image(5);
    corrupt_image(9);
    source s = open_set();
    for (size_t k = 0; k < 3 * N; k++) /* only the second list has 9 and, after it, 5 */
        all[k] = (sim_view_request){.image = k / N == 1 ? (uint32_t)(N - 1 - k % N) : 1,
                                    .out = out[k]};
    for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
        sim_loader *l = NULL;
        ASSERT_OK(sim_loader_create(s.data, s.augment, SEED, n_threads, MOST, &l));
        for (size_t list = 0; list < 3; list++)
            sim_loader_post(l, all + list * N, N);
        ASSERT_OK(sim_loader_wait(l));
        ASSERT_REFUSED(sim_loader_wait(l), SIM_E_DATA,
                       "image 9 does not match its digest");
        ASSERT_OK(sim_loader_wait(l));
        sim_loader_destroy(&l);
    }
    expect_view(&s, all[2 * N]);
    close_set(&s);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/simile-test-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    (void)snprintf(path, sizeof path, "%s/set.h5", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_are_those_of_a_direct_call),
        cmocka_unit_test(a_busy_loader_can_be_destroyed),
        cmocka_unit_test(the_first_failure_of_a_list_is_reported),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
