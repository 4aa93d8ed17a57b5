/*
 * comm.h - the only room that speaks MPI: who we are, agreement, gathers, tree sums.
 *
 * Module: comm
 * MPI is funneled through the main thread.  Messages go in pieces of whole rows, 64 MiB
 * at most.  Nothing here adds floating point in an order that depends on the number of
 * ranks: sums over the batch go through the tree of tree.h.
 */
#ifndef SIMILE_COMM_H
#define SIMILE_COMM_H

#include "simile/status.h"
#include "simile/tree.h"

typedef struct sim_comm {
    int rank, size;
    char host[256];
} sim_comm;

/*
 * Starts MPI (and sets the SIM_ASSERT hook to MPI_Abort(70), and the log's identity).
 * One world a process.  Refuses, with the command to type, a launch in which N singletons
 * each believe to be rank 0 (SLURM_NTASKS or the launcher's size says otherwise).
 */
SIM_MUST_USE sim_status sim_comm_begin(int *argc, char ***argv, const sim_comm **world);

/* Ends MPI; all ranks together. */
void sim_comm_end(void);

/*
 * For a process that ends before sim_comm_begin, as all ranks of its launch do alike: waits
 * for the others.  A launcher kills whoever still runs when one has left with a failure, and
 * that may be the one that says why.
 */
void sim_comm_leave_together(void);

/* Ends the job at once with `code`: for failures between points of agreement. */
_Noreturn void sim_comm_abort(sim_status code);

/*
 * The same without a word, for a thread beside the main one, which may sit in MPI for good.
 * (MPI is funneled, but Open MPI's abort asks the launcher and nothing else: under mpirun and
 * srun the job then ends with `code` in a second.  After _exit srun says 137.)
 */
_Noreturn void sim_comm_abort_from_thread(sim_status code);
/* Ends this process in so many seconds, whatever it is then waiting for: before a last word
 * that a dead disk may swallow.  0: not any more. */
void sim_comm_abort_within(unsigned seconds);

/*
 * Unless `end` comes within `seconds`, the job ends with SIM_E_BUG and a message that the start
 * hangs: "... on node1: WHERE for 600 s; ...".  For what comes before a watchdog: sim_comm_begin
 * does it around MPI_Init (SIMILE_START_SECONDS, 600).  One at a time; a second `end` does
 * nothing.  Keeps: where.
 */
void sim_comm_deadline_begin(double seconds, const char *where);
void sim_comm_deadline_end(void);

/*
 * Collective.  Every rank learns the code and the story of the lowest failing rank and
 * returns that code; SIM_OK when all are well.  Non-failing ranks get the story set too,
 * prefixed with "rank R on HOST: " when size > 1.
 */
SIM_MUST_USE sim_status sim_comm_agree(const sim_comm *c, sim_status mine);

/* Collective.  Rank `root`'s bytes to all. */
void sim_comm_broadcast(const sim_comm *c, int root, void *data, size_t n_bytes);

/* Collective.  Element-wise maximum / minimum / sum of integers, in place. */
void sim_comm_max_i64(const sim_comm *c, int64_t *values, size_t n);
void sim_comm_min_i64(const sim_comm *c, int64_t *values, size_t n);
void sim_comm_sum_i64(const sim_comm *c, int64_t *values, size_t n);
/* Element-wise maximum of doubles (times: order does not matter). */
void sim_comm_max_f64(const sim_comm *c, double *values, size_t n);
void sim_comm_barrier(const sim_comm *c);

/*
 * Collective.  Rows in global order from their owners: rank r holds rows
 * [ranges of sim_tree_part(n_units, size, r)) * rows_per_unit, the last unit may be short
 * (n_rows in all).  `mine` may be the place in `all` where the rows belong.
 *   all  [n_rows][row_bytes] on every rank
 */
void sim_comm_gather_rows(const sim_comm *c, size_t n_units, size_t rows_per_unit,
                          size_t n_rows, size_t row_bytes, const void *mine, void *all);
/* The same to one rank only; `all` is used on `root`. */
void sim_comm_collect_rows(const sim_comm *c, int root, size_t n_units,
                           size_t rows_per_unit, size_t n_rows, size_t row_bytes,
                           const void *mine, void *all);

/*
 * Collective.  Rows [rows.lo, rows.hi) of an array that is sharded in any consecutive way
 * come to `root`; ranks that neither own nor get one pass through without waiting.
 *   first  [size + 1]  rank r holds rows [first[r], first[r + 1]); equal on all ranks
 *   mine   this rank's rows
 *   out    [rows.hi - rows.lo][row_bytes], used on `root`
 */
void sim_comm_fetch_rows(const sim_comm *c, int root, const size_t *first, sim_range rows,
                         size_t row_bytes, const void *mine, void *out);

/*
 * Collective.  Sum of float vectors over leaves, for gradients.  Rank r owns the leaves
 * sim_tree_part(n_leaves, size, r); `nodes` holds its maximal nodes (sim_tree_nodes), one
 * after the other, each of n floats, and is overwritten; on return nodes[0..n) is the
 * whole sum, on every rank, with the bits of one rank's tree.  A rank without leaves
 * passes one partial of room (contents ignored).
 * P = 2^k: vector-halving reduce-scatter with partner r^1 first, then an all-gather;
 * other P: slice s of every maximal node goes to rank s, which folds, then all-gather.
 */
void sim_comm_sum_leaves(const sim_comm *c, size_t n_leaves, size_t n, float *nodes);
/* Floats that `nodes` must have room for on this rank. */
size_t sim_comm_sum_leaves_capacity(const sim_comm *c, size_t n_leaves, size_t n);

/*
 * Collective.  Folds doubles over leaves for many groups at once (batch norm, the loss).
 *   Units (blocks) belong to ranks by sim_tree_part(n_units, size, rank); a unit holds
 *   `leaves_per_unit` consecutive leaves; group g covers the leaves
 *   [g, g+1) * leaves_per_group, and folds them by the midpoint tree from its own index 0.
 *   leaves_per_group is a multiple or a divisor of leaves_per_unit and divides the number
 *   of leaves; 0 means all leaves in one group.  The last unit may not be short.
 *
 *   leaves [local unit][leaves_per_unit][width]  this rank's, overwritten
 *   out    [n_groups][width]                     all groups, on every rank
 *
 * A group inside one rank costs no message to fold; only results travel.
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
 * Collective.  The same in one group, for owners who folded their leaves as they came.
 * Rank r owns the leaves sim_tree_part(n_leaves, size, r).
 *   nodes  its maximal nodes (sim_tree_nodes), one after the other, each of width doubles
 *   out    [width] the whole fold, on every rank
 */
void sim_comm_reduce_nodes(const sim_comm *c, size_t n_leaves, size_t width,
                           const double *nodes, sim_merge_fn *merge, double *out);

/* Tests: rows in a message at most; 0 restores 64 MiB pieces. */
void sim_comm_piece_rows(size_t n_rows);

/* "Open MPI v4.1.4 ..." for --version and headers. */
const char *sim_comm_library(void);

/* Seconds spent inside this room since the start, and bytes sent by this rank. */
double sim_comm_seconds(void);
uint64_t sim_comm_bytes(void);

#endif
