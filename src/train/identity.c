/*
 * identity.c - compares the identity of a checkpoint with that of the job.
 *
 * An identity is lines "key: value".  Keys listed by --accept may differ; every other
 * difference is an error that shows both values and what to type.
 */
#include "state.h"

#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char sim_accept_keys[] = "batch|schedule.epochs|schedule.steps|optimizer.lr|data";

/* The job's identity, with the fingerprint of the data and the arithmetic. */
sim_status sim_identity_text(const sim_train_state *t, char **out)
{
    return sim_text_format("train/identity", out, "%sarithmetic: %s\nfingerprint: %s\n",
                           t->request->identity, t->request->arithmetic,
                           sim_dataset_about(t->data)->fingerprint);
}

/* ---- lines ---- */

typedef struct {
    const char *key, *value; /* value NULL: there is no such line */
    int n_key, n_value;
} line;

/* The line at `text`; the next one's place, or NULL at the end. */
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

/* ---- what differs ---- */

enum { SHORT = 34 }; /* width of a value column */

typedef struct {
    const char *accept; /* the user's list */
    sim_changes *changes;
    char table[3072]; /* differences that were not accepted, one line per key */
    size_t used;
    char could[128]; /* those that --accept may name */
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

/* May these two differ at all?  From epochs to steps is another schedule. */
static bool may_differ(const char *key, const line *theirs, const line *mine)
{
    if (!theirs->value || !mine->value || sim_choices_find(sim_accept_keys, key) < 0)
        return false;
    bool by_epochs = (theirs->n_value == 1 && *theirs->value == '0') ||
                     (mine->n_value == 1 && *mine->value == '0');
    return strcmp(key, "schedule.steps") != 0 || !by_epochs;
}

static void note_accepted(sim_changes *c, const char *key, const line *theirs,
                          const line *mine)
{
    size_t used = strlen(c->text);
    (void)snprintf(c->text + used, sizeof c->text - used, "%s%s %.*s -> %.*s",
                   used ? ", " : "", key, theirs->n_value, theirs->value, mine->n_value,
                   mine->value);
    c->any = true;
    if (strcmp(key, "data") == 0)
        c->data = true;
    else if (strcmp(key, "batch") == 0)
        c->batch = strtoll(theirs->value, NULL, 10);
    else if (strcmp(key, "optimizer.lr") == 0)
        c->lr = strtod(theirs->value, NULL);
}

/* A row of the table; long values go on lines of their own. */
static void add_row(verdict *v, const char *key, const line *theirs, const line *mine)
{
    const char *form = theirs->n_value > SHORT || mine->n_value > SHORT
                           ? "\n  %s\n    %.*s\n    %.*s"
                           : "\n  %-24s %-34.*s %.*s";
    int n =
        snprintf(v->table + v->used, sizeof v->table - v->used, form, key,
                 theirs->value ? theirs->n_value : 1, theirs->value ? theirs->value : "-",
                 mine->value ? mine->n_value : 1, mine->value ? mine->value : "-");
    v->used += n > 0 ? (size_t)n : 0;
    if (v->used >= sizeof v->table)
        v->used = sizeof v->table - 1;
}

static void note_refused(verdict *v, const char *key, const line *theirs,
                         const line *mine)
{
    add_row(v, key, theirs, mine);
    v->n_refused++;
    v->n_data += strcmp(key, "data") == 0;
    if (!may_differ(key, theirs, mine))
        return;
    size_t used = strlen(v->could);
    (void)snprintf(v->could + used, sizeof v->could - used, "%s%s", used ? "," : "", key);
    v->n_could++;
}

static void compare_line(verdict *v, const line *theirs, const line *mine)
{
    char key[128];
    (void)snprintf(key, sizeof key, "%.*s", mine->n_key, mine->key);
    if (strcmp(key, "fingerprint") == 0)
        (void)snprintf(key, sizeof key, "data");
    if (in_list(v->accept, key) && may_differ(key, theirs, mine))
        note_accepted(v->changes, key, theirs, mine);
    else
        note_refused(v, key, theirs, mine);
}

static void compare_identities(verdict *v, const char *theirs, const char *mine)
{
    line a, b;
    for (const char *p = theirs; (p = read_line(p, &a)) != NULL;) {
        b = find_line(mine, &a);
        if (!same_value(&a, &b))
            compare_line(v, &a, &b);
    }
    for (const char *p = mine; (p = read_line(p, &b)) != NULL;) {
        a = find_line(theirs, &b);
        if (!a.value)
            compare_line(v, &a, &b);
    }
}

/* ---- error messages ---- */

static sim_status report_differences(const verdict *v, const sim_train_state *t,
                                     const char *path)
{
    sim_status st = SIM_OK;
    char listed[512] = "";

    /* What was accepted stays in the command that the user has to type. */
    (void)snprintf(listed, sizeof listed, "%s%s%s", v->accept, *v->accept ? "," : "",
                   v->could);
    SIM_CHECK(v->n_data == 0 || v->n_refused > 1, SIM_E_DATA,
              "%s is not the data set of %s:\n  %-24s %-34s %s%s\nPut "
              "the old data set back, or add  --accept %s  to the command to resume with "
              "the new one",
              t->job->train.train, path, "differs", "in the checkpoint", "in this job",
              v->table, listed);
    if (v->n_could == v->n_refused)
        SIM_FAIL(SIM_E_CONFIG,
                 "%s is of another run:\n  %-24s %-34s %s%s\nAdd  --accept %s  to the "
                 "command to resume with the change, put the old values back, or use "
                 "another run directory",
                 path, "differs", "in the checkpoint", "in this job", v->table, listed);
    SIM_FAIL(SIM_E_CONFIG,
             "%s is of another run:\n  %-24s %-34s %s%s\nPut the old values back, or use "
             "another run directory%s%s%s",
             path, "differs", "in the checkpoint", "in this job", v->table,
             v->n_could ? "; of these only " : "", v->n_could ? v->could : "",
             v->n_could ? " could be accepted (--accept)" : "");
done:
    return st;
}

sim_status sim_identity_compare(const sim_train_state *t, const sim_checkpoint *k,
                                sim_changes *out)
{
    sim_status st = SIM_OK;
    char *mine = NULL;
    verdict *v = NULL;

    *out = (sim_changes){.batch = t->job->train.batch, .lr = t->job->optimizer.lr};
    SIM_TRY(sim_identity_text(t, &mine));
    SIM_TRY(sim_new(&v, "train/identity"));
    v->accept = t->request->accept ? t->request->accept : "";
    v->changes = out;
    compare_identities(v, sim_checkpoint_head_of(k)->identity, mine);
    if (v->n_refused)
        SIM_TRY(report_differences(v, t, sim_checkpoint_path(k)));
done:
    sim_free(mine);
    sim_free(v);
    return st;
}
