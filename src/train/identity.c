/*
 * identity.c - compares the identity of a checkpoint with that of the job.
 *
 * An identity is lines "key: value".  Keys listed by --accept may differ; every other
 * difference is an error that shows both values and the possible remedies.  A key that the
 * checkpoint lacks, because it was written before the key existed, has the value that its
 * option row states (src/DESIGN.md, "Format policy").
 */
#include "state.h"

#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char sim_accept_keys[] =
    "batch|schedule.epochs|schedule.steps|optimizer.lr|data|arithmetic";

static const char arithmetic[] = "arithmetic"; /* key of the identity */

sim_status sim_identity_text(const sim_train_env *env, char **out)
{
    return sim_text_format("train/identity", out, "%s%s: %s\nfingerprint: %s\n",
                           env->request->texts->identity, arithmetic,
                           env->request->arithmetic,
                           sim_dataset_about(env->data)->fingerprint);
}

/* ---- lines ---- */

typedef struct {
    const char *key, *value; /* value NULL: there is no such line */
    int n_key, n_value;
} line;

/* Reads the line at `text`.  Returns the start of the next, or NULL at the end. */
static const char *read_line(const char *text, line *out)
{
    if (!*text)
        return NULL;
    size_t n = strcspn(text, "\n"), key = strcspn(text, ":\n");
    size_t value = key + 2 < n ? key + 2 : n;
    *out = (line){text, text + value, (int)key, (int)(n - value)};
    return text + n + (text[n] == '\n');
}

static line find_line(const char *text, const line *key)
{
    line l;
    while ((text = read_line(text, &l)) != NULL)
        if (l.n_key == key->n_key && memcmp(l.key, key->key, (size_t)l.n_key) == 0)
            return l;
    return (line){key->key, NULL, key->n_key, 0};
}

static bool same_value(const line *a, const line *b)
{
    return a->value && b->value && a->n_value == b->n_value &&
           memcmp(a->value, b->value, (size_t)a->n_value) == 0;
}

/* ---- differences ---- */

enum { SHORT = 34 }; /* width of a value column */

typedef struct {
    const sim_identity *job;
    sim_changes *changes;
    char table[3072]; /* differences that were not accepted, one line per key */
    size_t used;
    char could[128]; /* the refused keys that --accept may name */
    int n_refused, n_could, n_data;
} verdict;

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && memcmp(p, word, n) == 0)
            return true;
    return false;
}

/* True if --accept permits the difference.  A change between schedule.epochs and
 * schedule.steps is another schedule and is not permitted. */
static bool may_differ(const char *key, const line *saved, const line *ours)
{
    if (!saved->value || !ours->value || sim_choices_find(sim_accept_keys, key) < 0)
        return false;
    bool by_epochs = (saved->n_value == 1 && *saved->value == '0') ||
                     (ours->n_value == 1 && *ours->value == '0');
    return strcmp(key, "schedule.steps") != 0 || !by_epochs;
}

static void note_accepted(sim_changes *c, const char *key, const line *saved,
                          const line *ours)
{
    size_t used = strlen(c->text);
    (void)snprintf(c->text + used, sizeof c->text - used, "%s%s %.*s -> %.*s",
                   used ? ", " : "", key, saved->n_value, saved->value, ours->n_value,
                   ours->value);
    c->any = true;
    if (strcmp(key, "data") == 0)
        c->data = true;
    else if (strcmp(key, "batch") == 0)
        c->batch = strtoll(saved->value, NULL, 10);
    else if (strcmp(key, "schedule.epochs") == 0)
        c->epochs = strtoll(saved->value, NULL, 10);
    else if (strcmp(key, "schedule.steps") == 0)
        c->steps = strtoll(saved->value, NULL, 10);
    else if (strcmp(key, "optimizer.lr") == 0)
        c->lr = strtod(saved->value, NULL);
}

/* Adds a row to the table; long values are printed on separate lines. */
static void add_row(verdict *v, const char *key, const line *saved, const line *ours)
{
    const char *form = saved->n_value > SHORT || ours->n_value > SHORT
                           ? "\n  %s\n    %.*s\n    %.*s"
                           : "\n  %-24s %-34.*s %.*s";
    int n = snprintf(v->table + v->used, sizeof v->table - v->used, form, key,
                     saved->value ? saved->n_value : 1, saved->value ? saved->value : "-",
                     ours->value ? ours->n_value : 1, ours->value ? ours->value : "-");
    v->used += n > 0 ? (size_t)n : 0;
    if (v->used >= sizeof v->table)
        v->used = sizeof v->table - 1;
}

static void note_refused(verdict *v, const char *key, const line *saved, const line *ours)
{
    add_row(v, key, saved, ours);
    v->n_refused++;
    v->n_data += strcmp(key, "data") == 0;
    if (!may_differ(key, saved, ours))
        return;
    size_t used = strlen(v->could);
    (void)snprintf(v->could + used, sizeof v->could - used, "%s%s", used ? "," : "", key);
    v->n_could++;
}

static void compare_line(verdict *v, const line *saved, const line *ours)
{
    char key[128];
    (void)snprintf(key, sizeof key, "%.*s", ours->n_key, ours->key);
    if (strcmp(key, "fingerprint") == 0)
        (void)snprintf(key, sizeof key, "data");
    if (in_list(v->job->accept, key) && may_differ(key, saved, ours))
        note_accepted(v->changes, key, saved, ours);
    else
        note_refused(v, key, saved, ours);
}

