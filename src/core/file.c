/*
 * file.c - reading, writing and atomic replacement of files.
 *
 * Every system call goes through the table `calls`, so that tests can make it fail.
 */
#include "simile/file.h"

#include "simile/heartbeat.h"
#include "simile/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Largest transfer: each one counts as progress (heartbeat.h), also on a slow disk. */
enum { PIECE_BYTES = 64 << 20 };

static int open_file(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

const sim_file_calls sim_file_posix = {.open = open_file,
                                       .pread = pread,
                                       .write = write,
                                       .pwrite = pwrite,
                                       .fsync = fsync,
                                       .close = close,
                                       .rename = rename,
                                       .unlink = unlink,
                                       .link = link};

static const sim_file_calls *calls = &sim_file_posix;

void sim_file_use(const sim_file_calls *table)
{
    calls = table ? table : &sim_file_posix;
}

static sim_status status_of(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return SIM_E_INPUT;
    case EACCES:
    case EPERM:
    case EROFS:
        return SIM_E_ACCESS;
    default:
        return SIM_E_IO;
    }
}

/* The same for a file to be created: ENOENT means that its directory is missing. */
static sim_status creation_status_of(int error)
{
    sim_status code = status_of(error);
    return code == SIM_E_INPUT ? SIM_E_CREATE : code;
}

#define FAIL_WITH(code, what, path)                                                      \
    do {                                                                                 \
        int error_ = errno;                                                              \
        SIM_FAIL(code(error_), "%s: %s: %s", (path), (what), strerror(error_));          \
    } while (0)
#define FAIL_ERRNO(what, path) FAIL_WITH(status_of, what, path)
#define FAIL_CREATE(what, path)                                                          \
    do {                                                                                 \
        int error_ = errno;                                                              \
        char reason_[160];                                                               \
        sim_creation_reason(error_, (path), reason_);                                    \
        SIM_FAIL(creation_status_of(error_), "%s: %s: %s", (path), (what), reason_);     \
    } while (0)

/* Whether to retry after errno; transient errors are retried a few times with a pause. */
static bool should_retry(int *tries)
{
    enum { TRIES = 5, PAUSE_US = 20000 };
    if (errno == EINTR)
        return true;
    if (errno != EIO && errno != EAGAIN && errno != ESTALE)
        return false;
    if (++*tries >= TRIES)
        return false;
    (void)usleep((useconds_t)PAUSE_US << *tries);
    return true;
}

static int open_retry(const char *path, int flags, mode_t mode)
{
    int fd, tries = 0;
    do
        fd = calls->open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && should_retry(&tries));
    return fd;
}

/* EIO is not retried: the kernel may have dropped the pages, and a second fsync would succeed. */
static int sync_retry(int fd)
{
    int error;
    do
        error = calls->fsync(fd);
    while (error != 0 && errno == EINTR);
    return error;
}

static int rename_retry(const char *from, const char *to)
{
    int error, tries = 0;
    do
        error = calls->rename(from, to);
    while (error != 0 && should_retry(&tries));
    return error;
}

static int unlink_retry(const char *path)
{
    int error, tries = 0;
    do
        error = calls->unlink(path);
    while (error != 0 && should_retry(&tries));
    return error;
}

sim_status sim_file_open_read(const char *path, int *out, uint64_t *n_bytes)
{
    sim_status st = SIM_OK;
    struct stat info;
    int fd = open_retry(path, O_RDONLY | O_NONBLOCK, 0);

    if (fd < 0)
        FAIL_ERRNO("cannot be opened", path);
    if (fstat(fd, &info) != 0)
        FAIL_ERRNO("cannot be examined", path);
    SIM_CHECK(S_ISREG(info.st_mode), SIM_E_INPUT, "%s is not a regular file", path);
    *n_bytes = (uint64_t)info.st_size;
    *out = fd;
    fd = -1;
done:
    if (fd >= 0)
        (void)calls->close(fd);
    return st;
}

sim_status sim_file_read_at(int fd, const char *path, uint64_t at, void *data, size_t n)
{
    sim_status st = SIM_OK;
    char *p = data;
    int tries = 0;

    while (n > 0) {
        ssize_t n_read =
            calls->pread(fd, p, n < PIECE_BYTES ? n : PIECE_BYTES, (off_t)at);
        if (n_read < 0 && should_retry(&tries))
            continue;
        if (n_read < 0)
            FAIL_ERRNO("cannot be read", path);
        SIM_CHECK(n_read > 0, SIM_E_IO,
                  "%s ends at byte %llu; %zu more bytes were expected", path,
                  (unsigned long long)at, n);
        p += n_read;
        at += (uint64_t)n_read;
        n -= (size_t)n_read;
        sim_heartbeat_tick();
    }
done:
    return st;
}

