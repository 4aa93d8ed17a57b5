/*
 * branch.c - `--resume FILE`: whether a checkpoint belongs to the run, and the start of a run branch
 * from it.
 *
 * A run directory holds the metrics, results and checkpoints of one history.  A checkpoint of another
 * run is therefore accepted only by a run that has no checkpoints.
 */
#include "state.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

/* True if the file is in RUN/checkpoints or in another directory of the run. */
static bool is_in_run(const sim_run *run, const char *path)
{
    char parent[4300];
    const char *slash = strrchr(path, '/');

    (void)snprintf(parent, sizeof parent, "%.*s/..", slash ? (int)(slash - path) : 1,
                   slash ? path : ".");
    return slash != path && sim_path_is_same(parent, run->path);
}

/* True if the checkpoint is a step of the run or of a branch that it left.  A file of the run
 * may be of a killed segment, whose last steps RUN/segments.json does not record. */
static bool belongs_to_run(const sim_run *run, const sim_checkpoint *k,
                           const char *segments)
{
    const sim_lineage found = sim_checkpoint_lineage(sim_checkpoint_head_of(k), segments);
    return found == SIM_LINEAGE_STEP ||
           (found == SIM_LINEAGE_RELATED && is_in_run(run, sim_checkpoint_path(k)));
}

/* The same for the history in the newest checkpoint, in case RUN/segments.json was lost. */
static sim_status compare_newest(const sim_train_env *env, const sim_checkpoint *k,
                                 int64_t *belongs)
{
    sim_status st = SIM_OK;
    sim_checkpoint *newest = NULL;

    st = sim_checkpoint_newest(env->comm, env->run.path, &newest);
    if (st == SIM_E_DATA) { /* none is good */
        sim_error_clear();
        st = SIM_OK;
    }
    SIM_TRY(st);
    *belongs = newest && env->comm->rank == 0 &&
               belongs_to_run(&env->run, k, sim_checkpoint_head_of(newest)->history);
    sim_comm_max_i64(env->comm, belongs, 1);
done:
    sim_checkpoint_close(&newest);
    return st;
}

sim_status sim_branch_check(const sim_train_env *env, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    char *segments = NULL;
    int64_t belongs = 0;

    if (env->comm->rank == 0 && sim_run_last_step(env->run.path) >= 0) {
        st = sim_history_of_run(env->run.path, &segments);
        belongs = st == SIM_OK && belongs_to_run(&env->run, k, segments);
    } else {
        belongs = env->comm->rank == 0;
    }
    SIM_TRY(sim_comm_agree(env->comm, st));
    sim_comm_max_i64(env->comm, &belongs, 1);
    if (!belongs)
        SIM_TRY(compare_newest(env, k, &belongs));
    SIM_CHECK(
        belongs, SIM_E_CREATE,
        "--resume %s: this checkpoint is not a step of the run in %s, which already "
        "has checkpoints; continue it in another run directory (run=...), or start a "
        "run there from its weights with --init %s",
        sim_checkpoint_path(k), env->run.path, sim_checkpoint_path(k));
done:
    sim_free(segments);
    return st;
}

sim_status sim_branch_start(sim_train_state *t, const sim_checkpoint *k, bool *foreign)
{
    sim_status st = SIM_OK;
    char name[64], path[4200];
    int64_t other = 0;

    (void)snprintf(name, sizeof name, "checkpoints/step-%09lld.h5",
                   (long long)t->progress.at.step);
    SIM_TRY(sim_run_path(&t->env.run, name, path, sizeof path));
    other = t->env.comm->rank == 0 && !sim_path_is_same(path, sim_checkpoint_path(k));
    sim_comm_max_i64(t->env.comm, &other, 1);
    *foreign = other != 0;
    if (other) { /* the best checkpoint may not be in this run */
        t->saves.best_step = 0;
        t->saves.best_score = 0;
    }
    SIM_TRY(sim_run_abandon(t->env.comm, &t->env.run, t->progress.at.step + !other,
                            t->segment.abandoned, sizeof t->segment.abandoned));
done:
    return st;
}
