/*
 * comm.h - the only module that uses MPI: start, agreement on errors, gathers, reductions.
 *
 * Module: comm
 * Only the main thread calls MPI.  Messages are split in pieces of whole rows, at most 64 MiB.
 * No floating-point sum depends on the number of ranks: sums over the batch use the tree of
 * tree.h.
 */
#ifndef SIMILE_COMM_H
#define SIMILE_COMM_H

#include "simile/status.h"
#include "simile/tree.h"

typedef struct sim_comm {
    int rank, size;
    char host[256];
    struct sim_comm_handle *handle; /* private to comm; NULL: all ranks of the job */
} sim_comm;

/* The rank and the number of ranks of c. */
static inline sim_partition sim_comm_partition(const sim_comm *c)
{
    return (sim_partition){.size = (size_t)c->size, .rank = (size_t)c->rank};
}

/*
 * Starts MPI, and sets the SIM_ASSERT hook to MPI_Abort(70) and the identity of the log. Once
 * per process. *world is valid until sim_comm_end.
 * Errors: SIM_E_USAGE if the launcher started N processes and each is rank 0 of 1; the message
 * contains the right command. SIM_E_INSTALL if the MPI library lacks thread support.
 */
SIM_MUST_USE sim_status sim_comm_begin(int *argc, char ***argv, const sim_comm **world);

/* Ends MPI; all ranks together. */
void sim_comm_end(void);

/*
 * Collective over `c`. A communicator of its ranks [0, n_ranks), 1 to c->size; *out is NULL on the
 * other ranks. Its ranks may use it in all collective functions, while the others wait in
 * one of `c`. Failures between points of agreement still end the whole job.
 */
SIM_MUST_USE sim_status sim_comm_create(const sim_comm *c, int n_ranks, sim_comm **out);
/* Collective over *c, which may be NULL. Not for the communicator of sim_comm_begin. */
void sim_comm_destroy(sim_comm **c);

/*
 * Waits for the other ranks before an exit that all ranks make before sim_comm_begin. Otherwise the
 * launcher kills the remaining processes when the first one fails, possibly the one that prints the
 * reason.
 */
void sim_comm_leave_together(void);

/* Ends the job at once with `code`: for failures between points of agreement. */
_Noreturn void sim_comm_abort(sim_status code);

/*
 * The same without a message, for another thread while the main thread may block in MPI, in a write or
 * in the kernel. MPI_Abort of Open MPI only contacts the launcher, which ends the job with `code`
 * within a second under mpirun and srun; after _exit srun would report 137. A process whose launcher
 * does not end it within 5 s exits with `code`. Returns to no caller, does not wait for files, for
 * stderr or for locks of other threads.
 */
_Noreturn void sim_comm_abort_from_thread(sim_status code);
/* Ends this process after `seconds` even if it blocks, for instance in a write to a failed
 * disk.  0 cancels. */
void sim_comm_abort_within(unsigned seconds);

/*
 * Ends the job with SIM_E_BUG and the message "WHAT for 600 s on node1" unless
 * sim_comm_deadline_end is called within `seconds`; 0: no deadline. Covers the time before and after
 * the watchdog, for steps that are short on every rank: a rank that waits for a slow one is ended,
 * too. sim_comm_begin uses it around MPI_Init, sim_comm_end around MPI_Finalize. A deadline replaces
 * the previous one; ending twice is harmless. `what` is borrowed until the end.
 */
void sim_comm_deadline_begin(double seconds, const char *what);
void sim_comm_deadline_end(void);

/* The deadline of the start: SIMILE_START_SECONDS, 600 by default. */
double sim_comm_start_seconds(void);

/*
 * Collective. Returns the code of the lowest failing rank on every rank, and sets its error
 * message, prefixed with "rank R on HOST: " if size > 1; SIM_OK if no rank fails.
 */
SIM_MUST_USE sim_status sim_comm_agree(const sim_comm *c, sim_status local);

/*
 * Collective. Compares a text, such as a job or the fingerprint of a file, with that of rank 0. If it
 * differs on any rank, every rank returns `code` with the message of the lowest such rank: `what`,
 * the first line that differs, and `rule`, for instance "all ranks must read the same file".
 */
