/*
 * sidecars.c - labels and groups in files beside the photos of an archive, as in WebDataset.
 */
#include "sidecars.h"

#include "simile/json.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CLS_BYTES = 256, JSON_BYTES = 1 << 20 };

/* ---- one file ---- */

/* The key of a name: the path up to the first dot of the last component. */
static void key_of(const char *name, char out[PATH_MAX])
{
    const char *base = sim_prep_base_name(name);
    size_t n = (size_t)(base - name) + strcspn(base, ".");
    while (strncmp(name, "./", 2) == 0) {
        name += 2;
        n -= 2;
    }
    (void)snprintf(out, PATH_MAX, "%.*s", (int)n, name);
}

bool sim_prep_is_sidecar(const prep_entry *e)
{
    if (e->is_link)
        return false;
    return sim_text_ends_with(e->name, ".cls")
               ? e->n_bytes <= CLS_BYTES
               : sim_text_ends_with(e->name, ".json") && e->n_bytes <= JSON_BYTES;
}

/* The entry of a name; a new one has no texts. */
static sim_status find_key(prep_sidecars *s, const char *name, prep_sidecar **out)
{
    sim_status st = SIM_OK;
    char key[PATH_MAX];
    const size_t n = s->keys.names.n;
    uint32_t number = 0;

    key_of(name, key);
    SIM_TRY(sim_prep_set_add(&s->keys, key, &number));
    if (number >= s->capacity) {
        s->capacity = 2 * s->capacity + 1024;
        SIM_TRY(sim_grow(&s->of_key, s->capacity, "prep/sidecars"));
    }
    if (number == n)
        s->of_key[number] = (prep_sidecar){PREP_NO_TEXT, PREP_NO_TEXT, PREP_NO_TEXT};
    *out = &s->of_key[number];
done:
    return st;
}

static sim_status add_text(prep_sidecars *s, const char *text, uint32_t *out)
{
    *out = (uint32_t)s->texts.n;
    return sim_prep_names_add(&s->texts, text);
}

/* ---- .cls ---- */

static bool is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    return n > 0;
}

static sim_status add_cls(prep_sidecars *s, const char *archive, const char *name,
                          char *text, size_t n)
{
    sim_status st = SIM_OK;
    prep_sidecar *of = NULL;

    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    SIM_CHECK(is_plain(text, n), SIM_E_DATA,
              "%s: %s contains no label, expected one line with a number or a name",
              archive, name);
    text[n] = '\0';
    SIM_TRY(find_key(s, name, &of));
    SIM_TRY(add_text(s, text, &of->cls));
done:
    return st;
}

/* ---- .json ---- */

/* The number or text of a key; false if it is absent, empty or of another type. */
static bool read_member(const sim_json *j, const char *key, char out[CLS_BYTES])
{
    const char *text = NULL;
    int64_t number = 0;

    if (sim_json_get_text(j, key, &text))
        return snprintf(out, CLS_BYTES, "%s", text) > 0;
    return sim_json_get_int(j, key, &number) &&
           snprintf(out, CLS_BYTES, "%" PRId64, number) > 0;
}

static bool read_label(const sim_json *j, const prep_options *o, char out[CLS_BYTES])
{
    static const char *const known[] = {"label", "cls", "class"};
    bool found = false;

    if (o->labels_key)
        return read_member(j, o->labels_key, out);
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !found; i++)
        found = read_member(j, known[i], out);
    return found;
}

static sim_status add_members(prep_sidecars *s, const char *name, const sim_json *j,
                              const prep_options *o, bool *is_used)
{
    sim_status st = SIM_OK;
    char label[CLS_BYTES], group[CLS_BYTES];
    const bool has_label = read_label(j, o, label);
    const bool has_group = read_member(j, o->groups_key ? o->groups_key : "group", group);
    prep_sidecar *of = NULL;

    *is_used = has_label || has_group;
    if (!*is_used)
        goto done;
    SIM_TRY(find_key(s, name, &of));
    if (has_label)
        SIM_TRY(add_text(s, label, &of->label));
    if (has_group)
        SIM_TRY(add_text(s, group, &of->group));
done:
    return st;
}

