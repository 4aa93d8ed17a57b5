/*
 * memory.c - blocks with a tag, and the ledger that counts them.
 *
 * A block is preceded by 64 bytes that say how large it is, under which row of the ledger
 * it counts, and whether it was mapped.
 */
#include "simile/memory.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 64,
    MAX_TAGS = 512,
    MAP_FROM_BYTES = 1 << 20,  /* above this, freeing should give the pages back */
    HUGE_FROM_BYTES = 4 << 20, /* large enough for huge pages to pay */
    MAGIC = 0x51a11e
};

typedef struct {
    size_t bytes, mapped_bytes; /* of the caller; of the mapping, 0: from the heap */
    int row, magic;
} block_head;

_Static_assert(sizeof(block_head) <= HEAD_BYTES, "the head must fit");

static struct {
    pthread_mutex_t lock;
    sim_memory_row rows[MAX_TAGS];
    int n_rows;
    uint64_t bytes, peak_bytes, calls, fail_at;
} ledger = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Row of a tag; the last row gathers what does not fit. */
static int find_row(const char *tag)
{
    for (int i = 0; i < ledger.n_rows; i++)
        if (ledger.rows[i].tag == tag || strcmp(ledger.rows[i].tag, tag) == 0)
            return i;
    if (ledger.n_rows == MAX_TAGS)
        return MAX_TAGS - 1;
    ledger.rows[ledger.n_rows].tag = tag;
    return ledger.n_rows++;
}

static int book(const char *tag, size_t bytes)
{
    pthread_mutex_lock(&ledger.lock);
    int i = find_row(tag);
    sim_memory_row *r = &ledger.rows[i];
    r->bytes += bytes;
    r->n_blocks++;
    if (r->bytes > r->peak_bytes)
        r->peak_bytes = r->bytes;
    ledger.bytes += bytes;
    if (ledger.bytes > ledger.peak_bytes)
        ledger.peak_bytes = ledger.bytes;
    pthread_mutex_unlock(&ledger.lock);
    return i;
}

static void unbook(int row, size_t bytes)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.rows[row].bytes -= bytes;
    ledger.rows[row].n_blocks--;
    ledger.bytes -= bytes;
    pthread_mutex_unlock(&ledger.lock);
}

/* Counts the call; true when a test wants this one to fail. */
static bool count_call(void)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.calls++;
    bool fail = ledger.fail_at > 0 && --ledger.fail_at == 0;
    pthread_mutex_unlock(&ledger.lock);
    return fail;
}

