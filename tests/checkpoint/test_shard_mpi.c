/*
 * simile-test: timeout 240
 * test_shard_mpi.c - sharded state on 1 to 4 ranks: P ranks write the same bytes as one rank,
 * and any other number of ranks reads its rows of them.
 *
 * Independent: every value is a formula of its row and column.
 */
#include "simile_test.h"

#include "simile/checkpoint.h"
#include "simile/file.h"
#include "simile/memory.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

enum { TILE = 256, WIDTH = 6 };

static const sim_comm *comm;
static const sim_comm alone = {.rank = 0, .size = 1, .host = "testhost"};
static char directory[4096];

/* The rows of a queue on one of `size` ranks, and replicated state before and after it. */
typedef struct {
    size_t n_rows;
    sim_range rows;
    float *keys;
    uint8_t *marks;
    float weights[50];
    int64_t pointer;
} queue;

static float key_of(size_t row, size_t column)
{
    return (float)(row * 7 + column) * 0.125f - 3.0f;
}

static uint8_t mark_of(size_t row)
{
    return (uint8_t)(row * 31 + 5);
}

static void queue_create(size_t n_rows, size_t size, size_t rank, bool filled, queue *out)
{
    size_t n_tiles = (n_rows + TILE - 1) / TILE;
    sim_range r = sim_tree_part(n_tiles, size, rank);
    queue q = {.n_rows = n_rows, .pointer = filled ? 77 : 0};
    q.rows.lo = r.lo * TILE < n_rows ? r.lo * TILE : n_rows;
    q.rows.hi = r.hi * TILE < n_rows ? r.hi * TILE : n_rows;
    size_t n = q.rows.hi - q.rows.lo;
    ASSERT_OK(sim_alloc(&q.keys, n * WIDTH, "test/queue"));
    ASSERT_OK(sim_alloc(&q.marks, n, "test/queue"));
    for (size_t i = 0; filled && i < 50; i++)
        q.weights[i] = (float)i;
    for (size_t i = 0; filled && i < n; i++) {
        q.marks[i] = mark_of(q.rows.lo + i);
        for (size_t j = 0; j < WIDTH; j++)
            q.keys[i * WIDTH + j] = key_of(q.rows.lo + i, j);
    }
    *out = q;
}

static void queue_destroy(queue *q)
{
    SIM_FREE(q->keys);
    SIM_FREE(q->marks);
}

static sim_status visit_queue(void *object, const sim_visitor *v)
{
    queue *q = object;
    sim_status st = SIM_OK;
    sim_tensor keys = {.name = "keys",
                       .type = SIM_F32,
                       .n_dims = 3,
                       .dims = {q->n_rows, 2, WIDTH / 2},
                       .data = q->keys,
                       .sharded = true,
                       .row_lo = q->rows.lo,
                       .row_hi = q->rows.hi};
    sim_tensor marks = keys;
    marks.name = "marks";
    marks.type = SIM_U8;
    marks.n_dims = 1;
    marks.data = q->marks;
    SIM_TRY(sim_visit_f32(v, "weights/encoder", "w", 50, q->weights));
    SIM_TRY(sim_visit(v, "queue", &keys));
    SIM_TRY(sim_visit(v, "queue", &marks));
    SIM_TRY(sim_visit_count(v, "queue", "pointer", SIM_MAX_COUNT, &q->pointer));
done:
    return st;
}

static bool is_right(const queue *q)
{
    size_t wrong = q->pointer != 77;
    for (size_t i = 0; i < q->rows.hi - q->rows.lo; i++) {
        wrong += q->marks[i] != mark_of(q->rows.lo + i);
        for (size_t j = 0; j < WIDTH; j++)
            wrong += q->keys[i * WIDTH + j] != key_of(q->rows.lo + i, j);
    }
    return wrong == 0;
}

/* Opens a run directory for all ranks of `c`. */
static void open_run(const sim_comm *c, const char *name, sim_run *run)
{
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    ASSERT_OK(sim_run_open(c, path, run));
}

