/*
 * parse.c - parses YAML into a flat list of dotted keys, from libyaml's events.
 *
 * Refuses aliases, anchors, tags, a second document, deep nesting and duplicates: a job does
 * not need them, and some make parsers hang.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

#include <yaml.h>

enum { MAX_DEPTH = 8 };

/* A mapping that expects a key or a value, or a list with its number of items. */
typedef struct {
    bool is_list, has_key;
    size_t n;         /* items or keys so far */
    size_t key_bytes; /* of the dotted key above this level */
} level;

typedef struct {
    sim_config *c;
    const char *where;
    bool with_line;
    char key[KEY_BYTES];
    level levels[MAX_DEPTH + 1];
    int depth; /* levels in use */
    int documents;
    char place[192];
} yaml_reader;

static const char *place_of(yaml_reader *w, const yaml_mark_t *mark)
{
    enum { LONGEST = sizeof w->place - 32 };
    size_t n = strlen(w->where);
    /* A long path is cut at the front, so that the line number is printed. */
    if (w->with_line)
        (void)snprintf(w->place, sizeof w->place, "%s%s:%zu", n > LONGEST ? "..." : "",
                       w->where + (n > LONGEST ? n - LONGEST : 0), mark->line + 1);
    else
        (void)snprintf(w->place, sizeof w->place, "%s", w->where);
    return w->place;
}

/* Appends ".part" (or "part" at the top) to the dotted key. */
static sim_status descend(yaml_reader *w, const char *part, const yaml_mark_t *mark)
{
    sim_status st = SIM_OK;
    size_t used = strlen(w->key);
    int n = snprintf(w->key + used, sizeof w->key - used, "%s%s", used ? "." : "", part);
    SIM_CHECK(n > 0 && (size_t)n < sizeof w->key - used, SIM_E_CONFIG,
              "%s: the key is too long", place_of(w, mark));
done:
    return st;
}

/* Before a value: appends the next index of a list to the key. */
static sim_status before_value(yaml_reader *w, const yaml_mark_t *mark)
{
    sim_status st = SIM_OK;
    char index[24];
    if (w->depth > 0 && w->levels[w->depth - 1].is_list) {
        (void)snprintf(index, sizeof index, "%zu", w->levels[w->depth - 1].n++);
        SIM_TRY(descend(w, index, mark));
    }
done:
    return st;
}

/* After a value: restores the key of the enclosing level. */
static void after_value(yaml_reader *w)
{
    if (w->depth == 0)
        return;
    level *l = &w->levels[w->depth - 1];
    w->key[l->key_bytes] = '\0';
    l->has_key = false;
}

static sim_status open_level(yaml_reader *w, bool is_list, const yaml_mark_t *mark)
{
    sim_status st = SIM_OK;
    SIM_CHECK(w->depth < MAX_DEPTH, SIM_E_CONFIG, "%s: nested deeper than %d levels",
              place_of(w, mark), MAX_DEPTH);
    SIM_CHECK(w->depth > 0 || !is_list || w->key[0], SIM_E_CONFIG,
              "%s: expected \"key: value\" lines", place_of(w, mark));
    SIM_TRY(before_value(w, mark));
    w->levels[w->depth++] = (level){.is_list = is_list, .key_bytes = strlen(w->key)};
done:
    return st;
}

static sim_status close_level(yaml_reader *w, const yaml_mark_t *mark)
{
    sim_status st = SIM_OK;
    const level *l = &w->levels[w->depth - 1];
    if (l->is_list && l->n == 0)
        SIM_TRY(sim_config_add(w->c, w->key, "", false, true, place_of(w, mark)));
    SIM_CHECK(l->is_list || l->n > 0 || !w->key[0], SIM_E_CONFIG,
              "%s: %s is empty; remove it", place_of(w, mark), w->key);
    w->depth--;
    after_value(w);
done:
    return st;
}

static bool is_key_text(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!good)
            return false;
    }
    return n > 0;
}

static sim_status read_key(yaml_reader *w, const yaml_event_t *e)
{
    sim_status st = SIM_OK;
    const char *text = (const char *)e->data.scalar.value;
    char shown[SHOW_BYTES];
    sim_config_quote(text, shown);
    SIM_CHECK(is_key_text(text, e->data.scalar.length), SIM_E_CONFIG,
              "%s: \"%s\" is not a key (letters, digits, _ and -)",
              place_of(w, &e->start_mark), shown);
    SIM_TRY(descend(w, text, &e->start_mark));
    SIM_CHECK(!sim_config_find(w->c, w->key) && !sim_config_find_below(w->c, w->key),
              SIM_E_CONFIG, "%s: %s is set twice", place_of(w, &e->start_mark), w->key);
    w->levels[w->depth - 1].has_key = true;
    w->levels[w->depth - 1].n++;
done:
    return st;
}

static bool is_null(const char *text)
{
    return !text[0] || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
           strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0;
}

