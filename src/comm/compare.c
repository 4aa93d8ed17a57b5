/*
 * compare.c - whether all ranks have the same text or file.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/hash.h"
#include "simile/memory.h"

#include <string.h>

enum {
    SHOWN = 200,
    BEFORE = 80
}; /* bytes of a line in a message; of them before the difference */

/* The text of rank 0; *out is the caller's. */
static sim_status receive_text(const sim_comm *c, const char *text, char **out)
{
    sim_status st = SIM_OK;
    uint64_t n = strlen(text);

    sim_comm_broadcast(c, 0, &n, sizeof n);
    SIM_TRY(sim_comm_agree(c, sim_alloc(out, n + 1, "comm/compare")));
    if (c->rank == 0)
        memcpy(*out, text, n);
    sim_comm_broadcast(c, 0, *out, n);
done:
    return st;
}

/* The part of a line that is shown: it contains the byte `at` of the text. */
static const char *line_around(const char *text, size_t at, int *n)
{
    size_t lo = at;

    while (lo > 0 && text[lo - 1] != '\n' && at - lo < BEFORE)
        lo--;
    size_t length = strcspn(text + lo, "\n");
    *n = (int)(length < SHOWN ? length : SHOWN);
    return text + lo;
}

static sim_status compare_local(sim_status code, const char *what, const char *text,
                                const char *of_rank_0, const char *rule)
{
    sim_status st = SIM_OK;
    size_t at = 0;
    int n = 0, n_of_rank_0 = 0;

    while (text[at] && text[at] == of_rank_0[at])
        at++;
    const char *own = line_around(text, at, &n),
               *other = line_around(of_rank_0, at, &n_of_rank_0);
    SIM_CHECK(text[at] == of_rank_0[at], code,
              "%s: \"%.*s\" on this rank, but \"%.*s\" on rank 0; %s", what, n, own,
              n_of_rank_0, other, rule);
done:
    return st;
}

sim_status sim_comm_compare(const sim_comm *c, sim_status code, const char *what,
                            const char *text, const char *rule)
{
    sim_status st = SIM_OK;
    char *of_rank_0 = NULL;

    if (c->size == 1)
        goto done;
    SIM_TRY(receive_text(c, text, &of_rank_0));
    SIM_TRY(sim_comm_agree(c, compare_local(code, what, text, of_rank_0, rule)));
done:
    sim_free(of_rank_0);
    return st;
}

sim_status sim_comm_compare_file(const sim_comm *c, const char *path)
{
    sim_status st = SIM_OK;
    sim_hash hash = {0};
    char hex[33];

    if (c->size == 1)
        goto done;
    SIM_TRY(sim_comm_agree(c, sim_file_hash(path, &hash)));
    sim_hash_hex(hash, hex);
    SIM_TRY(
        sim_comm_compare(c, SIM_E_DATA, path, hex, "all ranks must read the same file"));
done:
    return st;
}
