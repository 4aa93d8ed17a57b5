/*
 * history.c - the segments of a run: when, where, how many ranks, how far, why it ended.
 *
 * A JSON array in each checkpoint; `simile inspect RUN` shows it as a table.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/json.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

static sim_status segment(const sim_train_state *t, const char *why, char **out)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    char start[21], end[21];
    double elapsed = sim_clock_s() - t->start_s;
    double now = sim_clock_wall_s();

    SIM_TRY(sim_json_create(&j));
    sim_clock_iso(now - elapsed, start);
    sim_clock_iso(now, end);
    sim_json_text(j, "start", start);
    sim_json_text(j, "end", end);
    sim_json_text(j, "host", t->comm->host);
    sim_json_int(j, "ranks", t->comm->size);
    sim_json_int(j, "threads", sim_threads());
    sim_json_text(j, "kernels", t->request->kernels);
    sim_json_text(j, "build", t->request->build);
    sim_json_int(j, "batch", t->job->train.batch);
    sim_json_int(j, "from_step", t->start_step);
    sim_json_int(j, "to_step", t->at.step);
    double images = (double)(t->at.step - t->start_step) * (double)t->job->train.batch;
    sim_json_real(j, "images_per_s", elapsed > 0 ? images / elapsed : 0);
    sim_json_text(j, "ended", why);
    SIM_TRY(sim_json_dump(j, 0, out));
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_history_text(const sim_train_state *t, const char *why, char **json)
{
    sim_status st = SIM_OK;
    char *mine = NULL;
    size_t n = t->history ? strlen(t->history) : 0;

    SIM_TRY(segment(t, why, &mine));
    if (n > 2) /* "[...]" with something in it: reopen the array */
        SIM_TRY(sim_text_format("train/history", json, "%.*s,%s]", (int)(n - 1),
                                t->history, mine));
    else
        SIM_TRY(sim_text_format("train/history", json, "[%s]", mine));
done:
    sim_free(mine);
    return st;
}