/* An invalid file is an ordinary file, unless bad files are an error. */
static sim_status skip_invalid(prep_sidecars *s, const char *archive, const char *name,
                               const prep_options *o)
{
    sim_status st = SIM_OK;
    const char *why = sim_error_message();

    SIM_CHECK(!o->fail_on_bad, SIM_E_DATA, "%s: %s: %s", archive, name,
              *why ? why : "expected a JSON object");
    if (s->n_invalid++ == 0)
        (void)snprintf(s->first_invalid, sizeof s->first_invalid, "%.120s: %.120s", name,
                       *why ? why : "expected a JSON object");
    sim_error_clear();
done:
    return st;
}

static sim_status add_json(prep_sidecars *s, const char *archive, const char *name,
                           const char *text, size_t n, const prep_options *o,
                           bool *is_used)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    *is_used = false;
    if (sim_json_parse(text, n, &j) != SIM_OK || sim_json_is_array(j))
        SIM_TRY(skip_invalid(s, archive, name, o));
    else
        SIM_TRY(add_members(s, name, j, o, is_used));
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_prep_sidecars_add(prep_sidecars *s, prep_tar *t, const prep_entry *e,
                                 const char *archive, const prep_options *options,
                                 bool *is_used)
{
    sim_status st = SIM_OK;
    uint8_t *bytes = NULL;
    char *text = NULL;
    size_t n = 0;

    *is_used = true;
    SIM_TRY(sim_prep_tar_load(t, JSON_BYTES, &bytes, &n));
    SIM_TRY(sim_alloc(&text, n + 1, "prep/sidecars"));
    memcpy(text, bytes, n);
    if (sim_text_ends_with(e->name, ".cls"))
        SIM_TRY(add_cls(s, archive, e->name, text, n));
    else
        SIM_TRY(add_json(s, archive, e->name, text, n, options, is_used));
done:
    sim_free(bytes);
    sim_free(text);
    return st;
}

/* ---- the items ---- */

/* What the files beside an item say; no texts if it has none. */
static sim_status find_item(prep_sidecars *s, const prep_tree *tree, size_t item,
                            prep_sidecar *out)
{
    sim_status st = SIM_OK;
    prep_sidecar *of = NULL;

    SIM_TRY(find_key(s, sim_prep_names_get(&tree->paths, tree->item[item]), &of));
    *out = *of;
done:
    return st;
}

/* The label that counts: of a .json file if the user named its key, otherwise of the .cls file
 * first. */
static uint32_t label_of(const prep_sidecar *of, const prep_options *o)
{
    return o->labels_key || of->cls == PREP_NO_TEXT ? of->label : of->cls;
}

/* Items with a label and with a group. */
typedef struct {
    size_t n_labels, n_groups;
} item_counts;

static sim_status count_items(prep_sidecars *s, const prep_tree *tree,
                              const prep_options *o, size_t n, item_counts *out)
{
    sim_status st = SIM_OK;
    prep_sidecar of;

    *out = (item_counts){0};
    for (size_t i = 0; s->texts.n > 0 && i < n; i++) {
        SIM_TRY(find_item(s, tree, i, &of));
        out->n_labels += label_of(&of, o) != PREP_NO_TEXT;
        out->n_groups += of.group != PREP_NO_TEXT;
    }
done:
    return st;
}

static void drop_classes(prep_source *out)
{
    SIM_FREE(out->labels);
    sim_prep_free_lines(out->class_names, out->class_names ? out->n_classes : 0);
    out->class_names = NULL;
    out->n_classes = 0;
}

static bool is_none(const char *key)
{
    return key && strcmp(key, "none") == 0;
}

