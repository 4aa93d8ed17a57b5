/*
 * test_tensors.c - the tensors of a checkpoint, visited and read without the objects that
 * wrote them.
 *
 * Independent: every value is a formula of its row and column.
 */
#include "simile_test.h"

#include "simile/checkpoint.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 90, WIDTH = 4, PART_ROWS = 9 };

static const sim_comm alone = {.rank = 0, .size = 1, .host = "testhost"};
static char directory[64];
static sim_run run;
static sim_checkpoint *checkpoint;

/* ---- the state ---- */

typedef struct {
    float weight[6], rows[ROWS * WIDTH];
    uint8_t marks[5];
    int64_t count;
} example_state;

static float row_value(size_t row, size_t column)
{
    return (float)row + (float)column * 0.25f;
}

static sim_status visit_example(void *object, const sim_visitor *v)
{
    example_state *s = object;
    sim_status st = SIM_OK;
    const sim_tensor weight = {.name = "conv1.weight",
                               .type = SIM_F32,
                               .n_dims = 3,
                               .dims = {3, 1, 2},
                               .data = s->weight},
                     rows = {.name = "rows",
                             .type = SIM_F32,
                             .n_dims = 2,
                             .dims = {ROWS, WIDTH},
                             .data = s->rows,
                             .sharded = true,
                             .row_hi = ROWS},
                     marks = {.name = "marks",
                              .type = SIM_U8,
                              .n_dims = 1,
                              .dims = {5},
                              .data = s->marks};
    SIM_TRY(sim_visit(v, "weights/encoder", &weight));
    SIM_TRY(sim_visit(v, "queue", &rows));
    SIM_TRY(sim_visit(v, "train", &marks));
    SIM_TRY(sim_visit_count(v, "optimizer", "updates", SIM_MAX_COUNT, &s->count));
done:
    return st;
}

static void save_example(void)
{
    example_state s = {.count = 41, .marks = {1, 2, 3, 4, 250}};
    const sim_state_source source = {visit_example, &s};
    const sim_checkpoint_options options = {.keep = 1};
    const sim_checkpoint_head head = {
        .step = 3, .config = "", .identity = "", .history = "[]", .fingerprint = "0"};

    for (size_t i = 0; i < 6; i++)
        s.weight[i] = row_value(i / 2, i % 2);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        s.rows[i] = row_value(i / WIDTH, i % WIDTH);
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &options, &head, &source, 1));
    ASSERT_OK(sim_checkpoint_newest(&alone, directory, &checkpoint));
}

static int set_up(bool in_parts)
{
    (void)snprintf(directory, sizeof directory, "/tmp/simile-test-XXXXXX");
    if (!mkdtemp(directory) || sim_run_open(&alone, directory, &run) != SIM_OK)
        return -1;
    if (in_parts)
        sim_checkpoint_part_bytes(100, PART_ROWS * WIDTH * sizeof(float));
    save_example();
    return 0;
}

static int set_up_one_file(void **state)
{
    (void)state;
    return set_up(false);
}

static int set_up_parts(void **state)
{
    (void)state;
    return set_up(true);
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    sim_checkpoint_close(&checkpoint);
    sim_checkpoint_part_bytes(0, 0);
    sim_run_close(&alone, &run);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

/* ---- visits ---- */

typedef struct {
    sim_stored_tensor list[8];
    char names[8][64];
    size_t n, stop_after;
} visited;

static sim_status collect_tensor(void *ctx, const sim_stored_tensor *t)
{
    visited *v = ctx;
    if (v->n == v->stop_after)
        return SIM_E_INPUT;
    assert_true(v->n < 8);
    (void)snprintf(v->names[v->n], sizeof v->names[v->n], "%s", t->name);
    v->list[v->n] = *t;
    v->list[v->n].name = v->names[v->n];
    v->n++;
    return SIM_OK;
}

static const sim_stored_tensor *find_tensor(const visited *v, const char *name)
{
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->names[i], name) == 0)
            return &v->list[i];
    fail_msg("%s was not visited", name);
    return NULL;
}

