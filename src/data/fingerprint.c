/*
 * fingerprint.c - the fingerprint of a data set: a hash of everything that is read from it.
 *
 * Version 1 covered digests of images and labels only; version 3 adds the type of the samples and the
 * scale of their channels.
 */
#include "fingerprint.h"

#include <string.h>

static size_t channels_of(const fingerprint_parts *p)
{
    return p->encoded ? 3 : p->c;
}

/* Everything but labels and digests, in the order of src/DESIGN.md. */
static void add_description(sim_hasher *h, const fingerprint_parts *p)
{
    const uint64_t numbers[] = {2, p->encoded, p->n, p->h, p->w, p->c};
    const double range[] = {p->range.lo, p->range.hi};

    sim_hasher_add(h, numbers, sizeof numbers);
    sim_hasher_add(h, p->mean, channels_of(p) * sizeof *p->mean);
    sim_hasher_add(h, p->std, channels_of(p) * sizeof *p->std);
    sim_hasher_add(h, range, sizeof range);
    sim_hasher_add(h, &p->classes, sizeof p->classes);
}

/* The numbers, then every name with a zero behind it. */
sim_status sim_fingerprint_groups(const int32_t *groups, size_t n, const char *names,
                                  size_t n_names, size_t width, sim_hash *out)
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;
    const char end = '\0';

    SIM_TRY(sim_hasher_create(&h));
    sim_hasher_add(h, groups, n * sizeof *groups);
    for (size_t g = 0; names && g < n_names; g++) {
        sim_hasher_add(h, names + g * width, strnlen(names + g * width, width));
        sim_hasher_add(h, &end, 1);
    }
    *out = sim_hasher_value(h);
done:
    sim_hasher_destroy(&h);
    return st;
}

/* What version 3 adds: the groups, the type of the samples and the scale of their channels. */
static void add_version_3(sim_hasher *h, const fingerprint_parts *p)
{
    const char *type = sim_type_name(p->type);

    sim_hasher_add(h, &p->groups, sizeof p->groups);
    sim_hasher_add(h, type, strlen(type));
    if (p->type != SIM_U8)
        sim_hasher_add(h, p->scale, p->c * sizeof *p->scale);
}

int64_t sim_fingerprint_version(const fingerprint_parts *p)
{
    const bool has_groups = p->groups.low || p->groups.high;
    return p->type == SIM_U8 && !has_groups ? 2 : 3;
}

sim_status sim_fingerprint(const fingerprint_parts *p, int64_t version, char out[33])
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;

    SIM_TRY(sim_hasher_create(&h));
    if (version >= 2)
        add_description(h, p);
    if (version >= 3)
        add_version_3(h, p);
    sim_hasher_add(h, p->digests, p->n * 2 * sizeof *p->digests);
    if (p->labels)
        sim_hasher_add(h, p->labels, p->n * sizeof *p->labels);
    sim_hash_hex(sim_hasher_value(h), out);
done:
    sim_hasher_destroy(&h);
    return st;
}