/* Whether the labels of the files are those of the items; reports why they are not. */
static sim_status choose_labels(const prep_sidecars *s, const item_counts *counts,
                                const char *archive, const prep_options *o,
                                const prep_source *out, bool *use)
{
    sim_status st = SIM_OK;
    const size_t n = counts->n_labels;

    *use = n > 0 && (!out->labels || n == out->n_items || o->labels_key);
    SIM_CHECK(n > 0 || !o->labels_key || is_none(o->labels_key), SIM_E_DATA,
              "%s: no photo has a .json file with the key \"%s\" (--labels-key)", archive,
              o->labels_key);
    if (*use && out->labels)
        sim_log("the labels are those of the .cls or .json files, not the directories");
    else if (!*use && n > 0)
        sim_log_warn("the .cls or .json files of %zu of %zu photos are not used, because "
                     "directories are the classes",
                     n, out->n_items);
    else if (!*use && s->texts.n > 0 && !out->labels && counts->n_groups == 0)
        sim_log_warn("no selected photo has a .cls or .json file; the data set has no "
                     "labels");
done:
    return st;
}

/* Labels of the items; those without one are excluded. */
static sim_status apply_labels(prep_sidecars *s, prep_tree *tree, const char *archive,
                               const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_names labels = {0};
    prep_sidecar of;
    size_t n_without = 0;

    drop_classes(out);
    for (size_t i = 0; i < out->n_items; i++) {
        SIM_TRY(find_item(s, tree, i, &of));
        const uint32_t label = label_of(&of, o);
        if (label == PREP_NO_TEXT) {
            n_without++;
            continue;
        }
        tree->item[labels.n] = tree->item[i];
        SIM_TRY(sim_prep_names_add(&labels, sim_prep_names_get(&s->texts, label)));
    }
    out->n_items = labels.n;
    out->n_excluded += n_without;
    if (n_without)
        sim_log_warn("%zu photos without a .cls or .json file with a label are excluded",
                     n_without);
    SIM_TRY(sim_prep_set_texts(archive, &labels, out));
done:
    sim_prep_names_clear(&labels);
    return st;
}

static sim_status apply_groups(prep_sidecars *s, const prep_tree *tree,
                               const char *archive, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_names groups = {0};
    prep_sidecar of;

    for (size_t i = 0; i < out->n_items; i++) {
        SIM_TRY(find_item(s, tree, i, &of));
        SIM_TRY(sim_prep_names_add(
            &groups,
            of.group == PREP_NO_TEXT ? "" : sim_prep_names_get(&s->texts, of.group)));
    }
    SIM_TRY(sim_prep_set_groups(archive, &groups, out));
done:
    sim_prep_names_clear(&groups);
    return st;
}

sim_status sim_prep_sidecars_apply(prep_sidecars *s, prep_tree *tree, const char *archive,
                                   const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    item_counts counts;
    bool use = false;

    if (s->n_invalid)
        sim_log_warn("%zu .json files are not used: %s", s->n_invalid, s->first_invalid);
    SIM_TRY(count_items(s, tree, o, out->n_items, &counts));
    SIM_CHECK(counts.n_groups > 0 || !o->groups_key, SIM_E_DATA,
              "%s: no photo has a .json file with the key \"%s\" (--groups-key)", archive,
              o->groups_key);
    SIM_TRY(choose_labels(s, &counts, archive, o, out, &use));
    if (is_none(o->labels_key))
        drop_classes(out);
    else if (use)
        SIM_TRY(apply_labels(s, tree, archive, o, out));
    if (counts.n_groups)
        SIM_TRY(apply_groups(s, tree, archive, out));
done:
    return st;
}

void sim_prep_sidecars_clear(prep_sidecars *s)
{
    sim_prep_set_clear(&s->keys);
    sim_prep_names_clear(&s->texts);
    sim_free(s->of_key);
    *s = (prep_sidecars){0};
}