SIM_MUST_USE sim_status sim_comm_compare(const sim_comm *c, sim_status code,
                                         const char *what, const char *text,
                                         const char *rule);
/* Collective. The same for the content of a file that every rank reads; SIM_E_DATA.
 * Errors: those of reading it. */
SIM_MUST_USE sim_status sim_comm_compare_file(const sim_comm *c, const char *path);

/* Collective. Broadcasts n_bytes of rank `root`. */
void sim_comm_broadcast(const sim_comm *c, int root, void *data, size_t n_bytes);

/* Collective. Element-wise maximum / minimum / sum of integers, in place. */
void sim_comm_max_i64(const sim_comm *c, int64_t *values, size_t n);
void sim_comm_min_i64(const sim_comm *c, int64_t *values, size_t n);
void sim_comm_sum_i64(const sim_comm *c, int64_t *values, size_t n);
/* Element-wise maximum of doubles (times: order does not matter). */
void sim_comm_max_f64(const sim_comm *c, double *values, size_t n);
/*
 * Collective. Bitwise or of n_bytes over all ranks, in place. It combines buffers of any type in
 * which each byte is zero on all ranks but one.
 */
void sim_comm_or_bytes(const sim_comm *c, void *data, size_t n_bytes);
void sim_comm_barrier(const sim_comm *c);

/*
 * Collective. All-gather of rows in global order. Rank r holds the rows of the units
 * sim_tree_part(n_units, size, r), rows_per_unit each; the last unit may be short (n_rows in
 * total). `local` may point to the position of the rows in `all`.
 *   all  [n_rows][row_bytes] on every rank; NULL on a rank alone, which reads `local`: the call is counted
 */
void sim_comm_gather_rows(const sim_comm *c, size_t n_units, size_t rows_per_unit,
                          size_t n_rows, size_t row_bytes, const void *local, void *all);
/* The same to one rank only; `all` is used on `root`. */
void sim_comm_collect_rows(const sim_comm *c, int root, size_t n_units,
                           size_t rows_per_unit, size_t n_rows, size_t row_bytes,
                           const void *local, void *all);

/*
 * Collective. Fetches rows [rows.lo, rows.hi) of an array that is sharded in consecutive
 * ranges to `root`; ranks without such rows return at once.
 *   first  [size + 1]  rank r holds rows [first[r], first[r + 1]); equal on all ranks
 *   local  the rows of this rank
 *   out    [rows.hi - rows.lo][row_bytes], used on `root`
 */
void sim_comm_fetch_rows(const sim_comm *c, int root, const size_t *first, sim_range rows,
                         size_t row_bytes, const void *local, void *out);

/*
 * A stream of the rows of all ranks to every rank, chunk by chunk in global order, so that no rank
 * holds all of them. A chunk is broadcast by the ranks that own its rows while the caller reads the
 * one before: a stream holds two chunks.
 *
 *   n_units, rows_per_unit, n_rows, row_bytes  as in sim_comm_gather_rows
 *   n_arrays                                   of that shape, one after the other
 *   chunk_rows                                 of an array; its last chunk may be short
 */
typedef struct {
    size_t n_units, rows_per_unit, n_rows, row_bytes;
    size_t n_arrays, chunk_rows;
} sim_stream_shape;
typedef struct sim_comm_stream sim_comm_stream;
/* Local; `c` is borrowed. */
SIM_MUST_USE sim_status sim_comm_stream_create(const sim_comm *c,
                                               const sim_stream_shape *shape,
                                               sim_comm_stream **out);
void sim_comm_stream_destroy(sim_comm_stream **s);
/* Bytes that sim_comm_stream_create allocates on every rank. */
size_t sim_comm_stream_bytes(sim_partition p, const sim_stream_shape *shape);