/* A write of zero bytes without an error is treated as a transient error. */
static ssize_t check_written(ssize_t n)
{
    if (n == 0)
        errno = EIO;
    return n > 0 ? n : -1;
}

static sim_status write_all(int fd, const char *path, const char *p, size_t n)
{
    sim_status st = SIM_OK;
    int tries = 0;

    while (n > 0) {
        ssize_t written =
            check_written(calls->write(fd, p, n < PIECE_BYTES ? n : PIECE_BYTES));
        if (written < 0 && should_retry(&tries))
            continue;
        if (written < 0)
            FAIL_ERRNO("cannot be written", path);
        p += written;
        n -= (size_t)written;
        sim_heartbeat_tick();
    }
done:
    return st;
}

sim_status sim_file_write_at(int fd, const char *path, uint64_t at, const void *data,
                             size_t n)
{
    sim_status st = SIM_OK;
    const char *p = data;
    int tries = 0;

    while (n > 0) {
        ssize_t written = check_written(calls->pwrite(fd, p, n, (off_t)at));
        if (written < 0 && should_retry(&tries))
            continue;
        if (written < 0)
            FAIL_ERRNO("cannot be written", path);
        p += written;
        at += (uint64_t)written;
        n -= (size_t)written;
        sim_heartbeat_tick();
    }
done:
    return st;
}

/* Writing to a pipe or a device could block the program. */
static sim_status check_regular(int fd, const char *path)
{
    sim_status st = SIM_OK;
    struct stat info;

    if (fstat(fd, &info) != 0)
        FAIL_ERRNO("cannot be examined", path);
    SIM_CHECK(S_ISREG(info.st_mode), SIM_E_CREATE, "%s is not a regular file", path);
done:
    return st;
}

/* O_NONBLOCK: the open of a named pipe that has no reader fails instead of waiting for one. */
sim_status sim_file_open_update(const char *path, int *out)
{
    sim_status st = SIM_OK;
    int fd = open_retry(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0);

    SIM_CHECK(fd >= 0 || errno != ENXIO, SIM_E_CREATE, "%s is not a regular file", path);
    if (fd < 0)
        FAIL_ERRNO("cannot be opened for writing", path);
    SIM_TRY(check_regular(fd, path));
    *out = fd;
    fd = -1;
done:
    if (fd >= 0)
        (void)calls->close(fd);
    return st;
}

sim_status sim_file_set_length(int fd, const char *path, uint64_t n_bytes)
{
    sim_status st = SIM_OK;
    if (ftruncate(fd, (off_t)n_bytes) != 0)
        FAIL_ERRNO("its length cannot be set", path);
done:
    return st;
}

sim_status sim_file_lock(int fd, const char *path, bool *locked)
{
    sim_status st = SIM_OK;
    int error;

    do
        error = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    while (error == EINTR);
    SIM_CHECK(error != EWOULDBLOCK, SIM_E_CREATE, "%s is in use by another process",
              path);
    *locked = error == 0;
done:
    return st;
}

sim_status sim_file_sync(int fd, const char *path)
{
    sim_status st = SIM_OK;
    if (sync_retry(fd) != 0)
        FAIL_ERRNO("cannot be synced", path);
done:
    return st;
}

sim_status sim_directory_sync(const char *path)
{
    sim_status st = SIM_OK;
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        FAIL_ERRNO("cannot be opened", path);
    /* EINVAL: the file system does not support syncing directories. */
    if (sync_retry(fd) != 0 && errno != EINVAL)
        FAIL_ERRNO("cannot be synced", path);
done:
    if (fd >= 0)
        (void)calls->close(fd);
    return st;
}

sim_status sim_file_close(int *fd, const char *path)
{
    sim_status st = SIM_OK;
    int old = *fd;

    *fd = -1;
    if (old >= 0 && calls->close(old) != 0 && errno != EINTR)
        FAIL_ERRNO("cannot be closed", path);
done:
    return st;
}

