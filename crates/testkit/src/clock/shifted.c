/* Another wall clock for a process and all that it starts: preloaded, with
 * DOVECAST_CLOCK_SHIFT_SECONDS in the environment.
 *
 * What tells the time tells it so many seconds later, files have been written at such times, and
 * a wait until such a time ends when it has come. Monotonic time is left alone, and so are waits
 * for a while. A function that takes times of either clock gets a wall-clock time if it is later
 * than the real wall clock by half of the shift: the shift is days, a wait is not.
 *
 * libfaketime does not know the conditions of C11, which librdkafka has: its waits never end. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static time_t shift;

__attribute__((constructor)) static void begin(void)
{
	const char *seconds = getenv("DOVECAST_CLOCK_SHIFT_SECONDS");

	if (seconds != NULL)
		shift = strtoll(seconds, NULL, 10);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_wall_clock(clockid_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

/* The system call itself: nothing of this library stands between. */
static struct timespec real_now(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
	return now;
}

static time_t to_real(time_t seconds)
{
	return shift > 0 && seconds > real_now().tv_sec + shift / 2 ? seconds - shift : seconds;
}

static struct timespec real_time(const struct timespec *time)
{
	struct timespec real = *time;

	/* UTIME_NOW and UTIME_OMIT are no times. */
	if (real.tv_nsec < 1000000000)
		real.tv_sec = to_real(real.tv_sec);
	return real;
}

/* What tells the time. */

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	int result;

	if (next == NULL)
		next = NEXT(clock_gettime);
	result = next(clock, now);
	if (result == 0 && is_wall_clock(clock))
		now->tv_sec += shift;
	return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
	struct timespec time;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &time);
	now->tv_sec = time.tv_sec;
	now->tv_usec = time.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME_COARSE, &time);
	if (now != NULL)
		*now = time.tv_sec;
	return time.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
	return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* What waits until a time. */

#if defined(__x86_64__)
#define COND_VERSION "GLIBC_2.3.2"
#else
#define COND_VERSION "GLIBC_2.17"
#endif

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec real = real_time(until);

	/* Without its version it would be the one of conditions of another size. */
	if (next == NULL)
		next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", COND_VERSION);
	return next(cond, mutex, &real);
}

#define WAITS(function, type, type_name)                                  \
	int function(type *type_name, const struct timespec *until)       \
	{                                                                 \
		struct timespec real = real_time(until);                  \
                                                                          \
		return NEXT(function)(type_name, &real);                  \
	}

WAITS(sem_timedwait, sem_t, semaphore)
WAITS(mtx_timedlock, mtx_t, mutex)
WAITS(pthread_mutex_timedlock, pthread_mutex_t, mutex)
WAITS(pthread_rwlock_timedrdlock, pthread_rwlock_t, lock)
WAITS(pthread_rwlock_timedwrlock, pthread_rwlock_t, lock)

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
	struct timespec real = real_time(until);

	return NEXT(pthread_cond_clockwait)(cond, mutex, clock, &real);
}

/* librdkafka has the conditions of C11. */
int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until)
{
	struct timespec real = real_time(until);

	return NEXT(cnd_timedwait)(cond, mutex, &real);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
	struct timespec real = flags & TIMER_ABSTIME ? real_time(until) : *until;

	return NEXT(clock_nanosleep)(clock, flags, &real, left);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	struct itimerspec real = *new;

	if (flags & TFD_TIMER_ABSTIME)
		real.it_value = real_time(&new->it_value);
	return NEXT(timerfd_settime)(fd, flags, &real, old);
}

/* Times of files. */

#define LOOKS(function, parameters, arguments)                 \
	int function parameters                                           \
	{                                                                 \
		int result = NEXT(function) arguments;                    \
                                                                          \
		if (result == 0) {                                        \
			found->st_atim.tv_sec += shift;                   \
			found->st_mtim.tv_sec += shift;                   \
			found->st_ctim.tv_sec += shift;                   \
		}                                                         \
		return result;                                            \
	}

LOOKS(stat, (const char *path, struct stat *found), (path, found))
LOOKS(lstat, (const char *path, struct stat *found), (path, found))
LOOKS(fstat, (int fd, struct stat *found), (fd, found))
LOOKS(fstatat, (int dir, const char *path, struct stat *found, int flags), (dir, path, found, flags))
LOOKS(stat64, (const char *path, struct stat64 *found), (path, found))
LOOKS(lstat64, (const char *path, struct stat64 *found), (path, found))
LOOKS(fstat64, (int fd, struct stat64 *found), (fd, found))
LOOKS(fstatat64, (int dir, const char *path, struct stat64 *found, int flags), (dir, path, found, flags))

int statx(int dir, const char *path, int flags, unsigned int mask, struct statx *found)
{
	int result = NEXT(statx)(dir, path, flags, mask, found);

	if (result == 0) {
		found->stx_atime.tv_sec += shift;
		found->stx_btime.tv_sec += shift;
		found->stx_ctime.tv_sec += shift;
		found->stx_mtime.tv_sec += shift;
	}
	return result;
}

int utimensat(int dir, const char *path, const struct timespec times[2], int flags)
{
	struct timespec real[2];

	if (times == NULL)
		return NEXT(utimensat)(dir, path, NULL, flags);
	real[0] = real_time(&times[0]);
	real[1] = real_time(&times[1]);
	return NEXT(utimensat)(dir, path, real, flags);
}

int futimens(int fd, const struct timespec times[2])
{
	struct timespec real[2];

	if (times == NULL)
		return NEXT(futimens)(fd, NULL);
	real[0] = real_time(&times[0]);
	real[1] = real_time(&times[1]);
	return NEXT(futimens)(fd, real);
}

int utimes(const char *path, const struct timeval times[2])
{
	struct timeval real[2];

	if (times == NULL)
		return NEXT(utimes)(path, NULL);
	for (int i = 0; i < 2; i++) {
		real[i].tv_sec = to_real(times[i].tv_sec);
		real[i].tv_usec = times[i].tv_usec;
	}
	return NEXT(utimes)(path, real);
}

int utime(const char *path, const struct utimbuf *times)
{
	struct utimbuf real;

	if (times == NULL)
		return NEXT(utime)(path, NULL);
	real.actime = to_real(times->actime);
	real.modtime = to_real(times->modtime);
	return NEXT(utime)(path, &real);
}
