/* A disk that fails: preloaded, it lets calls of the C library that the library under test makes fail for chosen files.
 *
 *   FAIL=CALL:PART:ERROR:FROM[:TIMES][;...]  CALL (open, write, fsync, flock) fails with the number ERROR for files in whose path PART
 *                                    occurs, from the FROM-th such call on (1 is the first), TIMES times or always.
 *   ROOM=DIRECTORY:BYTES             The files in DIRECTORY and its folders can take BYTES together. A write of which only a
 *                                    part fits writes that part; one of which nothing does fails with ENOSPC, after a while
 *                                    where the file is one that is to be renamed: a disk takes its time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define RULES 8
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name)

static struct { char call[16], part[128]; int error, from, times, seen; } rules[RULES];
static int rule_count = -1;
static long long used;

static void read_rules(void)
{
    char *text = getenv("FAIL");
    int count = 0;
    while (text && *text && count < RULES) {
        rules[count].times = 1 << 30;
        if (sscanf(text, "%15[^:]:%127[^:]:%d:%d:%d", rules[count].call, rules[count].part, &rules[count].error, &rules[count].from, &rules[count].times) >= 4) count++;
        text = strchr(text, ';');
        if (text) text++;
    }
    rule_count = count;
}

static int fails(const char *call, const char *path)
{
    if (rule_count < 0) read_rules();
    for (int i = 0; i < rule_count; i++) {
        if (strcmp(rules[i].call, call) || !strstr(path, rules[i].part)) continue;
        int place = __sync_add_and_fetch(&rules[i].seen, 1) - rules[i].from;
        if (place < 0 || place >= rules[i].times) continue;
        errno = rules[i].error;
        return 1;
    }
    return 0;
}

static const char *path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int add(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)path, (void)ftw;
    if (type == FTW_F) used += status->st_size;
    return 0;
}

/* How many bytes of a write have room; -1 where it fails. */
static ssize_t room_for(int fd, const char *path, size_t count, off_t end)
{
    char directory[4096];
    long long bytes;
    char *room = getenv("ROOM");
    if (!room || sscanf(room, "%4095[^:]:%lld", directory, &bytes) != 2 || strncmp(path, directory, strlen(directory))) return (ssize_t)count;
    static int busy;
    while (__sync_lock_test_and_set(&busy, 1)) usleep(100);
    used = 0;
    nftw(directory, add, 16, FTW_PHYS);
    long long left = bytes - used;
    __sync_lock_release(&busy);
    struct stat status;
    fstat(fd, &status);
    long long growth = (long long)end - status.st_size;
    if (growth <= left) return (ssize_t)count;
    long long fits = (long long)count - (growth - left);
    if (fits > 0) return (ssize_t)fits;
    if (strstr(path, ".tmp")) usleep(100000);
    errno = ENOSPC;
    return -1;
}

static ssize_t write_at(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *bytes, size_t count, off_t offset)
{
    char path[4096];
    path_of(fd, path);
    if (fails("write", path)) return -1;
    ssize_t fitting = room_for(fd, path, count, offset + (off_t)count);
    return fitting < 0 ? -1 : real(fd, bytes, (size_t)fitting, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    REAL(pwrite);
    return write_at(real, fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset)
{
    REAL(pwrite);
    return write_at(real, fd, bytes, count, offset);
}

int fsync(int fd)
{
    char path[4096];
    REAL(fsync);
    return fails("fsync", path_of(fd, path)) ? -1 : real(fd);
}

int flock(int fd, int operation)
{
    char path[4096];
    REAL(flock);
    return fails("flock", path_of(fd, path)) ? -1 : real(fd, operation);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails("open", path) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL(open);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails("open", path) ? -1 : real(path, flags, mode);
}