static void *map(size_t bytes)
{
    void *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* From the start of a huge page on, so that the first megabytes are huge too. */
static void *map_aligned(size_t bytes)
{
    enum { HUGE_PAGE = 2 << 20 };
    if (bytes > SIZE_MAX - 2 * (size_t)HUGE_PAGE)
        return NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (bytes + page - 1) / page * page;
    char *p = map(used + HUGE_PAGE);
    if (!p)
        return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        (void)munmap(p, before);
    (void)munmap(p + before + used, HUGE_PAGE - before);
    return p + before;
}

static void *take(size_t total, size_t *mapped_bytes)
{
    *mapped_bytes = 0;
    if (total < MAP_FROM_BYTES) {
        void *p = aligned_alloc(64, (total + 63) / 64 * 64);
        if (p)
            memset(p, 0, total);
        return p;
    }
    bool huge = total >= HUGE_FROM_BYTES;
    void *p = huge ? map_aligned(total) : map(total);
    if (p && huge)
        (void)madvise(p, total, MADV_HUGEPAGE);
    *mapped_bytes = total;
    return p;
}

sim_status sim_alloc_bytes(size_t count, size_t size, const char *tag, void **out)
{
    sim_status st = SIM_OK;
    size_t bytes = 0, total = 0, mapped = 0;

    SIM_CHECK(!__builtin_mul_overflow(count, size, &bytes) &&
                  !__builtin_add_overflow(bytes, (size_t)HEAD_BYTES, &total),
              SIM_E_IO, "out of memory: %zu x %zu bytes for %s", count, size, tag);
    void *p = count_call() ? NULL : take(total, &mapped);
    SIM_CHECK(p, SIM_E_IO, "out of memory: %zu bytes for %s", bytes, tag);
    block_head *head = p;
    *head = (block_head){bytes, mapped, book(tag, bytes), MAGIC};
    *out = (char *)p + HEAD_BYTES;
done:
    return st;
}

static block_head *head_of(void *block)
{
    block_head *head = (block_head *)(void *)((char *)block - HEAD_BYTES);
    SIM_ASSERT(head->magic == MAGIC);
    return head;
}

void sim_free(void *block)
{
    if (!block)
        return;
    block_head *head = head_of(block);
    unbook(head->row, head->bytes);
    head->magic = 0;
    if (head->mapped_bytes)
        (void)munmap(head, head->mapped_bytes);
    else
        free(head);
}

/* memcpy, because the pointer may be to any object type. */
sim_status sim_alloc_to(size_t count, size_t size, const char *tag, void *pointer)
{
    sim_status st = SIM_OK;
    void *block = NULL;

    SIM_TRY(sim_alloc_bytes(count, size, tag, &block));
    memcpy(pointer, &block, sizeof block);
done:
    return st;
}

void sim_free_at(void *pointer)
{
    void *block = NULL;

    memcpy(&block, pointer, sizeof block);
    sim_free(block);
    block = NULL;
    memcpy(pointer, &block, sizeof block);
}

sim_status sim_grow_to(size_t count, size_t size, const char *tag, void *pointer)
{
    sim_status st = SIM_OK;
    void *grown = NULL, *old = NULL;

    memcpy(&old, pointer, sizeof old);
    SIM_TRY(sim_alloc_bytes(count, size, tag, &grown));
    SIM_ASSERT(grown);
    if (old) {
        size_t old_bytes = head_of(old)->bytes, bytes = count * size;
        memcpy(grown, old, old_bytes < bytes ? old_bytes : bytes);
        sim_free(old);
    }
    memcpy(pointer, &grown, sizeof grown);
done:
    return st;
}

sim_status sim_buffers_create(const sim_buffer *list, size_t n, const char *tag)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_alloc_to(list[i].count, list[i].size, tag, list[i].pointer));
done:
    return st;
}

size_t sim_buffers_bytes(const sim_buffer *list, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += list[i].count * list[i].size;
    return bytes;
}

void sim_buffers_destroy(const sim_buffer *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sim_free_at(list[i].pointer);
}

sim_status sim_text_copy(const char *text, const char *tag, char **out)
{
    return sim_text_format(tag, out, "%s", text);
}

sim_status sim_text_format(const char *tag, char **out, const char *fmt, ...)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    va_list args, again;

    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    SIM_ASSERT(n >= 0);
    SIM_TRY(sim_alloc(&text, (size_t)n + 1, tag));
    (void)vsnprintf(text, (size_t)n + 1, fmt, again);
    *out = text;
done:
    va_end(again);
    va_end(args);
    return st;
}

static int by_tag(const void *a, const void *b)
{
    return strcmp(((const sim_memory_row *)a)->tag, ((const sim_memory_row *)b)->tag);
}

void sim_memory_report(void (*see)(void *ctx, const sim_memory_row *row), void *ctx)
{
    sim_memory_row copy[MAX_TAGS];
    pthread_mutex_lock(&ledger.lock);
    int n = ledger.n_rows;
    memcpy(copy, ledger.rows, sizeof copy);
    pthread_mutex_unlock(&ledger.lock);
    qsort(copy, (size_t)n, sizeof *copy, by_tag);
    for (int i = 0; i < n; i++)
        see(ctx, &copy[i]);
}

static uint64_t read_locked(const uint64_t *figure)
{
    pthread_mutex_lock(&ledger.lock);
    uint64_t value = *figure;
    pthread_mutex_unlock(&ledger.lock);
    return value;
}

size_t sim_memory_bytes(void)
{
    return read_locked(&ledger.bytes);
}

size_t sim_memory_peak_bytes(void)
{
    return read_locked(&ledger.peak_bytes);
}

uint64_t sim_memory_calls(void)
{
    return read_locked(&ledger.calls);
}

size_t sim_memory_process_peak(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss << 10;
}

void sim_memory_fail_at(uint64_t k)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.fail_at = k;
    pthread_mutex_unlock(&ledger.lock);
}
