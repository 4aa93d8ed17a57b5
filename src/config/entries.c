/*
 * entries.c - the values of a job by dotted key, and the keys of filled tables.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

sim_status sim_config_add(sim_config *c, const char *key, const char *text, bool quoted,
                          bool empty_list, const char *where)
{
    sim_status st = SIM_OK;
    entry e = {.quoted = quoted, .empty_list = empty_list};

    SIM_CHECK(c->n_entries < MAX_ENTRIES, SIM_E_CONFIG,
              "%s: the job has more than %d values", where, MAX_ENTRIES);
    (void)snprintf(e.where, sizeof e.where, "%s", where);
    SIM_TRY(sim_text_copy(key, "config/entries", &e.key));
    SIM_TRY(sim_text_copy(text, "config/entries", &e.text));
    c->entries[c->n_entries++] = e;
    e = (entry){0};
done:
    sim_free(e.key);
    sim_free(e.text);
    return st;
}

entry *sim_config_find(const sim_config *c, const char *key)
{
    for (size_t i = 0; i < c->n_entries; i++)
        if (strcmp(c->entries[i].key, key) == 0)
            return &c->entries[i];
    return NULL;
}

bool sim_config_is_below(const char *key, const char *above)
{
    size_t n = strlen(above);
    return strncmp(key, above, n) == 0 && key[n] == '.';
}

entry *sim_config_find_below(const sim_config *c, const char *key)
{
    for (size_t i = 0; i < c->n_entries; i++)
        if (sim_config_is_below(c->entries[i].key, key))
            return &c->entries[i];
    return NULL;
}

bool sim_config_drop(sim_config *c, const char *key)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n_entries; i++) {
        entry *e = &c->entries[i];
        if (strcmp(e->key, key) == 0 || sim_config_is_below(e->key, key)) {
            sim_free(e->key);
            sim_free(e->text);
        } else {
            c->entries[kept++] = *e;
        }
    }
    bool any = kept < c->n_entries;
    c->n_entries = kept;
    return any;
}

sim_status sim_config_add_known(sim_config *c, const char *key, const char *text,
                                const char *before, const sim_option *row, bool given)
{
    sim_status st = SIM_OK;
    known k = {
        .kind = row->kind, .is_list = row->type == SIM_OPTION_ITEMS, .given = given};

    SIM_CHECK(c->n_known < MAX_KNOWN, SIM_E_BUG, "more than %d keys", MAX_KNOWN);
    for (size_t i = 0; i < c->n_known; i++)
        SIM_CHECK(strcmp(c->known[i].key, key) != 0, SIM_E_BUG, "two tables contain %s",
                  key);
    SIM_TRY(sim_text_copy(key, "config/known", &k.key));
    SIM_TRY(sim_text_copy(text, "config/known", &k.text));
    if (before)
        SIM_TRY(sim_text_copy(before, "config/known", &k.before));
    c->known[c->n_known++] = k;
    k = (known){0};
done:
    sim_free(k.key);
    sim_free(k.text);
    sim_free(k.before);
    return st;
}

void sim_config_full_key(const char *section, const char *name, char out[KEY_BYTES])
{
    (void)snprintf(out, KEY_BYTES, "%s%s%s", section, *section ? "." : "", name);
}
