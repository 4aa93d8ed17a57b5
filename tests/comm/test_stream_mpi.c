/*
 * test_stream_mpi.c - the stream of rows of all ranks on 1 to 4 ranks: every chunk has the rows that
 * their owners hold, in global order. Each rank computes the expected rows itself.
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/memory.h"

static const sim_comm *comm;

/* A number that no other row, column, array and round has. */
static uint32_t value(size_t array, size_t row, size_t column, size_t round)
{
    return (uint32_t)(((array * 1000 + row) * 8 + column) * 4 + round);
}

enum { COLUMNS = 5 };

static sim_range own_rows(const sim_stream_shape *s)
{
    const sim_range units = sim_partition_range(sim_comm_partition(comm), s->n_units);
    const size_t lo = units.lo * s->rows_per_unit, hi = units.hi * s->rows_per_unit;
    return (sim_range){lo < s->n_rows ? lo : s->n_rows, hi < s->n_rows ? hi : s->n_rows};
}

static void fill(const sim_stream_shape *s, size_t round, uint32_t *local)
{
    const sim_range own = own_rows(s);
    for (size_t a = 0; a < s->n_arrays; a++)
        for (size_t i = own.lo; i < own.hi; i++)
            for (size_t k = 0; k < COLUMNS; k++)
                *local++ = value(a, i, k, round);
}

static bool chunk_is_right(const sim_stream_chunk *c, size_t round)
{
    const uint32_t *rows = c->rows;
    bool ok = true;
    for (size_t i = c->lo; i < c->hi; i++)
        for (size_t k = 0; k < COLUMNS; k++)
            ok &= *rows++ == value(c->array, i, k, round);
    return ok;
}

/* Streams twice; whether all rows arrived, each once and in order. */
static bool stream_is_right(const sim_stream_shape *s, bool progress)
{
    sim_comm_stream *stream = NULL;
    sim_stream_chunk c;
    uint32_t *local = NULL;
    const size_t before = sim_memory_bytes();
    bool ok = true;

    ASSERT_OK(sim_comm_stream_create(comm, s, &stream));
    ok &=
        sim_memory_bytes() - before == sim_comm_stream_bytes(sim_comm_partition(comm), s);
    ASSERT_OK(sim_alloc(&local, s->n_arrays * s->n_rows * COLUMNS, "test/stream"));
    for (size_t round = 0; round < 2; round++) {
        size_t array = 0, next = 0;
        fill(s, round, local);
        sim_comm_stream_begin(stream, local);
        while (sim_comm_stream_next(stream, &c)) {
            ok &= c.array == array && c.lo == next && chunk_is_right(&c, round);
            array += c.hi == s->n_rows;
            next = c.hi == s->n_rows ? 0 : c.hi;
            for (int i = 0; i < 3 && progress; i++)
                sim_comm_stream_progress(stream);
        }
        ok &= array == s->n_arrays && next == 0;
    }
    sim_free(local);
    sim_comm_stream_destroy(&stream);
    return ok;
}

/* Chunks of part of a unit, of several ranks, and of all rows; ranks without rows. */
static const sim_stream_shape shapes[] = {
    {.n_units = 1, .rows_per_unit = 3, .n_rows = 3, .n_arrays = 1, .chunk_rows = 2},
    {.n_units = 7, .rows_per_unit = 4, .n_rows = 26, .n_arrays = 2, .chunk_rows = 5},
    {.n_units = 12, .rows_per_unit = 1, .n_rows = 12, .n_arrays = 3, .chunk_rows = 12},
    {.n_units = 3, .rows_per_unit = 32, .n_rows = 65, .n_arrays = 2, .chunk_rows = 100},
    {.n_units = 9, .rows_per_unit = 8, .n_rows = 72, .n_arrays = 2, .chunk_rows = 64},
};

static void every_rank_receives_all_rows_in_order(void **state)
{
    (void)state;
    char bad[80] = "";
    for (size_t piece = 0; piece < 4; piece += 3) /* rows of a message; 0: all */
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            sim_stream_shape s = shapes[i];
            s.row_bytes = COLUMNS * sizeof(uint32_t);
            sim_comm_piece_rows(piece);
            for (int progress = 0; progress < 2; progress++)
                if (!stream_is_right(&s, progress))
                    (void)snprintf(bad, sizeof bad, "shape %zu piece %zu progress %d", i,
                                   piece, progress);
        }
    sim_comm_piece_rows(0);
    if (bad[0])
        fail_msg("%s", bad);
}

/* A stream adds one gather of this rank's rows; a rank alone sends nothing. */
static void the_traffic_is_that_of_a_gather(void **state)
{
    (void)state;
    sim_stream_shape s = shapes[1];
    sim_comm_stream *stream = NULL;
    sim_stream_chunk c;
    uint32_t local[2 * 26 * COLUMNS];

    s.row_bytes = COLUMNS * sizeof *local;
    fill(&s, 0, local);
    ASSERT_OK(sim_comm_stream_create(comm, &s, &stream));
    const sim_comm_traffic before = sim_comm_traffic_total();
    const uint64_t sent = sim_comm_bytes();
    sim_comm_stream_begin(stream, local);
    while (sim_comm_stream_next(stream, &c))
        ;
    const sim_comm_traffic after = sim_comm_traffic_total();
    const sim_range own = own_rows(&s);
    const uint64_t bytes = 2 * (own.hi - own.lo) * s.row_bytes;
    const uint64_t sent_now = sim_comm_bytes() - sent;
    sim_comm_stream_destroy(&stream);
    assert_int_equal(after.gathers - before.gathers, 1);
    assert_int_equal(after.gathered_bytes - before.gathered_bytes, bytes);
    assert_int_equal(sent_now, comm->size > 1 ? bytes : 0);
}

static void memory_that_is_exhausted_is_an_error(void **state)
{
    (void)state;
    sim_stream_shape s = shapes[1];
    sim_comm_stream *stream = NULL;
    const size_t before = sim_memory_bytes();

    s.row_bytes = COLUMNS * sizeof(uint32_t);
    for (uint64_t k = 1; k <= 4; k++) {
        sim_memory_fail_at(k);
        const sim_status st = sim_comm_stream_create(comm, &s, &stream);
        sim_memory_fail_at(0);
        assert_int_equal(st, SIM_E_IO);
        assert_null(stream);
        assert_int_equal(sim_memory_bytes(), before);
    }
    sim_error_clear();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_receives_all_rows_in_order),
        cmocka_unit_test(the_traffic_is_that_of_a_gather),
        cmocka_unit_test(memory_that_is_exhausted_is_an_error),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