static sim_status save_keeping(const sim_comm *c, const sim_run *run, int64_t step,
                               queue *q, int64_t keep)
{
    const sim_checkpoint_options options = {.keep = keep};
    const sim_state_source source = {visit_queue, q};
    const sim_checkpoint_head head = {.step = step,
                                      .config = "run: x\n",
                                      .identity = "seed: 0\n",
                                      .history = "[]",
                                      .fingerprint = "0123456789abcdef0123456789abcdef"};
    return sim_checkpoint_write(c, run, &options, &head, &source, 1);
}

static sim_status save(const sim_comm *c, const sim_run *run, int64_t step, queue *q)
{
    return save_keeping(c, run, step, q, 1000);
}

/* The newest checkpoint as each of 1 to 7 ranks reads it; step, or -1 when a row is wrong. */
static int64_t step_that_all_read(const sim_run *run, size_t n_rows)
{
    sim_checkpoint *k = NULL;
    bool right = true;
    ASSERT_OK(sim_checkpoint_newest(comm, run->path, &k));
    assert_non_null(k);
    for (size_t size = 1; size <= 7; size++)
        for (size_t rank = 0; rank < size; rank++) {
            queue q;
            const sim_state_source source = {visit_queue, &q};
            queue_create(n_rows, size, rank, false, &q);
            ASSERT_OK(sim_checkpoint_load(k, &source, 1));
            right = right && is_right(&q);
            queue_destroy(&q);
        }
    int64_t step = sim_checkpoint_head_of(k)->step;
    sim_checkpoint_close(&k);
    return right ? step : -1;
}

/* True if both runs have the same files. */
static bool same_files(const sim_run *a, const sim_run *b, size_t *n_files)
{
    char directories[2][4200], path[8500];
    sim_names names[2] = {{0}, {0}};
    bool same = true;
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(sim_run_path(i ? b : a, "checkpoints", directories[i],
                               sizeof directories[i]));
        ASSERT_OK(sim_directory_list(directories[i], &names[i]));
    }
    same = names[0].n == names[1].n;
    for (size_t i = 0; same && i < names[0].n; i++) {
        char *bytes[2] = {NULL, NULL};
        size_t n[2];
        for (int j = 0; j < 2; j++) {
            (void)snprintf(path, sizeof path, "%s/%s", directories[j], names[j].names[i]);
            ASSERT_OK(sim_file_load(path, 1 << 26, &bytes[j], &n[j]));
        }
        same = n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0;
        sim_free(bytes[0]);
        sim_free(bytes[1]);
    }
    *n_files = names[0].n;
    sim_names_clear(&names[0]);
    sim_names_clear(&names[1]);
    return same;
}

static int set_up(void **state)
{
    (void)state;
    if (comm->rank == 0) {
        (void)snprintf(directory, sizeof directory, "/tmp/simile-test-XXXXXX");
        if (!mkdtemp(directory))
            return -1;
    }
    sim_comm_broadcast(comm, 0, directory, sizeof directory);
    return 0;
}

static int tear_down(void **state)
{
    char command[4200];
    (void)state;
    sim_file_use(NULL);
    sim_comm_piece_rows(0);
    sim_checkpoint_part_bytes(0, 0);
    sim_comm_barrier(comm);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return comm->rank == 0 ? system(command) : 0;
}

static const size_t row_counts[] = {1, 255, 256, 257, 1000, 2049};

