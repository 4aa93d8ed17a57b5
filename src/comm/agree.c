/*
 * agree.c - one outcome for all ranks: the lowest failing rank's code and story.
 */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int code;
    char story[4096];
} verdict;

static bool begins_with_rank(const char *text)
{
    static const char begin[] = "rank ";
    char *end = NULL;
    if (strncmp(text, begin, strlen(begin)) != 0)
        return false;
    const char *digits = text + strlen(begin);
    (void)strtol(digits, &end, 10);
    return end != digits && strncmp(end, " on ", 4) == 0;
}

/* Does the story name its rank already, having been agreed upon before?  A file may have been
 * put in front of it since: "z.h5: rank 2 on node1: ...". */
static bool is_named(const char *story)
{
    bool named = begins_with_rank(story);
    for (const char *at = strstr(story, ": "); at && !named; at = strstr(at + 2, ": "))
        named = begins_with_rank(at + 2);
    return named;
}

static verdict tell(const sim_comm *c, sim_status mine)
{
    verdict v = {.code = (int)mine};
    const char *story = sim_error_message();
    if (mine == SIM_E_AGAIN || is_named(story)) /* all stop alike: no rank's own story */
        (void)snprintf(v.story, sizeof v.story, "%s", story);
    else
        (void)snprintf(v.story, sizeof v.story, "rank %d on %s: %s", c->rank, c->host,
                       story);
    return v;
}

sim_status sim_comm_agree(const sim_comm *c, sim_status mine)
{
    int candidate = mine == SIM_OK ? c->size : c->rank, lowest = 0;
    verdict v = {.code = SIM_OK};

    if (c->size == 1)
        return mine;
    double entered = sim_comm_enter();
    size_t sent = sizeof candidate;
    MPI_Allreduce(&candidate, &lowest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (lowest < c->size) {
        if (c->rank == lowest)
            v = tell(c, mine);
        MPI_Bcast(&v, (int)sizeof v, MPI_BYTE, lowest, MPI_COMM_WORLD);
        sim_error_set(v.story);
        sent += c->rank == lowest ? sizeof v : 0;
    }
    sim_comm_leave(entered, sent);
    return (sim_status)v.code;
}
