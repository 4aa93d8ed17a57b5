/*
 * fill.c - fills an option struct according to its table.
 */
#include "private.h"

#include <string.h>

void sim_config_set_default(sim_config *c, const char *key, const char *text)
{
    SIM_ASSERT(c->n_defaults < MAX_DEFAULTS);
    c->defaults[c->n_defaults++] = (default_override){.key = key, .text = text};
}

sim_status sim_config_fill(sim_config *c, const sim_option_table *table, void *options)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES], text[VALUE_BYTES], other[VALUE_BYTES];

    memset(options, 0, table->struct_bytes);
    for (size_t i = 0; i < table->n_rows; i++) {
        const sim_option *row = &table->rows[i];
        void *to = (char *)options + row->offset;
        const char *before = NULL;
        sim_config_full_key(table->section, row->name, key);
        if (row->type == SIM_OPTION_ITEMS) {
            SIM_TRY(sim_config_fill_items(c, key, row, to));
            continue;
        }
        SIM_TRY(sim_config_fill_row(c, table->section, row, options, text, sizeof text));
        SIM_TRY(sim_config_format_before(c, key, row, other, sizeof other, &before));
        SIM_TRY(sim_config_add_known(c, key, text, before, row, true));
    }
done:
    return st;
}
