/*
 * members.c - lists what a file contains, readable or not, and follows its soft links.
 */
#include "private.h"

#include "simile/log.h"

#include <stdio.h>
#include <string.h>

/* Groups may share members, so the number of paths is bounded. */
enum { MAX_DEPTH = 16, MAX_MEMBERS = 1 << 16, NAME = 512, MAX_LINKS = 8 };

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

/* ---- names ---- */

typedef struct {
    sim_status (*name)(void *ctx, const char *name);
    void *ctx;
    sim_status status;
} name_call;

static herr_t call_name(hid_t group, const char *name, const H5L_info_t *info, void *ctx)
{
    name_call *c = ctx;
    (void)group;
    (void)info;
    c->status = c->name(c->ctx, name);
    return c->status != SIM_OK; /* positive: ends the iteration */
}

sim_status sim_h5_each_name(const sim_h5 *f, const char *group,
                            sim_status (*name)(void *ctx, const char *name), void *ctx)
{
    sim_status st = SIM_OK;
    name_call call = {name, ctx, SIM_OK};
    hid_t g = H5Gopen2(f->file, group, H5P_DEFAULT);

    SIM_CHECK(g >= 0 &&
                  H5Literate(g, H5_INDEX_NAME, H5_ITER_INC, NULL, call_name, &call) >= 0,
              SIM_E_DATA, "%s: the group %s cannot be listed", f->name, group);
    SIM_TRY(call.status);
done:
    if (g >= 0)
        (void)H5Gclose(g);
    return st;
}

/* ---- listing ---- */

typedef struct {
    const sim_h5 *file;
    void (*member)(void *ctx, const char *path, const char *problem);
    void *ctx;
    size_t n;
    char problem[200]; /* of the member that is reported */
} listing;

/* A group that is being listed, and the group that contains it. */
typedef struct listed_group {
    listing *l;
    const char *path;
    haddr_t address;
    const struct listed_group *parent;
    int depth;
} listed_group;

static void list_group(listed_group *g);

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

/* Hard links may make a group a member of itself. */
static bool is_open(const listed_group *g, haddr_t address)
{
    for (; g; g = g->parent)
        if (g->address == address)
            return true;
    return false;
}

static void list_member(listed_group *g, const char *path)
{
    listing *l = g->l;
    H5O_info_t info;

    l->n++;
    if (!sim_h5_has(l->file, path)) {
        l->member(l->ctx, path, "a link");
    } else if (H5Oget_info_by_name(l->file->file, path, &info, H5P_DEFAULT) < 0) {
        l->member(l->ctx, path, "unreadable");
    } else if (info.type != H5O_TYPE_GROUP) {
        l->member(l->ctx, path, find_problem(l, path));
    } else if (!is_open(g, info.addr)) {
        listed_group inner = {l, path, info.addr, g, g->depth + 1};
        list_group(&inner);
    }
}

static sim_status list_name(void *ctx, const char *name)
{
    listed_group *g = ctx;
    char path[NAME];

    if (g->l->n >= MAX_MEMBERS)
        return SIM_E_AGAIN; /* ends the listing */
    const char *parent = strcmp(g->path, "/") == 0 ? "" : g->path;
    const int n = snprintf(path, sizeof path, "%s/%s", parent, name);
    if (n > 0 && (size_t)n < sizeof path)
        list_member(g, path);
    return SIM_OK;
}

static void list_group(listed_group *g)
{
    if (g->depth <= MAX_DEPTH)
        SIM_IGNORE(sim_h5_each_name(g->l->file, g->path, list_name, g));
    sim_error_clear();
    (void)H5Eclear2(H5E_DEFAULT);
}

void sim_h5_list(const sim_h5 *f,
                 void (*member)(void *ctx, const char *path, const char *problem),
                 void *ctx)
{
    listing l = {.file = f, .member = member, .ctx = ctx};

    listed_group root = {&l, "/", HADDR_UNDEF, NULL, 0};
    H5O_info_t info;
    if (H5Oget_info_by_name(f->file, "/", &info, H5P_DEFAULT) >= 0)
        root.address = info.addr;
    list_group(&root);
    if (l.n >= MAX_MEMBERS)
        sim_log_warn("%s: only the first %d members are examined; name the data set",
                     f->name, MAX_MEMBERS);
}
