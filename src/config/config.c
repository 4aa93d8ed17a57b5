/*
 * config.c - reads a job: the file, then the overrides of the command line.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sim_status config_create(const char *name, sim_config **out)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;

    SIM_TRY(sim_new(&c, "config/config"));
    SIM_TRY(sim_text_copy(name, "config/config", &c->name));
    SIM_TRY(sim_alloc(&c->entries, MAX_ENTRIES, "config/entries"));
    SIM_TRY(sim_alloc(&c->known, MAX_KNOWN, "config/known"));
    *out = c;
    c = NULL;
done:
    sim_config_destroy(&c);
    return st;
}

void sim_config_destroy(sim_config **c)
{
    sim_config *old = *c;
    if (!old)
        return;
    for (size_t i = 0; i < old->n_entries; i++) {
        sim_free(old->entries[i].key);
        sim_free(old->entries[i].text);
    }
    for (size_t i = 0; i < old->n_known; i++) {
        sim_free(old->known[i].key);
        sim_free(old->known[i].text);
        sim_free(old->known[i].before);
    }
    sim_free(old->entries);
    sim_free(old->known);
    sim_free(old->name);
    sim_free(old);
    *c = NULL;
}

/* A scalar above the key ("a" for "a.b") cannot have keys below it. */
static sim_status check_above(const sim_config *c, const char *key, const char *where)
{
    sim_status st = SIM_OK;
    char above[KEY_BYTES];

    (void)snprintf(above, sizeof above, "%s", key);
    for (char *dot = strrchr(above, '.'); dot; dot = strrchr(above, '.')) {
        *dot = '\0';
        SIM_CHECK(!sim_config_find(c, above), SIM_E_CONFIG,
                  "%s: unknown key %s: %s is a single value, not a section", where, key,
                  above);
    }
done:
    return st;
}

/* True for words of letters, digits, _ and -, joined by dots. */
static bool is_dotted_key(const char *key)
{
    static const char word[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    for (;;) {
        size_t n = strspn(key, word);
        if (n == 0 || (key[n] && key[n] != '.'))
            return false;
        if (!key[n])
            return true;
        key += n + 1;
    }
}

/* Refuses a second override of a key, one of which would be ignored. */
static sim_status check_once(const sim_config *c, const char *key, const char *where)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < c->n_entries; i++) {
        const entry *e = &c->entries[i];
        if (!e->is_override ||
            (strcmp(e->key, key) != 0 && !sim_config_is_below(e->key, key)))
            continue;
        SIM_FAIL(SIM_E_CONFIG, "%s: %s is already set by %s; set it once", where, e->key,
                 e->where);
    }
done:
    return st;
}

static sim_status apply_override(sim_config *c, const char *text, int number)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES], where[64], shown[SHOW_BYTES];
    const char *equals = strchr(text, '=');

    (void)snprintf(where, sizeof where, "argument %d", number);
    sim_config_quote(text, shown);
    SIM_CHECK(equals && equals > text && (size_t)(equals - text) < sizeof key,
              SIM_E_CONFIG, "%s: \"%s\" is not key=value", where, shown);
    (void)snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
    sim_config_quote(key, shown);
    SIM_CHECK(is_dotted_key(key), SIM_E_CONFIG,
              "%s: \"%s\" is not a key (letters, digits, _, - and .)", where, shown);
    SIM_TRY(check_once(c, key, where));
    (void)sim_config_drop(c, key);
    SIM_TRY(check_above(c, key, where));
    size_t before = c->n_entries;
    SIM_TRY(sim_config_parse_text(c, equals + 1, strlen(equals + 1), key, where, false));
    SIM_CHECK(c->n_entries > before, SIM_E_CONFIG, "%s: %s has no value", where, key);
    for (size_t i = before; i < c->n_entries; i++)
        c->entries[i].is_override = true;
done:
    return st;
}

sim_status sim_config_parse(const char *text, size_t n_bytes, const char *name,
                            sim_config **out)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;

    SIM_TRY(config_create(name, &c));
    SIM_TRY(sim_config_parse_text(c, text, n_bytes, "", name, true));
    *out = c;
    c = NULL;
