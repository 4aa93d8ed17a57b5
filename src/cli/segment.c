/*
 * segment.c - reads a segment of a run from its JSON object.
 */
#include "segment.h"

run_segment sim_segment_read(const sim_json *j)
{
    run_segment s = {.start = "?", .ended = "?", .changed = "", .job = "", .host = "?"};
    sim_json *hosts = NULL;

    (void)sim_json_get_text(j, "start", &s.start);
    (void)sim_json_get_text(j, "ended", &s.ended);
    (void)sim_json_get_text(j, "changed", &s.changed);
    (void)sim_json_get_text(j, "job", &s.job);
    (void)sim_json_get_int(j, "restart", &s.restart);
    (void)sim_json_get_int(j, "nodes", &s.nodes);
    (void)sim_json_get_int(j, "ranks", &s.ranks);
    (void)sim_json_get_int(j, "threads", &s.threads);
    (void)sim_json_get_int(j, "batch", &s.batch);
    (void)sim_json_get_int(j, "from_step", &s.from);
    (void)sim_json_get_int(j, "to_step", &s.to);
    (void)sim_json_get_int(j, "last_step", &s.last);
    (void)sim_json_get_real(j, "images_per_s", &s.images_per_s);
    if (sim_json_get_object(j, "hosts", &hosts) && sim_json_size(hosts) > 0)
        s.host = sim_json_text_at(hosts, 0);
    return s;
}