static void assert_tensor(const visited *v, const char *name, sim_type type, int n_dims,
                          const size_t *dims, size_t n_parts)
{
    const sim_stored_tensor *t = find_tensor(v, name);
    assert_int_equal(t->type, type);
    assert_int_equal(t->n_dims, n_dims);
    for (int i = 0; i < n_dims; i++)
        assert_int_equal(t->dims[i], dims[i]);
    assert_int_equal(t->n_parts, n_parts);
    assert_int_equal(strlen(t->hash), 32);
}

static void assert_all_visited(size_t n_parts)
{
    visited v = {.stop_after = 8};
    ASSERT_OK(sim_checkpoint_visit(checkpoint, collect_tensor, &v));
    assert_int_equal(v.n, 4);
    assert_tensor(&v, "weights/encoder/conv1.weight", SIM_F32, 3, (size_t[]){3, 1, 2}, 0);
    assert_tensor(&v, "queue/rows", SIM_F32, 2, (size_t[]){ROWS, WIDTH}, n_parts);
    assert_tensor(&v, "train/marks", SIM_U8, 1, (size_t[]){5}, 0);
    assert_tensor(&v, "optimizer/updates", SIM_I64, 0, NULL, 0);
}

static void every_tensor_is_visited_with_its_type_and_dims(void **state)
{
    (void)state;
    assert_all_visited(0);
}

static void a_tensor_in_part_files_is_visited_with_its_type_and_dims(void **state)
{
    (void)state;
    assert_all_visited(ROWS / PART_ROWS);
}

static void a_failing_visitor_ends_the_visit(void **state)
{
    (void)state;
    visited v = {.stop_after = 2};
    assert_int_equal(sim_checkpoint_visit(checkpoint, collect_tensor, &v), SIM_E_INPUT);
    assert_int_equal(v.n, 2);
}

/* ---- values ---- */

static void every_range_of_rows_is_read(void **state)
{
    (void)state;
    visited v = {.stop_after = 8};
    float rows[ROWS * WIDTH + 1];
    ASSERT_OK(sim_checkpoint_visit(checkpoint, collect_tensor, &v));
    const sim_stored_tensor *t = find_tensor(&v, "queue/rows");
    assert_int_equal(sim_stored_tensor_rows(t), ROWS);
    assert_int_equal(sim_stored_tensor_row_bytes(t), WIDTH * sizeof(float));
    for (size_t lo = 0; lo < ROWS; lo += 7)
        for (size_t n = 0; n <= ROWS - lo; n += 13) {
            rows[n * WIDTH] = -1;
            ASSERT_OK(sim_checkpoint_read(checkpoint, t, lo, n, rows,
                                          n * WIDTH * sizeof *rows));
            for (size_t i = 0; i < n * WIDTH; i++)
                assert_true(rows[i] == row_value(lo + i / WIDTH, i % WIDTH));
            assert_true(rows[n * WIDTH] == -1); /* nothing is written behind the rows */
        }
}

static void small_tensors_and_scalars_are_read(void **state)
{
    (void)state;
    visited v = {.stop_after = 8};
    float weight[6];
    uint8_t marks[2];
    int64_t count = 0;
    ASSERT_OK(sim_checkpoint_visit(checkpoint, collect_tensor, &v));
    ASSERT_OK(sim_checkpoint_read(checkpoint,
                                  find_tensor(&v, "weights/encoder/conv1.weight"), 0, 3,
                                  weight, sizeof weight));
    for (size_t i = 0; i < 6; i++)
        assert_true(weight[i] == row_value(i / 2, i % 2));
    ASSERT_OK(sim_checkpoint_read(checkpoint, find_tensor(&v, "train/marks"), 3, 2, marks,
                                  sizeof marks));
    assert_int_equal(marks[0], 4);
    assert_int_equal(marks[1], 250);
    ASSERT_OK(sim_checkpoint_read(checkpoint, find_tensor(&v, "optimizer/updates"), 0, 1,
                                  &count, sizeof count));
    assert_int_equal(count, 41);
}

