/* Records what a process does to the files below one directory, in order: preloaded into the
 * process under test.
 *
 * POWER_CUT_DIR is the directory, POWER_CUT_TRACE the file that the record is appended to. Each
 * entry is: kind (1 byte), length of the path (4), of the data (4), offset (8), path, data;
 * numbers in the machine's own order. Kinds: W write, T truncate (offset is the new length), S
 * everything of the file so far is on the disk, U unlink, R rename (data is the new path). What
 * SQLite keeps in shared memory (-shm) is no durable file and left out.
 *
 * One lock is held over each operation and its entry, so that the order of entries is the order
 * of operations. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_FDS = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[MAX_FDS];
static int trace = -1;
static const char *dir;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("POWER_CUT_TRACE");

	dir = getenv("POWER_CUT_DIR");
	if (path == NULL || dir == NULL)
		return;
	trace = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (trace < 0)
		abort();
}

static int is_watched(const char *path)
{
	size_t length = strlen(path);

	return trace >= 0 && strncmp(path, dir, strlen(dir)) == 0 &&
	       !(length > 4 && strcmp(path + length - 4, "-shm") == 0);
}

static void entry(char kind, const char *path, const void *data, size_t length, uint64_t offset)
{
	uint32_t path_length = strlen(path), data_length = length;
	struct iovec parts[] = {
		{ &kind, 1 }, { &path_length, 4 }, { &data_length, 4 }, { &offset, 8 },
		{ (void *)path, path_length }, { (void *)data, length },
	};

	if (REAL(writev)(trace, parts, 6) != (ssize_t)(17 + path_length + length))
		abort();
}

/* The path of a watched file that is open. */
static const char *watched(int fd)
{
	return fd >= 0 && fd < MAX_FDS ? paths[fd] : NULL;
}

static int opened(int fd, const char *path, int flags)
{
	char absolute[PATH_MAX];

	if (fd < 0 || fd >= MAX_FDS || realpath(path, absolute) == NULL || !is_watched(absolute))
		return fd;
	pthread_mutex_lock(&lock);
	free(paths[fd]);
	paths[fd] = strdup(absolute);
	if ((flags & O_TRUNC) != 0)
		entry('T', absolute, "", 0, 0);
	pthread_mutex_unlock(&lock);
	return fd;
}

#define OPEN(name)                                                   \
	int name(const char *path, int flags, ...)                   \
	{                                                            \
		va_list arguments;                                   \
		va_start(arguments, flags);                          \
		mode_t mode = va_arg(arguments, mode_t);             \
		va_end(arguments);                                   \
		return opened(REAL(name)(path, flags, mode), path, flags); \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                 \
	int name(int at, const char *path, int flags, ...)           \
	{                                                            \
		va_list arguments;                                   \
		va_start(arguments, flags);                          \
		mode_t mode = va_arg(arguments, mode_t);             \
		va_end(arguments);                                   \
		return opened(REAL(name)(at, path, flags, mode), path, flags); \
	}
OPENAT(openat)
OPENAT(openat64)

int close(int fd)
{
	pthread_mutex_lock(&lock);
	if (watched(fd) != NULL) {
		free(paths[fd]);
		paths[fd] = NULL;
	}
	int result = REAL(close)(fd);
	pthread_mutex_unlock(&lock);
	return result;
}

#define PWRITE(name, offset_type)                                            \
	ssize_t name(int fd, const void *data, size_t length, offset_type offset) \
	{                                                                    \
		if (watched(fd) == NULL)                                     \
			return REAL(name)(fd, data, length, offset);         \
		pthread_mutex_lock(&lock);                                   \
		ssize_t written = REAL(name)(fd, data, length, offset);      \
		if (written > 0)                                             \
			entry('W', paths[fd], data, written, offset);        \
		pthread_mutex_unlock(&lock);                                 \
		return written;                                              \
	}
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length)
{
	if (watched(fd) == NULL)
		return REAL(write)(fd, data, length);
	pthread_mutex_lock(&lock);
	ssize_t written = REAL(write)(fd, data, length);
	if (written > 0)
		entry('W', paths[fd], data, written, lseek(fd, 0, SEEK_CUR) - written);
	pthread_mutex_unlock(&lock);
	return written;
}

#define TRUNCATE(name, length_type)                      \
	int name(int fd, length_type length)             \
	{                                                \
		if (watched(fd) == NULL)                 \
			return REAL(name)(fd, length);   \
		pthread_mutex_lock(&lock);               \
		int result = REAL(name)(fd, length);     \
		if (result == 0)                         \
			entry('T', paths[fd], "", 0, length); \
		pthread_mutex_unlock(&lock);             \
		return result;                           \
	}
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                       \
	int name(int fd)                                 \
	{                                                \
		if (watched(fd) == NULL)                 \
			return REAL(name)(fd);           \
		pthread_mutex_lock(&lock);               \
		int result = REAL(name)(fd);             \
		if (result == 0)                         \
			entry('S', paths[fd], "", 0, 0); \
		pthread_mutex_unlock(&lock);             \
		return result;                           \
	}
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path)
{
	char absolute[PATH_MAX];
	int is_ours = realpath(path, absolute) != NULL && is_watched(absolute);

	pthread_mutex_lock(&lock);
	int result = REAL(unlink)(path);
	if (result == 0 && is_ours)
		entry('U', absolute, "", 0, 0);
	pthread_mutex_unlock(&lock);
	return result;
}

/* A second name counts as the only one: whoever links a new file into place removes its first name.
 * What is relative to a directory that is open is not told from what is relative to this one. */
#define MOVE(name, parameters, arguments)                                               \
	int name parameters                                                             \
	{                                                                               \
		char old_path[PATH_MAX], new_path[PATH_MAX];                            \
		int is_ours = realpath(from, old_path) != NULL && is_watched(old_path); \
                                                                                        \
		pthread_mutex_lock(&lock);                                              \
		int result = REAL(name) arguments;                                      \
		if (result == 0 && is_ours && realpath(to, new_path) != NULL)           \
			entry('R', old_path, new_path, strlen(new_path), 0);            \
		pthread_mutex_unlock(&lock);                                            \
		return result;                                                          \
	}
MOVE(rename, (const char *from, const char *to), (from, to))
MOVE(linkat, (int at, const char *from, int to_at, const char *to, int flags), (at, from, to_at, to, flags))
