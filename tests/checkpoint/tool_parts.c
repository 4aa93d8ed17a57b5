/*
 * tool_parts.c - writes a checkpoint with part files, on any number of ranks, for readers in
 * Python.
 *
 * tool_parts RUN ROWS: /queue/rows [ROWS][4], value row + column / 8, in parts of 100 rows.
 */
#include "simile/checkpoint.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>

enum { WIDTH = 4, PART_ROWS = 100 };

typedef struct {
    size_t n_rows;
    sim_range local;
    float *rows;
} queue;

static sim_status visit_queue(void *object, const sim_visitor *v)
{
    const queue *q = object;
    const sim_tensor rows = {.name = "rows",
                             .type = SIM_F32,
                             .n_dims = 2,
                             .dims = {q->n_rows, WIDTH},
                             .data = q->rows,
                             .sharded = true,
                             .row_lo = q->local.lo,
                             .row_hi = q->local.hi};
    return sim_visit(v, "queue", &rows);
}

static sim_status write_run(const sim_comm *c, const char *path, size_t n_rows)
{
    sim_status st = SIM_OK;
    queue q = {n_rows, sim_partition_range(sim_comm_partition(c), n_rows), NULL};
    sim_run run = {0};
    const sim_state_source source = {visit_queue, &q};
    const sim_checkpoint_options options = {.keep = 1};
    const sim_checkpoint_head head = {
        .step = 12, .config = "", .identity = "", .history = "[]", .fingerprint = "0"};
    size_t n = q.local.hi - q.local.lo;

    SIM_TRY(sim_alloc(&q.rows, n * WIDTH, "test/queue"));
    for (size_t i = 0; i < n * WIDTH; i++)
        q.rows[i] = (float)(q.local.lo + i / WIDTH) + (float)(i % WIDTH) * 0.125f;
    SIM_TRY(sim_run_open(c, path, &run));
    SIM_TRY(sim_checkpoint_write(c, &run, &options, &head, &source, 1));
done:
    sim_run_close(c, &run);
    sim_free(q.rows);
    return st;
}

int main(int argc, char **argv)
{
    const sim_comm *c = NULL;
    if (sim_comm_begin(&argc, &argv, &c) != SIM_OK || argc != 3)
        return 1;
    sim_checkpoint_part_bytes(1000, PART_ROWS * WIDTH * sizeof(float));
    sim_status st = write_run(c, argv[1], strtoull(argv[2], NULL, 10));
    if (st != SIM_OK)
        sim_log_failure(st);
    sim_comm_end();
    return (int)st;
}
