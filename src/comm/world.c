/*
 * world.c - start and end of MPI, and statistics of its use.
 */
#include "private.h"

#include "simile/clock.h"
#include "simile/heartbeat.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sim_comm world;
static int *counts;
static double inside_s;
static uint64_t sent_bytes_total;
static sim_comm_traffic traffic;
static size_t piece_rows;

enum { PIECE_BYTES = 64 << 20, END_S = 60 };

static const char hung_in_init[] = "the start hangs: MPI_Init has not returned";

double sim_comm_enter(void)
{
    sim_heartbeat_exchange();
    return sim_clock_s();
}

void sim_comm_leave(double entered, size_t sent_bytes)
{
    inside_s += sim_clock_s() - entered;
    sent_bytes_total += sent_bytes;
    sim_heartbeat_exchange();
}

double sim_comm_seconds(void)
{
    return inside_s;
}

uint64_t sim_comm_bytes(void)
{
    return sent_bytes_total;
}

void sim_comm_count_gather(size_t n_bytes)
{
    traffic.gathers++;
    traffic.gathered_bytes += n_bytes;
}

void sim_comm_count_reduction(size_t n_bytes)
{
    traffic.reductions++;
    traffic.reduced_bytes += n_bytes;
}

sim_comm_traffic sim_comm_traffic_total(void)
{
    return traffic;
}

void sim_comm_piece_rows(size_t n_rows)
{
    piece_rows = n_rows;
}

size_t sim_comm_rows_per_piece(size_t row_bytes)
{
    SIM_ASSERT(row_bytes > 0 && row_bytes < (size_t)1 << 31);
    if (piece_rows)
        return piece_rows;
    return row_bytes < PIECE_BYTES ? PIECE_BYTES / row_bytes : 1;
}

size_t sim_comm_piece(size_t left, size_t piece)
{
    return left < piece ? left : piece;
}

int *sim_comm_counts(void)
{
    SIM_ASSERT(counts);
    return counts;
}

static void abort_on_bug(void)
{
    (void)MPI_Abort(MPI_COMM_WORLD, SIM_E_BUG);
}

/* Compares the size of MPI's world with the number of processes of the launcher. */
static sim_status check_launch(long launched, sim_start how, int size, const char *name)
{
    sim_status st = SIM_OK;
    if (size > 1)
        goto done;
    SIM_CHECK(how != SIM_START_SRUN, SIM_E_USAGE,
              "srun started %ld processes, but each is an MPI world of size 1 instead of "
              "%ld; start it with: srun --mpi=pmix -n %ld %s ...",
              launched, launched, launched, name);
    SIM_CHECK(
        how != SIM_START_MPIRUN, SIM_E_USAGE,
        "the launcher started %ld processes, but each is an MPI world of size 1 instead "
        "of "
        "%ld; this program is built with %s, start it with the launcher of that library: "
        "mpirun -np %ld %s ...",
        launched, launched, sim_comm_library(), launched, name);
done:
    return st;
}

static sim_status start_mpi(int *argc, char ***argv)
{
    sim_status st = SIM_OK;
    int provided = 0;
    sim_start how;
    long launched = sim_comm_launched(&how);
    const char *name = argv && *argv && **argv ? **argv : "simile";

    if (sim_comm_is_scattered())
        SIM_TRY(check_launch(launched, how, 1, name));
    sim_comm_deadline_begin(sim_comm_start_seconds(), hung_in_init);
    int error = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    sim_comm_deadline_end();
    SIM_CHECK(error == MPI_SUCCESS, SIM_E_BUG, "MPI_Init_thread failed with error %d",
              error);
    sim_assert_hook(abort_on_bug);
    MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world.size);
    (void)gethostname(world.host, sizeof world.host - 1);
    sim_log_identity(world.rank, world.size, world.host);
    SIM_CHECK(provided >= MPI_THREAD_FUNNELED, SIM_E_INSTALL,
              "%s does not support MPI_THREAD_FUNNELED, which is required",
              sim_comm_library());
    SIM_TRY(check_launch(launched, how, world.size, name));
done:
    return st;
}

sim_status sim_comm_begin(int *argc, char ***argv, const sim_comm **out)
{
    int started = 0;
    sim_status st = start_mpi(argc, argv);

    if (st == SIM_OK) {
        st = sim_alloc(&counts, 2 * (size_t)world.size, "comm/counts");
        if (st != SIM_OK)
            sim_comm_abort(st); /* the other ranks would continue */
        *out = &world;
        return st;
    }
    /* Either one process, or all ranks fail alike: MPI_Finalize does not hang. */
    (void)MPI_Initialized(&started);
    if (started)
        sim_comm_end();
    return st;
}

void sim_comm_end(void)
{
    sim_assert_hook(NULL);
    SIM_FREE(counts);
    sim_comm_deadline_begin(END_S, "the end hangs: MPI_Finalize has not returned");
    (void)MPI_Finalize(); /* waits for all ranks */
    sim_comm_deadline_end();
}

void sim_comm_leave_together(void)
{
    int started = 0;
    sim_start how;

    (void)MPI_Initialized(&started);
    if (started || sim_comm_launched(&how) == 1 || sim_comm_is_scattered())
        return;
    sim_comm_deadline_begin(sim_comm_start_seconds(), hung_in_init);
    if (MPI_Init(NULL, NULL) == MPI_SUCCESS) {
        (void)MPI_Barrier(MPI_COMM_WORLD);
        (void)MPI_Finalize();
    }
    sim_comm_deadline_end();
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
