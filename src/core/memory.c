/*
 * memory.c - tagged blocks and their accounting.
 *
 * A block is preceded by a header of 64 bytes with its size, its row in the accounting and the size
 * of its mapping.
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
    HEADER_BYTES = 64,
    MAX_TAGS = 512,
    MAP_FROM_BYTES =
        1 << 20, /* mapped from this size on, so that freeing returns the pages */
    HUGE_FROM_BYTES = 4 << 20, /* huge pages are requested from this size on */
    MAGIC = 0x51a11e
};

typedef struct {
    size_t bytes, mapped_bytes; /* of the caller; of the mapping, 0 if from the heap */
    int row, magic;
} block_header;

_Static_assert(sizeof(block_header) <= HEADER_BYTES, "the header does not fit");

static struct {
    pthread_mutex_t lock;
    sim_memory_row rows[MAX_TAGS];
    int n_rows;
    uint64_t bytes, peak_bytes, calls, fail_at;
} ledger = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Row of a tag. When the table is full, new tags share the last row. */
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

static int account_block(const char *tag, size_t bytes)
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

static void unaccount_block(int row, size_t bytes)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.rows[row].bytes -= bytes;
    ledger.rows[row].n_blocks--;
    ledger.bytes -= bytes;
    pthread_mutex_unlock(&ledger.lock);
}

/* Counts the call; true if sim_memory_fail_at requested that it fails. */
static bool count_call(void)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.calls++;
    bool fail = ledger.fail_at > 0 && --ledger.fail_at == 0;
    pthread_mutex_unlock(&ledger.lock);
    return fail;
}

static void *map_pages(size_t bytes)
{
    void *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Starts at a huge page boundary, so that the first megabytes use huge pages too. */
static void *map_aligned(size_t bytes)
{
    enum { HUGE_PAGE = 2 << 20 };
    if (bytes > SIZE_MAX - 2 * (size_t)HUGE_PAGE)
        return NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (bytes + page - 1) / page * page;
    char *p = map_pages(used + HUGE_PAGE);
    if (!p)
        return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        (void)munmap(p, before);
    (void)munmap(p + before + used, HUGE_PAGE - before);
    return p + before;
}

static void *allocate_zeroed(size_t total, size_t *mapped_bytes)
{
    *mapped_bytes = 0;
    if (total < MAP_FROM_BYTES) {
        void *p = aligned_alloc(64, (total + 63) / 64 * 64);
        if (p)
            memset(p, 0, total);
        return p;
    }
    bool huge = total >= HUGE_FROM_BYTES;
    void *p = huge ? map_aligned(total) : map_pages(total);
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
                  !__builtin_add_overflow(bytes, (size_t)HEADER_BYTES, &total),
              SIM_E_IO, "out of memory: %zu x %zu bytes for %s", count, size, tag);
    void *p = count_call() ? NULL : allocate_zeroed(total, &mapped);
    SIM_CHECK(p, SIM_E_IO, "out of memory: %zu bytes for %s", bytes, tag);
    block_header *header = p;
    *header = (block_header){bytes, mapped, account_block(tag, bytes), MAGIC};
    *out = (char *)p + HEADER_BYTES;
done:
    return st;
}

static block_header *header_of(void *block)
{
    block_header *header = (block_header *)(void *)((char *)block - HEADER_BYTES);
    SIM_ASSERT(header->magic == MAGIC);
    return header;
}

void sim_free(void *block)
{
    if (!block)
        return;
    block_header *header = header_of(block);
    unaccount_block(header->row, header->bytes);
    header->magic = 0;
    if (header->mapped_bytes)
        (void)munmap(header, header->mapped_bytes);
    else
        free(header);
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
        size_t old_bytes = header_of(old)->bytes, bytes = count * size;
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
    va_list args, args_copy;

    va_start(args, fmt);
    va_copy(args_copy, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    SIM_ASSERT(n >= 0);
    SIM_TRY(sim_alloc(&text, (size_t)n + 1, tag));
    (void)vsnprintf(text, (size_t)n + 1, fmt, args_copy);
    *out = text;
done:
    va_end(args_copy);
    va_end(args);
    return st;
}

static int by_tag(const void *a, const void *b)
{
    return strcmp(((const sim_memory_row *)a)->tag, ((const sim_memory_row *)b)->tag);
}

void sim_memory_report(void (*visit)(void *ctx, const sim_memory_row *row), void *ctx)
{
    sim_memory_row copy[MAX_TAGS];
    pthread_mutex_lock(&ledger.lock);
    int n = ledger.n_rows;
    memcpy(copy, ledger.rows, sizeof copy);
    pthread_mutex_unlock(&ledger.lock);
    qsort(copy, (size_t)n, sizeof *copy, by_tag);
    for (int i = 0; i < n; i++)
        visit(ctx, &copy[i]);
}

static uint64_t read_locked(const uint64_t *counter)
{
    pthread_mutex_lock(&ledger.lock);
    uint64_t value = *counter;
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