/* Reads a file; is_end: its last `limit` bytes if it is longer, which is otherwise refused. */
static sim_status load_bytes(const char *path, size_t limit, bool is_end, char **data,
                             size_t *n_bytes)
{
    sim_status st = SIM_OK;
    int fd = -1;
    uint64_t size = 0;
    char *text = NULL;

    SIM_TRY(sim_file_open_read(path, &fd, &size));
    SIM_CHECK(is_end || size <= limit, SIM_E_DATA,
              "%s has %llu bytes; at most %zu are expected", path,
              (unsigned long long)size, limit);
    const size_t n = size < limit ? (size_t)size : limit;
    SIM_TRY(sim_alloc(&text, n + 1, "core/file"));
    SIM_TRY(sim_file_read_at(fd, path, size - n, text, n));
    *data = text;
    *n_bytes = n;
    text = NULL;
done:
    sim_free(text);
    if (fd >= 0)
        (void)calls->close(fd);
    return st;
}

sim_status sim_file_load(const char *path, size_t limit, char **data, size_t *n_bytes)
{
    return load_bytes(path, limit, false, data, n_bytes);
}

sim_status sim_file_load_end(const char *path, size_t limit, char **data, size_t *n_bytes)
{
    return load_bytes(path, limit, true, data, n_bytes);
}

bool sim_file_begins_with(const char *path, const char *text)
{
    char head[256];
    const size_t length = strlen(text);
    uint64_t n = 0;
    int fd = -1;

    SIM_ASSERT(length < sizeof head);
    const bool does = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= length &&
                      sim_file_read_at(fd, path, 0, head, length) == SIM_OK &&
                      memcmp(head, text, length) == 0;
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return does;
}

sim_status sim_file_hash(const char *path, sim_hash *out)
{
    enum { PIECE = 1 << 20 };
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;
    char *bytes = NULL;
    uint64_t length = 0;
    int fd = -1;

    SIM_TRY(sim_file_open_read(path, &fd, &length));
    SIM_TRY(sim_hasher_create(&h));
    SIM_TRY(sim_alloc(&bytes, PIECE, "core/file"));
    for (uint64_t at = 0, n = 0; at < length; at += n) {
        n = length - at < PIECE ? length - at : PIECE;
        SIM_TRY(sim_file_read_at(fd, path, at, bytes, (size_t)n));
        sim_hasher_add(h, bytes, (size_t)n);
    }
    *out = sim_hasher_value(h);
done:
    sim_free(bytes);
    sim_hasher_destroy(&h);
    SIM_IGNORE(sim_file_close(&fd, path));
    return st;
}

/* The directory part of a path; "." if it has none. */
static void directory_of(const char *path, char *out, size_t out_bytes)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        (void)snprintf(out, out_bytes, ".");
    else
        (void)snprintf(out, out_bytes, "%.*s", n ? (int)n : 1, path);
}

sim_status sim_file_replace_begin(const char *path, sim_replacement *r)
{
    sim_status st = SIM_OK;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

    r->created = false;
    r->fd = -1;
    SIM_CHECK(strlen(path) < sizeof r->path, SIM_E_IO,
              "%.200s...: a path of %zu bytes is too long", path, strlen(path));
    (void)snprintf(r->path, sizeof r->path, "%s", path);
    SIM_TRY(sim_temporary_path(path, r->temporary, sizeof r->temporary));
    r->fd = open_retry(r->temporary, flags, 0666);
    if (r->fd < 0 && errno == EEXIST) { /* left by an earlier process with the same id */
        (void)unlink_retry(r->temporary);
        r->fd = open_retry(r->temporary, flags, 0666);
    }
    if (r->fd < 0)
        FAIL_CREATE("cannot be created", r->temporary);
    r->created = true;
done:
    return st;
}

sim_status sim_file_replace_add(sim_replacement *r, const void *data, size_t n_bytes)
{
    return write_all(r->fd, r->temporary, data, n_bytes);
}

sim_status sim_file_replace_end(sim_replacement *r)
{
    sim_status st = SIM_OK;
    char directory[PATH_MAX];

    SIM_TRY(sim_file_sync(r->fd, r->temporary));
    SIM_TRY(sim_file_close(&r->fd, r->temporary));
    if (rename_retry(r->temporary, r->path) != 0)
        FAIL_CREATE("cannot be replaced", r->path);
    r->created = false;
    directory_of(r->path, directory, sizeof directory);
    SIM_TRY(sim_directory_sync(directory));
done:
    return st;
}

void sim_file_replace_cancel(sim_replacement *r)
{
    if (!r->created)
        return;
    if (r->fd >= 0)
        (void)calls->close(r->fd);
    (void)unlink_retry(r->temporary);
    r->created = false;
}