/* Saves on all ranks, in messages of a few rows, and on one rank, and compares the files. */
static void compare_with_one(size_t n_rows, size_t *n_files)
{
    char name[32];
    sim_run many = {0}, one = {0};
    queue q;

    (void)snprintf(name, sizeof name, "many-%zu", n_rows);
    open_run(comm, name, &many);
    queue_create(n_rows, (size_t)comm->size, (size_t)comm->rank, true, &q);
    sim_comm_piece_rows(n_rows % 2 ? 100 : 0);
    ASSERT_OK(save(comm, &many, 3, &q));
    queue_destroy(&q);
    int64_t step = step_that_all_read(&many, n_rows);
    bool same = true;
    if (comm->rank == 0) {
        (void)snprintf(name, sizeof name, "one-%zu", n_rows);
        open_run(&alone, name, &one);
        queue_create(n_rows, 1, 0, true, &q);
        ASSERT_OK(save(&alone, &one, 3, &q));
        queue_destroy(&q);
        same = same_files(&many, &one, n_files);
        sim_run_close(&alone, &one);
    }
    sim_run_close(comm, &many);
    assert_int_equal(step, 3);
    assert_true(same);
}

static void any_number_of_ranks_writes_the_same_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        size_t n_files = 0;
        compare_with_one(row_counts[i], &n_files);
        if (comm->rank == 0)
            assert_int_equal(n_files, 2); /* the checkpoint, and `latest` */
    }
}

/* Keys (24 bytes per row) are stored in parts of 100 rows, marks (1 byte) in the main file. */
static void use_parts(void)
{
    sim_checkpoint_part_bytes(3000, 2400);
}

static void any_number_of_ranks_writes_the_same_part_files(void **state)
{
    (void)state;
    use_parts();
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        size_t n_files = 0, n = row_counts[i];
        compare_with_one(n, &n_files);
        if (comm->rank == 0)
            assert_int_equal(n_files, 2 + (n > 125 ? (n + 99) / 100 : 0));
    }
}

static void path_of(const sim_run *run, const char *name, char out[4300])
{
    (void)snprintf(out, 4300, "%s/checkpoints/%s", run->path, name);
}

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Makes the keys differ from those that the example saves. */
static void shift_keys(queue *q)
{
    for (size_t i = 0; i < (q->rows.hi - q->rows.lo) * WIDTH; i++)
        q->keys[i] += 1000.0f;
}

enum { FAULTS = 4 };

/* Corrupts a part file on rank 0: truncated, empty, a flipped bit, missing. */
static void corrupt_file(const char *path, size_t how)
{
    char *bytes = NULL;
    size_t n = 0;
    if (comm->rank == 0) {
        ASSERT_OK(sim_file_load(path, 1 << 24, &bytes, &n));
        bytes[n / 2] = (char)(bytes[n / 2] ^ 1);
        if (how < 3)
            write_bytes(path, bytes, (size_t[]){n - 100, 0, n}[how]);
        else
            ASSERT_OK(sim_file_remove(path));
        sim_free(bytes);
    }
    sim_comm_barrier(comm);
}

static int64_t newest_of(const sim_run *run)
{
    sim_checkpoint *k = NULL;
    ASSERT_OK(sim_checkpoint_newest(comm, run->path, &k));
    int64_t step = sim_checkpoint_head_of(k)->step;
    sim_checkpoint_close(&k);
    return step;
}

static void a_corrupted_part_is_skipped_for_an_older_checkpoint(void **state)
{
    (void)state;
    sim_run run = {0};
    queue q;
    char path[4300], name[64];
    int64_t found[FAULTS + 1];
    use_parts();
    open_run(comm, "corrupted", &run);
    queue_create(1000, (size_t)comm->size, (size_t)comm->rank, true, &q);
    ASSERT_OK(save(comm, &run, 1, &q));
    for (size_t how = 0; how < FAULTS; how++) {
        ASSERT_OK(save(comm, &run, 2, &q)); /* replaces the corrupted file */
        (void)snprintf(name, sizeof name, "step-000000002.part-%04zu.h5", 3 * how);
        path_of(&run, name, path);
        corrupt_file(path, how);
        found[how] = newest_of(&run);
    }
    ASSERT_OK(save(comm, &run, 2, &q));
    found[FAULTS] = newest_of(&run);
    int64_t read = step_that_all_read(&run, 1000);
    queue_destroy(&q);
    sim_run_close(comm, &run);
    for (size_t how = 0; how < FAULTS; how++)
        assert_int_equal(found[how], 1);
    assert_int_equal(found[FAULTS], 2);
    assert_int_equal(read, 2);
}

