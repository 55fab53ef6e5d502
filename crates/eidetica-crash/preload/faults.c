/* A faulty disk and a faulty allocator below a program: preloaded into children of the crash tests, part of nothing else.
 *
 * EIDETICA_FAULT_DIR     Absolute. Changes of files below it count; allocations count from the first of them on.
 * EIDETICA_FAULT         `write:N`, `sync:N` or `alloc:N`: the N-th one from 0 fails. With a `+` behind it all later ones
 *                        fail too. A failing write says that the disk is full, a failing sync that it is broken.
 * EIDETICA_FAULT_COUNTS  A file that is given the numbers of writes, syncs and allocations at the end.
 * EIDETICA_FAULT_RECORD  A file that is given every change in order, and the lines of the file EIDETICA_FAULT_TOLD
 *                        among them: see src/record.rs.
 *
 * What reaches the kernel another way is not seen: a rename by a raw system call shows when its directory is synced.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

enum { WRITE, SYNC, ALLOC, KINDS };
static const char *const kinds[KINDS] = {"write:", "sync:", "alloc:"};

static char dir[PATH_MAX], told[PATH_MAX];
static size_t dir_len;
static atomic_long counts[KINDS];
static long fail_at[KINDS] = {-1, -1, -1};
static int fail_on[KINDS];
static atomic_int armed;
static int record_fd = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("EIDETICA_FAULT_DIR");
  if (!text) return;
  snprintf(dir, sizeof dir, "%s", text);
  if ((text = getenv("EIDETICA_FAULT_TOLD"))) snprintf(told, sizeof told, "%s", text);
  if ((text = getenv("EIDETICA_FAULT")))
    for (int kind = 0; kind < KINDS; kind++)
      if (!strncmp(text, kinds[kind], strlen(kinds[kind]))) {
        char *end;
        fail_at[kind] = strtol(text + strlen(kinds[kind]), &end, 10);
        fail_on[kind] = *end == '+';
      }
  if ((text = getenv("EIDETICA_FAULT_RECORD")))
    record_fd = REAL(open)(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  dir_len = strlen(dir);
}

__attribute__((destructor)) static void end(void) {
  const char *path = getenv("EIDETICA_FAULT_COUNTS");
  if (!path || !dir_len) return;
  int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) return;
  dprintf(fd, "%ld %ld %ld\n", counts[WRITE], counts[SYNC], counts[ALLOC]);
  close(fd);
}

/* Whether the one that is about to happen is to fail. */
static int fails(int kind) {
  long number = atomic_fetch_add(&counts[kind], 1);
  return number == fail_at[kind] || (fail_on[kind] && number > fail_at[kind]);
}

static int below(const char *path) {
  if (!dir_len || strncmp(path, dir, dir_len) || (path[dir_len] && path[dir_len] != '/')) return 0;
  armed = 1;
  return 1;
}

/* The path that a descriptor stands for; empty if none. */
static void path_of(int fd, char *path) {
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = readlink(link, path, PATH_MAX - 1);
  path[len < 0 ? 0 : len] = 0;
}

static int fd_below(int fd) {
  char path[PATH_MAX];
  if (!dir_len) return 0;
  path_of(fd, path);
  return below(path);
}

static void resolve(int at, const char *name, char *path) {
  char base[PATH_MAX];
  if (name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
    return;
  }
  if (at != AT_FDCWD) path_of(at, base);
  else if (!getcwd(base, sizeof base)) base[0] = 0;
  if (strlen(base) + strlen(name) + 2 > PATH_MAX) path[0] = 0;
  else strcat(strcat(strcpy(path, base), "/"), name);
}

/* One line of the record: kind, inode, number, length of a path, length of data; then both. Called in `order`. */
static void note(char kind, uint64_t ino, uint64_t number, const char *path, const void *data, uint64_t len) {
  struct { uint64_t kind, ino, number, path_len, len; } head = {(uint64_t)kind, ino, number, strlen(path), len};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path_len}, {(void *)data, len}};
  if (record_fd < 0) return;
  ssize_t written = REAL(writev)(record_fd, parts, 3);
  if (written != (ssize_t)(sizeof head + head.path_len + len)) abort();
}

static uint64_t ino_of(int fd) {
  struct stat stat;
  return fstat(fd, &stat) ? 0 : stat.st_ino;
}

static ssize_t put(int fd, const struct iovec *parts, int count, int64_t at) {
  char path[PATH_MAX];
  path_of(fd, path);
  int told_here = told[0] && !strcmp(path, told);
  if (!below(path) && !told_here) return at < 0 ? REAL(writev)(fd, parts, count) : REAL(pwritev)(fd, parts, count, at);
  if (!told_here && fails(WRITE)) {
    errno = ENOSPC;
    return -1;
  }
  pthread_mutex_lock(&order);
  ssize_t written = at < 0 ? REAL(writev)(fd, parts, count) : REAL(pwritev)(fd, parts, count, at);
  uint64_t offset = at < 0 && !told_here ? (uint64_t)(lseek(fd, 0, SEEK_CUR) - written) : (uint64_t)at;
  ssize_t left = written;
  for (int part = 0; part < count && left > 0; part++) {
    ssize_t len = (size_t)left < parts[part].iov_len ? left : (ssize_t)parts[part].iov_len;
    if (told_here) note('a', 0, 0, "", parts[part].iov_base, len);
    else note('w', ino_of(fd), offset, path, parts[part].iov_base, len);
    offset += len;
    left -= len;
  }
  pthread_mutex_unlock(&order);
  return written;
}

