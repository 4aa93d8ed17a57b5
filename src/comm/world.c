/*
 * world.c - starting and ending MPI, small integer exchanges, agreement on failures.
 */
#include "private.h"

#include "simile/clock.h"
#include "simile/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sim_comm world;
static double inside_s;
static uint64_t sent_bytes_total;
static size_t piece_rows;

enum { PIECE_BYTES = 64 << 20 };

double sim_comm_enter(void)
{
    return sim_clock_s();
}

void sim_comm_leave(double entered, size_t sent_bytes)
{
    inside_s += sim_clock_s() - entered;
    sent_bytes_total += sent_bytes;
}

double sim_comm_seconds(void)
{
    return inside_s;
}

uint64_t sim_comm_bytes(void)
{
    return sent_bytes_total;
}

void sim_comm_piece_rows(size_t n_rows)
{
    piece_rows = n_rows;
}

size_t sim_comm_rows_per_piece(size_t row_bytes)
{
    if (piece_rows)
        return piece_rows;
    size_t rows = row_bytes ? PIECE_BYTES / row_bytes : PIECE_BYTES;
    return rows ? rows : 1;
}

static void abort_on_bug(void)
{
    (void)MPI_Abort(MPI_COMM_WORLD, SIM_E_BUG);
}

/*
 * How many processes the launcher says this step has; 1 when it says nothing.  Only a step
 * counts: a plain start inside an allocation is a job of one.
 */
static long launched(void)
{
    if (!getenv("SLURM_STEP_ID") || !getenv("SLURM_PROCID"))
        return 1;
    const char *text = getenv("SLURM_STEP_NUM_TASKS");
    return text ? strtol(text, NULL, 10) : 1;
}

static sim_status check_launch(void)
{
    sim_status st = SIM_OK;
    long n = launched();
    SIM_CHECK(
        world.size > 1 || n <= 1, SIM_E_USAGE,
        "srun started %ld processes, but MPI gives each a world of its own; start it "
        "with: srun --mpi=pmix simile ...",
        n);
done:
    return st;
}

sim_status sim_comm_begin(int *argc, char ***argv, const sim_comm **out)
{
    sim_status st = SIM_OK;
    int provided = 0;

    SIM_CHECK(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) == MPI_SUCCESS,
              SIM_E_BUG, "MPI does not start");
    MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world.size);
    (void)gethostname(world.host, sizeof world.host - 1);
    sim_assert_hook(abort_on_bug);
    sim_log_identity(world.rank, world.size, world.host);
    st = check_launch();
    if (st != SIM_OK) {
        if (strcmp(getenv("SLURM_PROCID"), "0") != 0)
            sim_story_set("");
        (void)MPI_Finalize();
        goto done;
    }
    *out = &world;
done:
    return st;
}

void sim_comm_end(void)
{
    sim_assert_hook(NULL);
    (void)MPI_Finalize();
}

void sim_comm_abort(sim_status code)
{
    sim_log_each("%s", sim_story());
    (void)MPI_Abort(MPI_COMM_WORLD, (int)code);
    abort();
}

sim_status sim_comm_agree(const sim_comm *c, sim_status mine)
{
    int lowest = mine == SIM_OK ? c->size : c->rank, first = 0;
    char text[4096] = "";
    int code = (int)mine;

    if (c->size == 1)
        return mine;
    double entered = sim_comm_enter();
    MPI_Allreduce(&lowest, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (first == c->size) {
        sim_comm_leave(entered, sizeof lowest);
        return SIM_OK;
    }
    if (c->rank == first) {
        const char *told = sim_story();
        bool named = strncmp(told, "rank ", 5) == 0; /* agreed upon before */
        if (named)
            (void)snprintf(text, sizeof text, "%s", told);
        else
            (void)snprintf(text, sizeof text, "rank %d on %s: %s", c->rank, c->host,
                           told);
    }
    MPI_Bcast(&code, 1, MPI_INT, first, MPI_COMM_WORLD);
    MPI_Bcast(text, sizeof text, MPI_CHAR, first, MPI_COMM_WORLD);
    sim_story_set(text);
    sim_comm_leave(entered, sizeof text);
    return (sim_status)code;
}

void sim_comm_broadcast(const sim_comm *c, int root, void *data, size_t n_bytes)
{
    double entered = sim_comm_enter();
    char *p = data;
    for (size_t left = n_bytes; c->size > 1 && left > 0;) {
        size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
        MPI_Bcast(p, (int)n, MPI_BYTE, root, MPI_COMM_WORLD);
        p += n;
        left -= n;
    }
    sim_comm_leave(entered, c->rank == root ? n_bytes : 0);
}

static void reduce_i64(const sim_comm *c, int64_t *values, size_t n, MPI_Op op)
{
    double entered = sim_comm_enter();
    if (c->size > 1)
        MPI_Allreduce(MPI_IN_PLACE, values, (int)n, MPI_INT64_T, op, MPI_COMM_WORLD);
    sim_comm_leave(entered, n * sizeof *values);
}

void sim_comm_max_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_i64(c, values, n, MPI_MAX);
}

void sim_comm_min_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_i64(c, values, n, MPI_MIN);
}

void sim_comm_sum_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_i64(c, values, n, MPI_SUM);
}

void sim_comm_max_f64(const sim_comm *c, double *values, size_t n)
{
    double entered = sim_comm_enter();
    if (c->size > 1)
        MPI_Allreduce(MPI_IN_PLACE, values, (int)n, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    sim_comm_leave(entered, n * sizeof *values);
}

void sim_comm_barrier(const sim_comm *c)
{
    if (c->size > 1)
        MPI_Barrier(MPI_COMM_WORLD);
}

const char *sim_comm_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n = 0;
    if (!text[0]) {
        (void)MPI_Get_library_version(text, &n);
        text[strcspn(text, ",\n")] = '\0';
    }
    return text;
}