static void a_part_of_another_run_is_refused_by_name(void **state)
{
    (void)state;
    sim_run run = {0}, other = {0};
    sim_checkpoint *k = NULL;
    queue q;
    char from[4300], to[4300], *bytes = NULL;
    size_t n = 0;
    use_parts();
    open_run(comm, "own", &run);
    open_run(comm, "other", &other);
    queue_create(1000, (size_t)comm->size, (size_t)comm->rank, true, &q);
    ASSERT_OK(save(comm, &run, 1, &q));
    shift_keys(&q);
    ASSERT_OK(save(comm, &other, 1, &q));
    if (comm->rank == 0) {
        path_of(&other, "step-000000001.part-0004.h5", from);
        path_of(&run, "step-000000001.part-0004.h5", to);
        ASSERT_OK(sim_file_load(from, 1 << 24, &bytes, &n));
        write_bytes(to, bytes, n);
        sim_free(bytes);
    }
    path_of(&run, "step-000000001.h5", to);
    sim_status st = sim_checkpoint_open(comm, to, &k);
    queue_destroy(&q);
    sim_run_close(comm, &run);
    sim_run_close(comm, &other);
    assert_int_equal(st, SIM_E_DATA);
    assert_non_null(strstr(sim_error_message(), "part-0004"));
    assert_non_null(strstr(sim_error_message(), "of another checkpoint"));
}

static void part_files_are_deleted_with_their_checkpoint(void **state)
{
    (void)state;
    sim_run run = {0};
    queue q;
    sim_names names = {0};
    char path[4300];
    use_parts();
    open_run(comm, "delete", &run);
    queue_create(257, (size_t)comm->size, (size_t)comm->rank, true, &q);
    path_of(&run, "step-000000009.part-0000.h5", path); /* of an interrupted save */
    if (comm->rank == 0)
        write_bytes(path, "left", 4);
    for (int64_t step = 1; step <= 3; step++)
        ASSERT_OK(save_keeping(comm, &run, step, &q, 1));
    queue_destroy(&q);
    if (comm->rank == 0) {
        path_of(&run, "", path);
        ASSERT_OK(sim_directory_list(path, &names));
    }
    static const char *const want[] = {
        "latest", "step-000000003.h5", "step-000000003.part-0000.h5",
        "step-000000003.part-0001.h5", "step-000000003.part-0002.h5"};
    bool right = comm->rank != 0 || names.n == 5;
    for (size_t i = 0; right && i < names.n; i++)
        right = strcmp(names.names[i], want[i]) == 0;
    sim_names_clear(&names);
    sim_run_close(comm, &run);
    assert_true(right);
}

/* ---- a rank that cannot write ---- */

static int open_without_space(const char *path, int flags, mode_t mode)
{
    if (strstr(path, ".part-")) {
        errno = ENOSPC;
        return -1;
    }
    return sim_file_posix.open(path, flags, mode);
}

static void a_full_disk_on_one_rank_fails_the_save_on_all(void **state)
{
    (void)state;
    sim_run run = {0};
    sim_names names = {0};
    queue q;
    char path[4300];
    sim_file_calls calls = sim_file_posix;
    calls.open = open_without_space;
    use_parts();
    open_run(comm, "full", &run);
    queue_create(1000, (size_t)comm->size, (size_t)comm->rank, true, &q);
    ASSERT_OK(save(comm, &run, 1, &q));
    if (comm->rank == comm->size - 1)
        sim_file_use(&calls);
    sim_status st = save(comm, &run, 2, &q);
    sim_file_use(NULL);
    bool reported = strstr(sim_error_message(), "No space left on device") != NULL;
    int64_t step = step_that_all_read(&run, 1000);
    path_of(&run, "", path);
    ASSERT_OK(sim_directory_list(path, &names));
    size_t n_files = names.n;
    sim_names_clear(&names);
    queue_destroy(&q);
    sim_run_close(comm, &run);
    assert_int_equal(st, SIM_E_IO);
    assert_true(reported);
    assert_int_equal(step, 1);
    assert_int_equal(n_files, 12); /* latest, step 1 and its ten parts */
}