/* The arithmetic of checkpoints that were written before it had a version. */
static line add_version(line l)
{
    static const char *const names[][2] = {{"fast", "fast-1"},
                                           {"portable", "portable-1"}};
    const bool is_arithmetic = l.n_key == (int)strlen(arithmetic) &&
                               memcmp(l.key, arithmetic, strlen(arithmetic)) == 0;

    for (size_t i = 0; is_arithmetic && i < sizeof names / sizeof names[0]; i++)
        if (l.n_value == (int)strlen(names[i][0]) &&
            memcmp(l.value, names[i][0], strlen(names[i][0])) == 0)
            return (line){l.key, names[i][1], l.n_key, (int)strlen(names[i][1])};
    return l;
}

/* The line of the checkpoint; if the checkpoint lacks the key, the value that its absence
 * implies, where there is one. */
static line saved_line(const verdict *v, const char *saved, const line *ours)
{
    line l = add_version(find_line(saved, ours));
    if (l.value)
        return l;
    l = find_line(v->job->before, ours);
    return l.n_value > 0 ? l : (line){ours->key, NULL, ours->n_key, 0};
}

static void compare_identities(verdict *v, const char *saved)
{
    line a, b;
    for (const char *p = saved; (p = read_line(p, &a)) != NULL;) {
        a = add_version(a);
        b = find_line(v->job->ours, &a);
        if (!same_value(&a, &b))
            compare_line(v, &a, &b);
    }
    for (const char *p = v->job->ours; (p = read_line(p, &b)) != NULL;) {
        if (find_line(saved, &b).value)
            continue;
        a = saved_line(v, saved, &b);
        if (!same_value(&a, &b))
            compare_line(v, &a, &b);
    }
}

/* ---- keys of a newer version ---- */

static const line method_name = {.key = "method.name", .n_key = 11};

/* True if no option table of this program has the key.  The keys of another method are not
 * in the tables of this job; the difference in method.name is reported instead. */
static bool is_unknown(const sim_identity *job, const char *saved, const line *key)
{
    const line a = find_line(saved, &method_name), b = find_line(job->ours, &method_name);
    const bool is_of_method = key->n_key > 7 && strncmp(key->key, "method.", 7) == 0;

    if (find_line(job->ours, key).value || find_line(job->before, key).value)
        return false;
    return !is_of_method || same_value(&a, &b);
}

static sim_status refuse_unknown_keys(const sim_identity *job, const char *saved,
                                      const char *path)
{
    sim_status st = SIM_OK;
    char keys[512] = "";
    size_t used = 0;
    line l;

    for (const char *p = saved; (p = read_line(p, &l)) != NULL && used < sizeof keys;)
        if (is_unknown(job, saved, &l)) {
            int n = snprintf(keys + used, sizeof keys - used, "%s%.*s: %.*s",
                             used ? ", " : "", l.n_key, l.key, l.n_value, l.value);
            used += n > 0 ? (size_t)n : 0;
        }
    SIM_CHECK(
        !used, SIM_E_CONFIG,
        "%s was written by a version with keys that this program does not have: %s; "
        "resume with that version (`simile inspect` prints it)",
        path, keys);
done:
    return st;
}

/* ---- error messages ---- */

static sim_status report_differences(const verdict *v, const char *path)
{
    sim_status st = SIM_OK;
    char listed[512] = "";

    /* The suggested --accept repeats the keys that are already accepted. */
    (void)snprintf(listed, sizeof listed, "%s%s%s", v->job->accept,
                   *v->job->accept ? "," : "", v->could);
    SIM_CHECK(v->n_data == 0 || v->n_refused > 1, SIM_E_DATA,
              "%s is not the data set of %s:\n  %-24s %-34s %s%s\nRestore "
              "the old data set, data.proportions and data.classes, or add  --accept %s  "
              "to the command to resume with the new one",
              v->job->data_path, path, "differs", "in the checkpoint", "in this job",
              v->table, listed);
    if (v->n_could == v->n_refused)
        SIM_FAIL(SIM_E_CONFIG,
                 "%s is of another run:\n  %-24s %-34s %s%s\nAdd  --accept %s  to the "
                 "command to resume with the change, restore the old values, or use "
                 "another run directory",
                 path, "differs", "in the checkpoint", "in this job", v->table, listed);
    SIM_FAIL(SIM_E_CONFIG,
             "%s is of another run:\n  %-24s %-34s %s%s\nRestore the old values, or use "
             "another run directory%s%s%s",
             path, "differs", "in the checkpoint", "in this job", v->table,
             v->n_could ? "; of these only " : "", v->n_could ? v->could : "",
             v->n_could ? " could be accepted (--accept)" : "");
done:
    return st;
}

sim_status sim_identity_compare(const sim_identity *job, const char *saved,
                                const char *path, sim_changes *out)
{
    sim_status st = SIM_OK;
    verdict *v = NULL;

    SIM_TRY(refuse_unknown_keys(job, saved, path));
    SIM_TRY(sim_new(&v, "train/identity"));
    v->job = job;
    v->changes = out;
    compare_identities(v, saved);
    if (v->n_refused)
        SIM_TRY(report_differences(v, path));
done:
    sim_free(v);
    return st;
}
