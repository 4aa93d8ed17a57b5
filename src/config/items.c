/*
 * items.c - lists of operations: a sequence of mappings, each with `op`.
 *
 * `op` selects the option table of the item; a word alone is short for {op: word}.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

/* "op|KEY|...": the keys of an item. */
static void list_item_keys(const sim_option_table *table, char *out, size_t out_bytes)
{
    size_t used = (size_t)snprintf(out, out_bytes, "op");
    for (size_t r = 0; r < table->n_rows && used < out_bytes; r++)
        used +=
            (size_t)snprintf(out + used, out_bytes - used, "|%s", table->rows[r].name);
}

/* Refuses keys below "list.i" that are not in the item's table. */
static sim_status check_item_keys(sim_config *c, const char *item,
                                  const sim_option_table *table)
{
    sim_status st = SIM_OK;
    size_t n = strlen(item);
    char keys[512], suggestion[96];

    list_item_keys(table, keys, sizeof keys);
    for (size_t i = 0; i < c->n_entries; i++) {
        const entry *e = &c->entries[i];
        if (e->used || strncmp(e->key, item, n) != 0 || e->key[n] != '.')
            continue;
        sim_config_suggest(keys, e->key + n + 1, suggestion);
        SIM_FAIL(SIM_E_CONFIG, "%s: %s has no key %s, expected one of %s%s", e->where,
                 table->section, e->key + n + 1, keys, suggestion);
    }
done:
    return st;
}

static sim_status parse_item(sim_config *c, const char *item, const sim_option *row,
                             sim_option_items *items, char *text, size_t text_bytes)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES + 64], part[SIM_OPTION_TEXT_BYTES + 64], shown[SHOW_BYTES],
        suggestion[96];
    size_t at = items->n, used = strlen(text);

    (void)snprintf(key, sizeof key, "%s.op", item);
    entry *e = sim_config_find(c, item); /* a word alone */
    e = e ? e : sim_config_find(c, key);
    const entry *below = sim_config_find_below(c, item);
    SIM_CHECK(e, SIM_E_CONFIG, "%s: %s.op is required, one of %s",
              below ? below->where : c->name, item, row->choices);
    int op = sim_choices_find(row->choices, e->text);
    sim_config_quote(e->text, shown);
    sim_config_suggest(row->choices, e->text, suggestion);
    SIM_CHECK(op >= 0, SIM_E_CONFIG, "%s: %s: \"%s\" is not one of %s%s", e->where,
              e->key, shown, row->choices, suggestion);
    e->used = true;
    const sim_option_table *table = &row->item_tables[op];
    SIM_ASSERT(table->struct_bytes <= sizeof items->values[0]);
    used += (size_t)snprintf(text + used, text_bytes - used, "%s{op: %s", at ? ", " : "",
                             e->text);
    for (size_t r = 0; r < table->n_rows; r++) {
        SIM_TRY(sim_config_fill_row(c, item, &table->rows[r], &items->values[at], part,
                                    sizeof part));
        int n = snprintf(text + used, text_bytes - used, ", %s: %s", table->rows[r].name,
                         part);
        used += n > 0 ? (size_t)n : 0;
        SIM_CHECK(used + 2 < text_bytes, SIM_E_CONFIG, "%s: %s is too long", c->name,
                  item);
    }
    (void)snprintf(text + used, text_bytes - used, "}");
    SIM_TRY(check_item_keys(c, item, table));
    items->op[at] = op;
    items->n++;
done:
    return st;
}

sim_status sim_config_fill_items(sim_config *c, const char *key, const sim_option *row,
                                 sim_option_items *items)
{
    sim_status st = SIM_OK;
    char item[KEY_BYTES + 32], text[8192] = "[";
    entry *e = sim_config_find(c, key);
    const entry *first = e ? e : sim_config_find_below(c, key);

    if (!first) {
        /* The owner uses its own default list; the resolved job does not contain the key. */
        SIM_TRY(sim_config_add_known(c, key, "", NULL, row, false));
        goto done;
    }
    SIM_CHECK(!e || e->empty_list, SIM_E_CONFIG, "%s: %s must be a list of operations",
              e ? e->where : "", key);
    if (e)
        e->used = true;
    items->given = true;
    for (size_t i = 0;; i++) {
        (void)snprintf(item, sizeof item, "%s.%zu", key, i);
        if (!sim_config_find(c, item) && !sim_config_find_below(c, item))
            break;
        SIM_CHECK(i < SIM_OPTION_MAX_ITEMS, SIM_E_CONFIG, "%s: %s has more than %d items",
                  first->where, key, SIM_OPTION_MAX_ITEMS);
        SIM_TRY(parse_item(c, item, row, items, text, sizeof text - 2));
    }
    SIM_CHECK(e || items->n > 0, SIM_E_CONFIG, "%s: %s must be a list of operations",
              first->where, key);
    (void)strncat(text, "]", sizeof text - strlen(text) - 1);
    SIM_TRY(sim_config_add_known(c, key, text, NULL, row, true));
done:
    return st;
}
