/*
 * file.c - reading, and replacing a file so that a crash leaves the old or the new one.
 *
 * Every call goes through the table `present`, so that tests can make it fail.
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

/* Of one transfer: a slow disk must not look like one that hangs (heartbeat.h). */
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

static const sim_file_calls *present = &sim_file_posix;

void sim_file_use(const sim_file_calls *calls)
{
    present = calls ? calls : &sim_file_posix;
}

static sim_status code_of(int error)
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

/* The same where something is to be made: no folder, no input is missing. */
static sim_status code_of_making(int error)
{
    sim_status code = code_of(error);
    return code == SIM_E_INPUT ? SIM_E_CREATE : code;
}

#define FAIL_WITH(code, what, path)                                                      \
    do {                                                                                 \
        int error_ = errno;                                                              \
        SIM_FAIL(code(error_), "%s: %s: %s", (path), (what), strerror(error_));          \
    } while (0)
#define FAIL_ERRNO(what, path)  FAIL_WITH(code_of, what, path)
#define FAIL_MAKING(what, path) FAIL_WITH(code_of_making, what, path)

/* Is it worth another try?  Transient errors get a few, with a pause. */
static bool try_again(int *tries)
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
        fd = present->open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && try_again(&tries));
    return fd;
}

/* After EIO the kernel may have dropped the pages, and a second fsync would say yes. */
static int sync_retry(int fd)
{
    int error;
    do
        error = present->fsync(fd);
    while (error != 0 && errno == EINTR);
    return error;
}

static int rename_retry(const char *from, const char *to)
{
    int error, tries = 0;
    do
        error = present->rename(from, to);
    while (error != 0 && try_again(&tries));
    return error;
}

static int unlink_retry(const char *path)
{
    int error, tries = 0;
    do
        error = present->unlink(path);
    while (error != 0 && try_again(&tries));
    return error;
}

sim_status sim_file_open_read(const char *path, int *out, uint64_t *n_bytes)
{
    sim_status st = SIM_OK;
    struct stat about;
    int fd = open_retry(path, O_RDONLY | O_NONBLOCK, 0);

    if (fd < 0)
        FAIL_ERRNO("cannot be opened", path);
    if (fstat(fd, &about) != 0)
        FAIL_ERRNO("cannot be looked at", path);
    SIM_CHECK(S_ISREG(about.st_mode), SIM_E_INPUT, "%s is not a regular file", path);
    *n_bytes = (uint64_t)about.st_size;
    *out = fd;
    fd = -1;
done:
    if (fd >= 0)
        (void)present->close(fd);
    return st;
}

sim_status sim_file_read_at(int fd, const char *path, uint64_t at, void *data, size_t n)
{
    sim_status st = SIM_OK;
    char *p = data;
    int tries = 0;

    while (n > 0) {
        ssize_t got = present->pread(fd, p, n < PIECE_BYTES ? n : PIECE_BYTES, (off_t)at);
        if (got < 0 && try_again(&tries))
            continue;
        if (got < 0)
            FAIL_ERRNO("cannot be read", path);
        SIM_CHECK(got > 0, SIM_E_IO, "%s ends at byte %llu, %zu bytes too early", path,
                  (unsigned long long)at, n);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
        sim_heartbeat_tick();
    }
done:
    return st;
}

/* A transfer that took nothing and gave no reason counts as a transient error. */
static ssize_t some(ssize_t n)
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
        ssize_t put = some(present->write(fd, p, n < PIECE_BYTES ? n : PIECE_BYTES));
        if (put < 0 && try_again(&tries))
            continue;
        if (put < 0)
            FAIL_ERRNO("cannot be written", path);
        p += put;
        n -= (size_t)put;
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
        ssize_t put = some(present->pwrite(fd, p, n, (off_t)at));
        if (put < 0 && try_again(&tries))
            continue;
        if (put < 0)
            FAIL_ERRNO("cannot be written", path);
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
        sim_heartbeat_tick();
    }
done:
    return st;
}

sim_status sim_file_open_update(const char *path, int *out)
{
    sim_status st = SIM_OK;
    int fd = open_retry(path, O_WRONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        FAIL_ERRNO("cannot be opened for writing", path);
    *out = fd;
done:
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

sim_status sim_file_hold(int fd, const char *path)
{
    sim_status st = SIM_OK;
    SIM_CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, SIM_E_CREATE,
              "%s is in use by another process", path);
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
    /* Some file systems do not sync folders and say EINVAL: nothing more to do there. */
    if (sync_retry(fd) != 0 && errno != EINVAL)
        FAIL_ERRNO("cannot be synced", path);
done:
    if (fd >= 0)
        (void)present->close(fd);
    return st;
}

sim_status sim_file_close(int *fd, const char *path)
{
    sim_status st = SIM_OK;
    int old = *fd;

    *fd = -1;
    if (old >= 0 && present->close(old) != 0 && errno != EINTR)
        FAIL_ERRNO("cannot be closed", path);
done:
    return st;
}

sim_status sim_file_load(const char *path, size_t limit, char **data, size_t *n_bytes)
{
    sim_status st = SIM_OK;
    int fd = -1;
    uint64_t n = 0;
    char *text = NULL;

    SIM_TRY(sim_file_open_read(path, &fd, &n));
    SIM_CHECK(n <= limit, SIM_E_DATA, "%s has %llu bytes, %zu at most are expected", path,
              (unsigned long long)n, limit);
    SIM_TRY(sim_alloc(&text, (size_t)n + 1, "core/file"));
    SIM_TRY(sim_file_read_at(fd, path, 0, text, (size_t)n));
    *data = text;
    *n_bytes = (size_t)n;
    text = NULL;
done:
    sim_free(text);
    if (fd >= 0)
        (void)present->close(fd);
    return st;
}

/* The folder of a path: "." where it names none. */
static void folder_of(const char *path, char *out, size_t out_bytes)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        (void)snprintf(out, out_bytes, ".");
    else
        (void)snprintf(out, out_bytes, "%.*s", n ? (int)n : 1, path);
}

