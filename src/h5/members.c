/*
 * members.c - lists what a file contains, readable or not, and follows its soft links.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_MEMBERS = 1000, NAME = 512, MAX_LINKS = 8 };

/* ---- soft links ---- */

/* Replaces the last component of `name` by the target of the soft link. */
static bool follow_link(const sim_h5 *f, char *name, size_t name_bytes, size_t n_target)
{
    char target[NAME] = "";
    char *slash = strrchr(name, '/');
    size_t parent = 0;

    if (n_target > sizeof target ||
        H5Lget_val(f->file, name, target, sizeof target, H5P_DEFAULT) < 0)
        return false;
    target[sizeof target - 1] = '\0';
    if (target[0] != '/' && slash)
        parent = (size_t)(slash + 1 - name);
    if (parent + strlen(target) + 1 > name_bytes)
        return false;
    memcpy(name + parent, target, strlen(target) + 1);
    return true;
}

bool sim_h5_resolve(const sim_h5 *f, char *name, size_t name_bytes)
{
    H5L_info_t info;

    for (int i = 0; i < MAX_LINKS && !sim_h5_has(f, name); i++) {
        bool soft = H5Lexists(f->file, name, H5P_DEFAULT) > 0 &&
                    H5Lget_info(f->file, name, &info, H5P_DEFAULT) >= 0 &&
                    info.type == H5L_TYPE_SOFT;
        if (!soft || !follow_link(f, name, name_bytes, info.u.val_size))
            break;
    }
    (void)H5Eclear2(H5E_DEFAULT);
    return sim_h5_has(f, name);
}

/* ---- listing ---- */

typedef struct {
    const sim_h5 *file;
    void (*member)(void *ctx, const char *path, const char *problem);
    void *ctx;
    size_t n;
    char problem[200]; /* of the member that is reported */
} listing;

static void list_group(listing *l, const char *group, int depth);

/* The message of a data set that cannot be read, without file and name. */
static const char *find_problem(listing *l, const char *path)
{
    sim_h5_shape shape;

    if (sim_h5_is_strings(l->file, path) ||
        sim_h5_shape_of(l->file, path, &shape) == SIM_OK)
        return "";
    const char *message = sim_error_message(), *at = strstr(message, path);
    (void)snprintf(l->problem, sizeof l->problem, "%s", at ? at + strlen(path) : message);
    sim_error_clear();
    return l->problem + strspn(l->problem, ": ");
}

static void list_member(listing *l, const char *path, int depth)
{
    H5O_info_t info;

    l->n++;
    if (!sim_h5_has(l->file, path))
        l->member(l->ctx, path, "a link");
    else if (H5Oget_info_by_name(l->file->file, path, &info, H5P_DEFAULT) < 0)
        l->member(l->ctx, path, "unreadable");
    else if (info.type == H5O_TYPE_GROUP)
        list_group(l, path, depth + 1);
    else
        l->member(l->ctx, path, find_problem(l, path));
}

static void list_group(listing *l, const char *group, int depth)
{
    H5G_info_t info;
    char path[NAME];
    hid_t g = H5Gopen2(l->file->file, group, H5P_DEFAULT);
    size_t used = strcmp(group, "/") == 0 ? 0 : strlen(group);

    if (g < 0 || depth > MAX_DEPTH || used + 2 >= sizeof path ||
        H5Gget_info(g, &info) < 0)
        goto done;
    memcpy(path, group, used);
    path[used] = '/';
    for (hsize_t i = 0; i < info.nlinks && l->n < MAX_MEMBERS; i++) {
        ssize_t n =
            H5Lget_name_by_idx(g, ".", H5_INDEX_NAME, H5_ITER_INC, i, path + used + 1,
                               sizeof path - used - 1, H5P_DEFAULT);
        if (n > 0 && (size_t)n < sizeof path - used - 1)
            list_member(l, path, depth);
    }
done:
    if (g >= 0)
        (void)H5Gclose(g);
    (void)H5Eclear2(H5E_DEFAULT);
}

void sim_h5_list(const sim_h5 *f,
                 void (*member)(void *ctx, const char *path, const char *problem),
                 void *ctx)
{
    listing l = {.file = f, .member = member, .ctx = ctx};
    list_group(&l, "/", 0);
}