/* Rows [lo, hi) of an array. */
typedef struct {
    size_t array, lo, hi;
    const void *rows; /* valid until the next call of sim_comm_stream_next */
} sim_stream_chunk;
/*
 * begin starts the first chunk; `local` [n_arrays][local rows][row_bytes] is read until the end. next
 * waits for a chunk and starts the one after it; false after the last chunk, when the stream may
 * begin again. Between begin and the last chunk all ranks call next alike. Collective.
 */
void sim_comm_stream_begin(sim_comm_stream *s, const void *local);
bool sim_comm_stream_next(sim_comm_stream *s, sim_stream_chunk *out);
/* Advances the chunk that is under way: MPI makes progress during calls only. Call it every few
 * milliseconds while the rows of a chunk are used, on any number of ranks. */
void sim_comm_stream_progress(sim_comm_stream *s);

/*
 * Collective. Sum of float vectors over leaves, for gradients. Rank r owns the leaves
 * sim_tree_part(n_leaves, size, r); `nodes` holds its maximal nodes (sim_tree_nodes), one
 * after the other, each of n floats, and is overwritten. On return nodes[0..n) is the sum over
 * all leaves on every rank, with the bits of a single rank. A rank without leaves passes one
 * vector, whose contents are ignored.
 * P = 2^k: vector-halving reduce-scatter with partner r^1 first, then an all-gather. Other P:
 * rank s reduces slice s of every maximal node, then an all-gather.
 */
void sim_comm_sum_leaves(const sim_comm *c, size_t n_leaves, size_t n, float *nodes);
/* Capacity of `nodes` on this rank, in floats. */
size_t sim_comm_sum_leaves_capacity(sim_partition p, size_t n_leaves, size_t n);

/*
 * Collective. Reduces doubles over leaves for many groups at once (batch norm, the loss).
 *   Units (blocks) belong to ranks by sim_tree_part(n_units, size, rank); a unit holds
 *   `leaves_per_unit` consecutive leaves; group g covers the leaves
 *   [g, g+1) * leaves_per_group, and reduces them by the midpoint tree from its first leaf.
 *   leaves_per_group is a multiple or a divisor of leaves_per_unit and divides the number
 *   of leaves; 0 means all leaves in one group. The last unit may not be short.
 *
 *   leaves [local unit][leaves_per_unit][width]  this rank's, overwritten
 *   out    [n_groups][width]                     all groups, on every rank
 *
 * A group within one rank is reduced without messages; only its result is sent.
 */
typedef struct {
    size_t n_units;
    size_t leaves_per_unit, leaves_per_group;
    size_t width;
    sim_merge_fn *merge;
} sim_reduce_shape;
size_t sim_reduce_groups(const sim_reduce_shape *shape);
void sim_comm_reduce_doubles(const sim_comm *c, const sim_reduce_shape *shape,
                             double *leaves, double *out);

/*
 * Collective. The same for one group whose leaves each rank has reduced to nodes already.
 * Rank r owns the leaves sim_tree_part(n_leaves, size, r).
 *   nodes  its maximal nodes (sim_tree_nodes), one after the other, each of width doubles
 *   out    [width] the result, on every rank
 */
void sim_comm_reduce_nodes(const sim_comm *c, size_t n_leaves, size_t width,
                           const double *nodes, sim_merge_fn *merge, double *out);

/* For tests: largest number of rows per message; 0 restores pieces of 64 MiB. */
void sim_comm_piece_rows(size_t n_rows);

/* "Open MPI v4.1.4 ..." for --version and headers. */
const char *sim_comm_library(void);

/* Seconds spent in this module, and bytes sent by this rank, since the start. */
double sim_comm_seconds(void);
uint64_t sim_comm_bytes(void);

/*
 * What this rank contributed to all-gathers since the start, also with one rank, when nothing is sent:
 * calls of sim_comm_gather_rows and sim_comm_stream_begin, and bytes of this rank's rows; calls of sim_comm_reduce_doubles
 * and sim_comm_reduce_nodes and bytes of this rank's nodes.
 */
typedef struct {
    uint64_t gathers, gathered_bytes;
    uint64_t reductions, reduced_bytes;
} sim_comm_traffic;
sim_comm_traffic sim_comm_traffic_total(void);

#endif