sim_status sim_file_replace(const char *path, const sim_piece *pieces, size_t n_pieces)
{
    sim_status st = SIM_OK;
    sim_replacement r = {.created = false};

    SIM_TRY(sim_file_replace_begin(path, &r));
    for (size_t i = 0; i < n_pieces; i++)
        SIM_TRY(sim_file_replace_add(&r, pieces[i].data, pieces[i].n_bytes));
    SIM_TRY(sim_file_replace_end(&r));
done:
    sim_file_replace_cancel(&r);
    return st;
}

sim_status sim_file_open_append(const char *path, int *out)
{
    sim_status st = SIM_OK;
    int fd =
        open_retry(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0666);

    SIM_CHECK(fd >= 0 || errno != ENXIO, SIM_E_CREATE, "%s is not a regular file", path);
    if (fd < 0)
        FAIL_CREATE("cannot be opened for appending", path);
    SIM_TRY(check_regular(fd, path));
    *out = fd;
    fd = -1;
done:
    if (fd >= 0)
        (void)calls->close(fd);
    return st;
}

sim_status sim_file_append(int fd, const char *path, const char *text)
{
    return write_all(fd, path, text, strlen(text));
}

/* Creates a file exclusively and writes the text. */
static sim_status write_new(const char *path, const char *text)
{
    sim_status st = SIM_OK;
    bool created = false;
    int fd = open_retry(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);

    if (fd < 0 && errno == EEXIST)
        SIM_FAIL(SIM_E_CREATE, "%s already exists", path);
    if (fd < 0)
        FAIL_CREATE("cannot be created", path);
    created = true;
    SIM_TRY(write_all(fd, path, text, strlen(text)));
    SIM_TRY(sim_file_sync(fd, path));
    SIM_TRY(sim_file_close(&fd, path));
done:
    if (fd >= 0)
        (void)calls->close(fd);
    if (st != SIM_OK && created)
        (void)unlink_retry(path);
    return st;
}

/* Returns 0 or an errno. NFS may repeat a link request that succeeded; then the call fails but the
 * file has two links. */
static int link_to(const char *from, const char *to)
{
    struct stat info;
    int tries = 0, error;
    do
        error = calls->link(from, to) == 0 ? 0 : errno;
    while (error != 0 && should_retry(&tries));
    return error == 0 || (stat(from, &info) == 0 && info.st_nlink == 2) ? 0 : error;
}

sim_status sim_file_create_new(const char *path, const char *text)
{
    sim_status st = SIM_OK;
    char temporary[4096] = "", reason[160];

    SIM_TRY(sim_temporary_path(path, temporary, sizeof temporary));
    (void)unlink_retry(temporary); /* left by an earlier process with the same id */
    SIM_TRY(write_new(temporary, text));
    int error = link_to(temporary, path);
    sim_creation_reason(error, path, reason); /* while the temporary file exists */
    (void)unlink_retry(temporary);
    SIM_CHECK(error != EEXIST, SIM_E_CREATE, "%s already exists", path);
    if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK)
        SIM_TRY(write_new(path, text)); /* a file system without links */
    else
        SIM_CHECK(error == 0, creation_status_of(error), "%s: cannot be created: %s",
                  path, reason);
done:
    return st;
}

sim_status sim_file_remove(const char *path)
{
    sim_status st = SIM_OK;
    if (unlink_retry(path) != 0 && errno != ENOENT)
        FAIL_ERRNO("cannot be removed", path);
done:
    return st;
}

sim_status sim_file_rename(const char *from, const char *to)
{
    sim_status st = SIM_OK;
    if (rename_retry(from, to) != 0)
        FAIL_ERRNO("cannot be renamed", from);
done:
    return st;
}

sim_status sim_file_set_aside(const char *path, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    enum { MAX_OLD = 10000 };
    int i = 1;

    SIM_CHECK(strlen(path) + 16 < PATH_MAX, SIM_E_IO, "%.200s...: the path is too long",
              path);
    do
        (void)snprintf(out, PATH_MAX, "%.4000s.old-%d", path, i);
    while (sim_path_is_taken(out) && ++i < MAX_OLD);
    SIM_TRY(sim_file_rename(path, out));
done:
    return st;
}

sim_status sim_file_sync_directory(const char *path)
{
    char directory[PATH_MAX];
    directory_of(path, directory, sizeof directory);
    return sim_directory_sync(directory);
}