static sim_status read_scalar(yaml_reader *w, const yaml_event_t *e)
{
    sim_status st = SIM_OK;
    const char *text = (const char *)e->data.scalar.value;
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;

    SIM_CHECK(!e->data.scalar.anchor, SIM_E_CONFIG, "%s: anchors are not supported",
              place_of(w, &e->start_mark));
    SIM_CHECK(!e->data.scalar.tag, SIM_E_CONFIG, "%s: tags are not supported",
              place_of(w, &e->start_mark));
    if (w->depth > 0 && !w->levels[w->depth - 1].is_list &&
        !w->levels[w->depth - 1].has_key) {
        SIM_TRY(read_key(w, e));
        goto done;
    }
    SIM_CHECK(w->depth > 0 || w->key[0], SIM_E_CONFIG,
              "%s: expected \"key: value\" lines", place_of(w, &e->start_mark));
    SIM_TRY(before_value(w, &e->start_mark));
    SIM_CHECK(strlen(text) == e->data.scalar.length, SIM_E_CONFIG,
              "%s: %s contains a zero byte", place_of(w, &e->start_mark), w->key);
    SIM_CHECK(quoted || !is_null(text), SIM_E_CONFIG, "%s: %s has no value",
              place_of(w, &e->start_mark), w->key);
    SIM_TRY(
        sim_config_add(w->c, w->key, text, quoted, false, place_of(w, &e->start_mark)));
    after_value(w);
done:
    return st;
}

static sim_status read_event(yaml_reader *w, const yaml_event_t *e)
{
    sim_status st = SIM_OK;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        SIM_FAIL(SIM_E_CONFIG, "%s: aliases are not supported",
                 place_of(w, &e->start_mark));
    case YAML_DOCUMENT_START_EVENT:
        SIM_CHECK(w->documents++ == 0, SIM_E_CONFIG,
                  "%s: a job is one document; remove the second",
                  place_of(w, &e->start_mark));
        break;
    case YAML_SCALAR_EVENT:
        SIM_TRY(read_scalar(w, e));
        break;
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT: {
        bool list = e->type == YAML_SEQUENCE_START_EVENT;
        bool marked = list ? e->data.sequence_start.anchor || e->data.sequence_start.tag
                           : e->data.mapping_start.anchor || e->data.mapping_start.tag;
        SIM_CHECK(!marked, SIM_E_CONFIG, "%s: anchors and tags are not supported",
                  place_of(w, &e->start_mark));
        SIM_CHECK(w->depth == 0 || w->levels[w->depth - 1].is_list ||
                      w->levels[w->depth - 1].has_key,
                  SIM_E_CONFIG, "%s: a key must be a single word",
                  place_of(w, &e->start_mark));
        SIM_TRY(open_level(w, list, &e->start_mark));
        break;
    }
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        SIM_TRY(close_level(w, &e->start_mark));
        break;
    default:
        break;
    }
done:
    return st;
}

/* Refuses invalid bytes before libyaml reads them, as its message has no line number. */
static sim_status check_bytes(yaml_reader *w, const char *text, size_t n)
{
    sim_status st = SIM_OK;
    yaml_mark_t mark = {0};
    size_t length = 0;
    uint32_t code = 0;

    SIM_CHECK(n <= TEXT_LIMIT, SIM_E_CONFIG, "%s has %zu bytes, expected at most %d",
              w->where, n, TEXT_LIMIT);
    for (size_t at = 0; at < n; at += length) {
        length = sim_config_utf8(text + at, n - at, &code);
        SIM_CHECK(length > 0, SIM_E_CONFIG, "%s: not YAML: byte 0x%02x is not UTF-8",
                  place_of(w, &mark), (unsigned)(unsigned char)text[at]);
        mark.line += code == '\n';
        SIM_CHECK(sim_config_is_plain(code) || code == '\t' || code == '\n' ||
                      code == '\r' || (code == 0xFEFF && at == 0),
                  SIM_E_CONFIG, "%s: not YAML: character U+%04X is not allowed",
                  place_of(w, &mark), (unsigned)code);
    }
done:
    return st;
}

static sim_status refuse_yaml(yaml_reader *w, const yaml_parser_t *parser)
{
    const char *problem = parser->problem ? parser->problem : "unreadable";
    bool no_token = strstr(problem, "cannot start any token") != NULL;
    if (parser->error == YAML_MEMORY_ERROR)
        return sim_error_begin(SIM_E_IO, __FILE__, __LINE__, "out of memory for YAML");
    return sim_error_begin(SIM_E_CONFIG, __FILE__, __LINE__, "%s: not YAML: %s%s",
                           place_of(w, &parser->problem_mark), problem,
                           no_token ? " (a tab? indent with spaces)" : "");
}

sim_status sim_config_parse_text(sim_config *c, const char *text, size_t n,
                                 const char *prefix, const char *where, bool with_line)
{
    sim_status st = SIM_OK;
    yaml_parser_t parser;
    yaml_event_t event;
    yaml_reader w = {.c = c, .where = where, .with_line = with_line};
    bool more = true;

    (void)snprintf(w.key, sizeof w.key, "%s", prefix);
    SIM_TRY(check_bytes(&w, text, n));
    SIM_CHECK(yaml_parser_initialize(&parser), SIM_E_IO, "out of memory for YAML");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    while (more && st == SIM_OK) {
        if (!yaml_parser_parse(&parser, &event)) {
            st = refuse_yaml(&w, &parser);
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        st = read_event(&w, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
done:
    return st;
}
