/* Stands between a program and the C library (LD_PRELOAD): counts the calls that change files under FAULT_FOLDER, over
 * all processes of a node, and lets the n-th fail. FAULT_CONTROL names a file of 8 words of 64 bits, shared by all:
 *   0 calls seen   1 n, counted from 1; 0 for never   2 what happens (enum action)   3 how many calls in a row
 *   4 how often it happened   5 the call it happened at (enum call)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { FAIL_EIO = 1, FAIL_ENOSPC = 2, KILL = 3, TEAR = 4 };
enum call { WRITE = 1, SYNC, RENAME, LINK, UNLINK, TRUNCATE, CREATE };

static volatile uint64_t *control;
static const char *folder;
static size_t folder_length;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULT_CONTROL");
    folder = getenv("FAULT_FOLDER");
    if (!name || !folder) return;
    folder_length = strlen(folder);
    int fd = open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

static int path_is_ours(const char *path) {
    return control && path && strncmp(path, folder, folder_length) == 0;
}

static int file_is_ours(int fd) {
    struct stat what;
    char link[64], path[4096];
    if (!control || fstat(fd, &what) != 0 || !(S_ISREG(what.st_mode) || S_ISDIR(what.st_mode))) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path_is_ours(path);
}

/* Returns 0 (go on), an errno, or -1 for a write to be torn. */
static int fault(enum call call) {
    uint64_t seen = __atomic_add_fetch(&control[0], 1, __ATOMIC_SEQ_CST);
    uint64_t n = control[1];
    if (n == 0 || seen < n || seen >= n + control[3]) return 0;
    control[5] = call;
    __atomic_add_fetch(&control[4], 1, __ATOMIC_SEQ_CST);
    switch (control[2]) {
    case FAIL_EIO: return EIO;
    case FAIL_ENOSPC: return call == SYNC || call == WRITE || call == CREATE || call == TRUNCATE ? ENOSPC : EIO;
    case TEAR: if (call == WRITE) return -1; /* else killed before the call */ __attribute__((fallthrough));
    default: kill(0, SIGKILL); pause(); return EIO;
    }
}

static void die(void) { kill(0, SIGKILL); pause(); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define WRITER(name, PARAMETERS, ARGUMENTS, HALF)                                  \
    ssize_t name PARAMETERS {                                                     \
        REAL(name);                                                               \
        if (file_is_ours(fd)) {                                                   \
            int bad = fault(WRITE);                                               \
            if (bad > 0) { errno = bad; return -1; }                              \
            if (bad < 0) { (void)!real HALF; die(); }                             \
        }                                                                         \
        return real ARGUMENTS;                                                    \
    }

WRITER(write, (int fd, const void *b, size_t n), (fd, b, n), (fd, b, n / 2))
WRITER(pwrite, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at), (fd, b, n / 2, at))
WRITER(pwrite64, (int fd, const void *b, size_t n, off64_t at), (fd, b, n, at), (fd, b, n / 2, at))
WRITER(writev, (int fd, const struct iovec *v, int n), (fd, v, n), (fd, v, n / 2))
WRITER(pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at), (fd, v, n / 2, at))
WRITER(pwritev64, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at), (fd, v, n / 2, at))

#define ON_FILE(name, CALL, PARAMETERS, ARGUMENTS)                                \
    int name PARAMETERS {                                                         \
        REAL(name);                                                               \
        if (file_is_ours(fd)) {                                                   \
            int bad = fault(CALL);                                                \
            if (bad > 0) { errno = bad; return -1; }                              \
        }                                                                         \
        return real ARGUMENTS;                                                    \
    }

ON_FILE(fsync, SYNC, (int fd), (fd))
ON_FILE(fdatasync, SYNC, (int fd), (fd))
ON_FILE(ftruncate, TRUNCATE, (int fd, off_t n), (fd, n))
ON_FILE(ftruncate64, TRUNCATE, (int fd, off64_t n), (fd, n))

#define ON_PATH(name, CALL, PATH, PARAMETERS, ARGUMENTS)                          \
    int name PARAMETERS {                                                         \
        REAL(name);                                                               \
        if (path_is_ours(PATH)) {                                                 \
            int bad = fault(CALL);                                                \
            if (bad > 0) { errno = bad; return -1; }                              \
        }                                                                         \
        return real ARGUMENTS;                                                    \
    }

ON_PATH(rename, RENAME, to, (const char *from, const char *to), (from, to))
ON_PATH(renameat, RENAME, to, (int a, const char *from, int b, const char *to), (a, from, b, to))
ON_PATH(link, LINK, to, (const char *from, const char *to), (from, to))
ON_PATH(linkat, LINK, to, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
ON_PATH(unlink, UNLINK, path, (const char *path), (path))
ON_PATH(unlinkat, UNLINK, path, (int a, const char *path, int flags), (a, path, flags))

#define OPENER(name, PARAMETERS, ARGUMENTS)                                       \
    int name PARAMETERS {                                                         \
        REAL(name);                                                               \
        mode_t mode = 0;                                                          \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                    \
            va_list rest;                                                         \
            va_start(rest, flags);                                                \
            mode = va_arg(rest, mode_t);                                          \
            va_end(rest);                                                         \
        }                                                                         \
        if ((flags & O_CREAT) && path_is_ours(path) && access(path, F_OK) != 0) { \
            int bad = fault(CREATE);                                              \
            if (bad > 0) { errno = bad; return -1; }                              \
        }                                                                         \
        return real ARGUMENTS;                                                    \
    }

OPENER(open, (const char *path, int flags, ...), (path, flags, mode))
OPENER(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENER(openat, (int a, const char *path, int flags, ...), (a, path, flags, mode))
OPENER(openat64, (int a, const char *path, int flags, ...), (a, path, flags, mode))