static void rows_outside_the_tensor_or_the_buffer_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t row, n_rows, bytes;
    } bad[] = {{0, ROWS + 1, SIZE_MAX},
               {ROWS, 1, SIZE_MAX},
               {ROWS + 1, 0, SIZE_MAX},
               {5, SIZE_MAX, SIZE_MAX},
               {SIZE_MAX, 1, SIZE_MAX},
               {0, 2, 2 * WIDTH * sizeof(float) - 1},
               {0, 1, 0}};
    visited v = {.stop_after = 8};
    float rows[2 * WIDTH];
    ASSERT_OK(sim_checkpoint_visit(checkpoint, collect_tensor, &v));
    const sim_stored_tensor *t = find_tensor(&v, "queue/rows");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_REFUSED(sim_checkpoint_read(checkpoint, t, bad[i].row, bad[i].n_rows, rows,
                                           bad[i].bytes),
                       SIM_E_DATA, "queue/rows");
}

static void a_tensor_that_claims_other_dims_is_refused(void **state)
{
    (void)state;
    visited v = {.stop_after = 8};
    float rows[ROWS * WIDTH * 2];
    ASSERT_OK(sim_checkpoint_visit(checkpoint, collect_tensor, &v));
    sim_stored_tensor t = *find_tensor(&v, "queue/rows");
    t.dims[1] = 2 * WIDTH;
    ASSERT_REFUSED(sim_checkpoint_read(checkpoint, &t, 0, ROWS, rows, sizeof rows),
                   SIM_E_DATA, "queue/rows");
}

/* ---- loading into objects of another shape ---- */

static sim_status visit_wide_rows(void *object, const sim_visitor *v)
{
    const sim_tensor rows = {.name = "rows",
                             .type = SIM_F32,
                             .n_dims = 2,
                             .dims = {ROWS, WIDTH + 1},
                             .data = object,
                             .sharded = true,
                             .row_hi = ROWS};
    return sim_visit(v, "queue", &rows);
}

static void a_tensor_of_another_shape_is_refused_with_both_shapes(void **state)
{
    (void)state;
    float rows[ROWS * (WIDTH + 1)];
    const sim_state_source source = {visit_wide_rows, rows};
    ASSERT_REFUSED(sim_checkpoint_load(checkpoint, &source, 1), SIM_E_DATA, "queue/rows");
    assert_non_null(strstr(sim_error_message(), "90 x 4"));
    assert_non_null(strstr(sim_error_message(), "90 x 5"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up_one_file, tear_down)
#define PARTS_TEST(f)                                                                    \
    {                                                                                    \
#f "_with_part_files", f, set_up_parts, tear_down, NULL                          \
    }
    const struct CMUnitTest tests[] = {
        TEST(every_tensor_is_visited_with_its_type_and_dims),
        PARTS_TEST(a_tensor_in_part_files_is_visited_with_its_type_and_dims),
        TEST(a_failing_visitor_ends_the_visit),
        TEST(every_range_of_rows_is_read),
        PARTS_TEST(every_range_of_rows_is_read),
        TEST(small_tensors_and_scalars_are_read),
        TEST(rows_outside_the_tensor_or_the_buffer_are_refused),
        PARTS_TEST(rows_outside_the_tensor_or_the_buffer_are_refused),
        TEST(a_tensor_that_claims_other_dims_is_refused),
        PARTS_TEST(a_tensor_that_claims_other_dims_is_refused),
        TEST(a_tensor_of_another_shape_is_refused_with_both_shapes),
        PARTS_TEST(a_tensor_of_another_shape_is_refused_with_both_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