static void the_hash_of_a_sharded_tensor_is_that_of_the_whole_tensor(void **state)
{
    (void)state;
    sim_run run = {0};
    sim_checkpoint *k = NULL;
    sim_json *j = NULL, *tensors = NULL;
    queue q, whole;
    open_run(comm, "hash", &run);
    queue_create(1000, (size_t)comm->size, (size_t)comm->rank, true, &q);
    ASSERT_OK(save(comm, &run, 1, &q));
    queue_create(1000, 1, 0, true, &whole);
    const sim_tensor t = {.name = "queue/keys",
                          .type = SIM_F32,
                          .n_dims = 3,
                          .dims = {1000, 2, WIDTH / 2},
                          .data = whole.keys};
    char want[33];
    sim_hash_hex(sim_tensor_hash(&t), want);
    ASSERT_OK(sim_checkpoint_newest(comm, run.path, &k));
    ASSERT_OK(sim_json_create(&j));
    ASSERT_OK(sim_checkpoint_describe(k, j));
    assert_true(sim_json_get_object(j, "tensors", &tensors));
    size_t found = 0;
    for (size_t i = 0; i < sim_json_size(tensors); i++) {
        const char *name = "", *hash = "";
        (void)sim_json_get_text(sim_json_at(tensors, i), "name", &name);
        (void)sim_json_get_text(sim_json_at(tensors, i), "hash", &hash);
        found += strcmp(name, "queue/keys") == 0 && strcmp(hash, want) == 0;
    }
    assert_int_equal(found, 1);
    sim_json_destroy(&j);
    sim_checkpoint_close(&k);
    queue_destroy(&q);
    queue_destroy(&whole);
    sim_run_close(comm, &run);
}

static void a_nan_is_refused_by_the_rank_that_reads_it(void **state)
{
    (void)state;
    sim_run run = {0};
    sim_checkpoint *k = NULL;
    queue q, loaded;
    const sim_state_source source = {visit_queue, &loaded};
    open_run(comm, "nan", &run);
    queue_create(2049, (size_t)comm->size, (size_t)comm->rank, true, &q);
    const bool last = comm->rank == comm->size - 1;
    if (last)
        q.keys[(q.rows.hi - q.rows.lo - 1) * WIDTH] = (float)NAN;
    ASSERT_OK(save(comm, &run, 1, &q));
    ASSERT_OK(sim_checkpoint_newest(comm, run.path, &k));
    queue_create(2049, (size_t)comm->size, (size_t)comm->rank, false, &loaded);
    sim_status st = sim_checkpoint_load(k, &source, 1);
    assert_int_equal(st, last ? SIM_E_DATA : SIM_OK);
    sim_checkpoint_close(&k);
    queue_destroy(&q);
    queue_destroy(&loaded);
    sim_run_close(comm, &run);
}

int main(int argc, char **argv)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(any_number_of_ranks_writes_the_same_file),
        TEST(any_number_of_ranks_writes_the_same_part_files),
        TEST(a_corrupted_part_is_skipped_for_an_older_checkpoint),
        TEST(a_part_of_another_run_is_refused_by_name),
        TEST(part_files_are_deleted_with_their_checkpoint),
        TEST(a_full_disk_on_one_rank_fails_the_save_on_all),
        TEST(the_hash_of_a_sharded_tensor_is_that_of_the_whole_tensor),
        TEST(a_nan_is_refused_by_the_rank_that_reads_it),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
