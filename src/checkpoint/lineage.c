/*
 * lineage.c - whether a checkpoint belongs to a run, according to the history of segments.
 *
 * Each checkpoint holds the segments that led to it; the last of them wrote it.  A run holds those
 * segments and the ones that it left, with the steps that they reached.
 */
#include "private.h"

#include <string.h>

static const char *id_of(const sim_json *segment)
{
    const char *id = "";
    (void)sim_json_get_text(segment, "id", &id);
    return id;
}

static const sim_json *find_id(const sim_json *list, const char *id)
{
    for (size_t i = 0; *id && i < sim_json_size(list); i++)
        if (strcmp(id_of(sim_json_at(list, i)), id) == 0)
            return sim_json_at(list, i);
    return NULL;
}

/* The last step of a segment: recorded by the segment, or in the metrics if it was killed. */
static int64_t reached_step(const sim_json *segment)
{
    int64_t saved = -1, logged = -1;
    (void)sim_json_get_int(segment, "to_step", &saved);
    (void)sim_json_get_int(segment, "last_step", &logged);
    return saved > logged ? saved : logged;
}

static bool shares_segment(const sim_json *a, const sim_json *b)
{
    for (size_t i = 0; i < sim_json_size(a); i++)
        if (find_id(b, id_of(sim_json_at(a, i))))
            return true;
    return false;
}

static sim_lineage compare_segments(const sim_json *saved, const sim_json *run,
                                    int64_t step)
{
    const size_t n = sim_json_size(saved);
    const sim_json *writer =
        n > 0 ? find_id(run, id_of(sim_json_at(saved, n - 1))) : NULL;

    if (writer && step <= reached_step(writer))
        return SIM_LINEAGE_STEP;
    return shares_segment(saved, run) ? SIM_LINEAGE_RELATED : SIM_LINEAGE_OTHER;
}

sim_lineage sim_checkpoint_lineage(const sim_checkpoint_head *head, const char *of_run)
{
    sim_json *saved = NULL, *run = NULL;
    sim_lineage found = SIM_LINEAGE_OTHER;

    if (sim_json_parse(head->history, strlen(head->history), &saved) == SIM_OK &&
        sim_json_parse(of_run, strlen(of_run), &run) == SIM_OK)
        found = compare_segments(saved, run, head->step);
    sim_error_clear();
    sim_json_destroy(&saved);
    sim_json_destroy(&run);
    return found;
}