/* "PATH.tmp.HOST.PID": beside the file, and telling whose it is. */
static sim_status temporary_of(const char *path, char *out, size_t out_bytes)
{
    sim_status st = SIM_OK;
    char host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    int n = snprintf(out, out_bytes, "%s.tmp.%s.%ld", path, host, (long)getpid());
    SIM_CHECK(n > 0 && (size_t)n < out_bytes, SIM_E_IO,
              "a path of %zu bytes is too long: %.200s ...", strlen(path), path);
done:
    return st;
}

sim_status sim_file_replace_begin(const char *path, sim_replacement *r)
{
    sim_status st = SIM_OK;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

    r->made = false;
    r->fd = -1;
    SIM_CHECK(strlen(path) < sizeof r->path, SIM_E_IO,
              "a path of %zu bytes is too long: %.200s ...", strlen(path), path);
    (void)snprintf(r->path, sizeof r->path, "%s", path);
    SIM_TRY(temporary_of(path, r->temporary, sizeof r->temporary));
    r->fd = open_retry(r->temporary, flags, 0666);
    if (r->fd < 0 && errno == EEXIST) { /* ours, from a process of the same number */
        (void)unlink_retry(r->temporary);
        r->fd = open_retry(r->temporary, flags, 0666);
    }
    if (r->fd < 0)
        FAIL_MAKING("cannot be created", r->temporary);
    r->made = true;
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
    char folder[PATH_MAX];

    SIM_TRY(sim_file_sync(r->fd, r->temporary));
    SIM_TRY(sim_file_close(&r->fd, r->temporary));
    if (rename_retry(r->temporary, r->path) != 0)
        FAIL_MAKING("cannot be replaced", r->path);
    r->made = false;
    folder_of(r->path, folder, sizeof folder);
    SIM_TRY(sim_directory_sync(folder));
done:
    return st;
}

void sim_file_replace_drop(sim_replacement *r)
{
    if (!r->made)
        return;
    if (r->fd >= 0)
        (void)present->close(r->fd);
    (void)unlink_retry(r->temporary);
    r->made = false;
}

sim_status sim_file_replace(const char *path, const sim_piece *pieces, size_t n_pieces)
{
    sim_status st = SIM_OK;
    sim_replacement r = {.made = false};

    SIM_TRY(sim_file_replace_begin(path, &r));
    for (size_t i = 0; i < n_pieces; i++)
        SIM_TRY(sim_file_replace_add(&r, pieces[i].data, pieces[i].n_bytes));
    SIM_TRY(sim_file_replace_end(&r));
done:
    sim_file_replace_drop(&r);
    return st;
}

sim_status sim_file_open_append(const char *path, int *out)
{
    sim_status st = SIM_OK;
    int fd = open_retry(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0666);
    if (fd < 0)
        FAIL_MAKING("cannot be opened for appending", path);
    *out = fd;
done:
    return st;
}

sim_status sim_file_append(int fd, const char *path, const char *text)
{
    return write_all(fd, path, text, strlen(text));
}

/* The text in a new file that nobody else has. */
static sim_status write_new(const char *path, const char *text)
{
    sim_status st = SIM_OK;
    bool made = false;
    int fd = open_retry(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);

    if (fd < 0 && errno == EEXIST)
        SIM_FAIL(SIM_E_CREATE, "%s is already there", path);
    if (fd < 0)
        FAIL_MAKING("cannot be created", path);
    made = true;
    SIM_TRY(write_all(fd, path, text, strlen(text)));
    SIM_TRY(sim_file_sync(fd, path));
    SIM_TRY(sim_file_close(&fd, path));
done:
    if (fd >= 0)
        (void)present->close(fd);
    if (st != SIM_OK && made)
        (void)unlink_retry(path);
    return st;
}

/* 0, EEXIST, or another reason.  NFS may repeat a request that was done: two links tell. */
static int link_to(const char *from, const char *to)
{
    struct stat about;
    int tries = 0, error;
    do
        error = present->link(from, to) == 0 ? 0 : errno;
    while (error != 0 && try_again(&tries));
    return error == 0 || (stat(from, &about) == 0 && about.st_nlink == 2) ? 0 : error;
}

sim_status sim_file_create_new(const char *path, const char *text)
{
    sim_status st = SIM_OK;
    char temporary[4096] = "";

    SIM_TRY(temporary_of(path, temporary, sizeof temporary));
    (void)unlink_retry(temporary); /* ours, from a process of the same number */
    SIM_TRY(write_new(temporary, text));
    int error = link_to(temporary, path);
    (void)unlink_retry(temporary);
    SIM_CHECK(error != EEXIST, SIM_E_CREATE, "%s is already there", path);
    if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK)
        SIM_TRY(write_new(path, text)); /* a file system without links */
    else
        SIM_CHECK(error == 0, code_of_making(error), "%s: cannot be created: %s", path,
                  strerror(error));
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

sim_status sim_file_sync_directory(const char *path)
{
    char folder[PATH_MAX];
    folder_of(path, folder, sizeof folder);
    return sim_directory_sync(folder);
}