done:
    sim_config_destroy(&c);
    return st;
}

sim_status sim_config_read(const char *path, size_t n_overrides, char *const *overrides,
                           const int *numbers, sim_config **out)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;
    char *text = NULL;
    size_t n = 0;

    st = sim_file_load(path, TEXT_LIMIT, &text, &n);
    if (st == SIM_E_DATA)
        st = SIM_E_CONFIG; /* larger than TEXT_LIMIT */
    SIM_TRY(st);
    SIM_TRY(sim_config_parse(text, n, path, &c));
    for (size_t i = 0; i < n_overrides; i++)
        SIM_TRY(apply_override(c, overrides[i], numbers[i]));
    *out = c;
    c = NULL;
done:
    sim_config_destroy(&c);
    sim_free(text);
    return st;
}

void sim_config_read_as_saved(sim_config *c)
{
    c->is_saved = true;
}

const char *sim_config_peek(const sim_config *c, const char *key)
{
    const entry *e = sim_config_find(c, key);
    return e ? e->text : NULL;
}

sim_status sim_config_error(const sim_config *c, const char *key, const char *fmt, ...)
{
    char text[1024];
    const entry *e = sim_config_find(c, key);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return sim_error_begin(SIM_E_CONFIG, __FILE__, __LINE__, "%s: %s: %s",
                           e ? e->where : c->name, key, text);
}

/* Truncates a key to the number of words of another. */
static void truncate_words(char *key, const char *like)
{
    for (;;) {
        key += strcspn(key, ".");
        like = strchr(like, '.');
        if (!like || !*key)
            break;
        like++;
        key++;
    }
    *key = '\0';
}

/* How far a key is from a known one, or SIM_UNRELATED. Of a key below a list, only the list's name
 * counts. A single word is compared with the last word, as its section may be missing. */
static size_t distance_to(const known *k, const char *key)
{
    char head[KEY_BYTES];
    const char *last = strrchr(k->key, '.');
    if (last && !strchr(key, '.'))
        return sim_misspelling(key, last + 1);
    (void)snprintf(head, sizeof head, "%s", key);
    if (k->is_list)
        truncate_words(head, k->key);
    return sim_misspelling(head, k->key);
}

/* "did you mean A?", "did you mean A or B?", or where the keys are listed. */
static void format_suggestion(const sim_config *c, const char *key, char *out,
                              size_t out_bytes)
{
    size_t least = SIM_UNRELATED, used = 0;

    for (size_t i = 0; i < c->n_known; i++)
        if (distance_to(&c->known[i], key) < least)
            least = distance_to(&c->known[i], key);
    (void)snprintf(out, out_bytes, "`simile plan --keys` lists all keys");
    for (size_t i = 0; i < c->n_known && least != SIM_UNRELATED && used < out_bytes; i++)
        if (distance_to(&c->known[i], key) == least)
            used += (size_t)snprintf(out + used, out_bytes - used, "%s%s",
                                     used ? " or " : "did you mean ", c->known[i].key);
    if (used && used + 1 < out_bytes)
        (void)snprintf(out + used, out_bytes - used, "?");
}

sim_status sim_config_finish(sim_config *c)
{
    for (size_t i = 0; i < c->n_defaults; i++)
        SIM_ASSERT(c->defaults[i].used);
    return sim_config_finish_section(c, "");
}

sim_status sim_config_finish_section(sim_config *c, const char *section)
{
    sim_status st = SIM_OK;
    char suggestion[512];

    for (size_t i = 0; i < c->n_entries; i++) {
        const entry *e = &c->entries[i];
        if (e->used || (*section && !sim_config_is_below(e->key, section)))
            continue;
        format_suggestion(c, e->key, suggestion, sizeof suggestion);
        SIM_FAIL(SIM_E_CONFIG, "%s: unknown key %s; %s", e->where, e->key, suggestion);
    }
done:
    return st;
}