ssize_t write(int fd, const void *data, size_t len) {
  if (!dir_len) return REAL(write)(fd, data, len);
  struct iovec part = {(void *)data, len};
  return put(fd, &part, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  return dir_len ? put(fd, parts, count, -1) : REAL(writev)(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
  if (!dir_len) return REAL(pwrite64)(fd, data, len, at);
  struct iovec part = {(void *)data, len};
  return put(fd, &part, 1, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }

int ftruncate64(int fd, off64_t len) {
  if (!fd_below(fd)) return REAL(ftruncate64)(fd, len);
  if (fails(WRITE)) {
    errno = ENOSPC;
    return -1;
  }
  char path[PATH_MAX];
  path_of(fd, path);
  pthread_mutex_lock(&order);
  int result = REAL(ftruncate64)(fd, len);
  if (!result) note('t', ino_of(fd), len, path, 0, 0);
  pthread_mutex_unlock(&order);
  return result;
}

int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

/* The names in a directory, which may have come there unseen. */
static void note_names(int fd, const char *path) {
  struct dirent *entry;
  DIR *names = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!names) return;
  note('d', 0, 0, path, 0, 0);
  while ((entry = readdir(names)))
    if (entry->d_type == DT_REG) note('n', entry->d_ino, 0, path, entry->d_name, strlen(entry->d_name));
  closedir(names);
}

static int sync_with(int fd, int (*sync)(int)) {
  struct stat stat;
  if (!fd_below(fd)) return sync(fd);
  if (fails(SYNC)) {
    errno = EIO;
    return -1;
  }
  char path[PATH_MAX];
  path_of(fd, path);
  pthread_mutex_lock(&order);
  int result = sync(fd);
  if (!result && record_fd >= 0 && !fstat(fd, &stat)) {
    if (S_ISDIR(stat.st_mode)) note_names(fd, path);
    else note('s', stat.st_ino, 0, path, 0, 0);
  }
  pthread_mutex_unlock(&order);
  return result;
}

int fsync(int fd) { return sync_with(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_with(fd, REAL(fdatasync)); }

static int open_at(int at, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int (*open_real)(int, const char *, int, ...) = REAL(openat64);
  if (!dir_len) return open_real(at, name, flags, mode);
  resolve(at, name, path);
  if (!below(path) || !(flags & (O_CREAT | O_TRUNC))) return open_real(at, name, flags, mode);
  pthread_mutex_lock(&order);
  int fd = open_real(at, name, flags, mode);
  if (fd >= 0 && flags & O_CREAT) note('c', ino_of(fd), 0, path, 0, 0);
  if (fd >= 0 && flags & O_TRUNC) note('t', ino_of(fd), 0, path, 0, 0);
  pthread_mutex_unlock(&order);
  return fd;
}

#define OPEN(name, params, at, path)                                                                                      \
  int name params {                                                                                                       \
    va_list rest;                                                                                                         \
    va_start(rest, flags);                                                                                                \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                             \
    va_end(rest);                                                                                                         \
    return open_at(at, path, flags, mode);                                                                                \
  }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(openat, (int at, const char *path, int flags, ...), at, path)
OPEN(openat64, (int at, const char *path, int flags, ...), at, path)

int rename(const char *from, const char *to) {
  char old_path[PATH_MAX], new_path[PATH_MAX];
  if (!dir_len) return REAL(rename)(from, to);
  resolve(AT_FDCWD, from, old_path);
  resolve(AT_FDCWD, to, new_path);
  if (!below(new_path)) return REAL(rename)(from, to);
  pthread_mutex_lock(&order);
  int result = REAL(rename)(from, to);
  if (!result) note('r', 0, 0, old_path, new_path, strlen(new_path));
  pthread_mutex_unlock(&order);
  return result;
}

static int unlink_at(int at, const char *name, int flags) {
  char path[PATH_MAX];
  if (!dir_len) return REAL(unlinkat)(at, name, flags);
  resolve(at, name, path);
  if (!below(path)) return REAL(unlinkat)(at, name, flags);
  pthread_mutex_lock(&order);
  int result = REAL(unlinkat)(at, name, flags);
  if (!result) note('u', 0, 0, path, 0, 0);
  pthread_mutex_unlock(&order);
  return result;
}

int unlinkat(int at, const char *name, int flags) { return unlink_at(at, name, flags); }
int unlink(const char *name) { return unlink_at(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlink_at(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdir(const char *name, mode_t mode) {
  char path[PATH_MAX];
  int result = REAL(mkdir)(name, mode);
  if (!dir_len || result) return result;
  resolve(AT_FDCWD, name, path);
  if (below(path)) {
    pthread_mutex_lock(&order);
    note('m', 0, 0, path, 0, 0);
    pthread_mutex_unlock(&order);
  }
  return result;
}

#define ALLOCATE(call)                                                                                                    \
  do {                                                                                                                    \
    if (armed && fails(ALLOC)) {                                                                                          \
      errno = ENOMEM;                                                                                                     \
      return 0;                                                                                                           \
    }                                                                                                                     \
    return call;                                                                                                          \
  } while (0)

void *malloc(size_t len) { ALLOCATE(__libc_malloc(len)); }
void *calloc(size_t count, size_t len) { ALLOCATE(__libc_calloc(count, len)); }
void *realloc(void *old, size_t len) { ALLOCATE(__libc_realloc(old, len)); }
void *aligned_alloc(size_t align, size_t len) { ALLOCATE(__libc_memalign(align, len)); }

int posix_memalign(void **place, size_t align, size_t len) {
  if (armed && fails(ALLOC)) return ENOMEM;
  *place = __libc_memalign(align, len);
  return *place ? 0 : ENOMEM;
}
