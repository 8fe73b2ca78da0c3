/* side-by-side ROUNDS [prepare COMMAND] -- NAME PROGRAM ARG... [-- NAME PROGRAM ARG...]...
 * Runs the programs in turn, one after the other, ROUNDS times, so that whatever else the machine does meets them all alike.
 * `prepare` is a shell command that runs, not counted, before each of them. Prints of each the median of its times from fork to
 * the end, the quartiles, the median as a ratio to that of the first, and the largest peak of its memory (wait4's ru_maxrss).
 *   side-by-side rmdir DIR     the floor: removes DIR and all below with nothing but opendir, readdir and rmdir
 *   side-by-side sleepers N DIR...   N processes that sleep in these groups, in turn; prints nothing, they live on
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16 };
static struct { char *name, **argv; double *ms; long peak; int status; } program[MOST];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void run(int which, int round) {
    double start = now();
    pid_t pid = vfork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        execvp(program[which].argv[0], program[which].argv);
        _exit(127);
    }
    struct rusage use;
    if (wait4(pid, &program[which].status, 0, &use) != pid) exit(2);
    program[which].ms[round] = now() - start;
    if (use.ru_maxrss > program[which].peak) program[which].peak = use.ru_maxrss;
}

static int by_size(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static void rmdir_all(int parent, const char *name) {
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0) return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') rmdir_all(fd, entry->d_name);
    if (dir) closedir(dir);
    if (unlinkat(parent, name, AT_REMOVEDIR)) perror(name), exit(1);
}

static int sleepers(int count, int dirs, char **dir) {
    for (int i = 0; i < count; i++) {
        if (fork()) continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/cgroup.procs", dir[i % dirs]);
        int fd = open(path, O_WRONLY);
        if (fd < 0 || write(fd, "0", 1) != 1) perror(path), _exit(1);
        setsid(), close(0), close(1), close(2);
        for (;;) pause();
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "rmdir")) return rmdir_all(AT_FDCWD, argv[2]), 0;
    if (argc > 3 && !strcmp(argv[1], "sleepers")) return sleepers(atoi(argv[2]), argc - 3, argv + 3);
    int rounds = argc > 1 ? atoi(argv[1]) : 0, programs = 0, at = 2;
    char *prepare = argc > 3 && !strcmp(argv[2], "prepare") ? argv[3] : NULL;
    if (prepare) at = 4;
    for (; at < argc && !strcmp(argv[at], "--") && programs < MOST; programs++) {
        argv[at] = NULL;      /* ends the one before */
        program[programs].name = argv[at + 1], program[programs].argv = argv + at + 2;
        program[programs].ms = calloc(rounds, sizeof(double));
        for (at++; at < argc && strcmp(argv[at], "--"); at++);
    }
    if (rounds < 1 || programs < 1 || at != argc) return fputs("side-by-side: see its source\n", stderr), 2;
    for (int round = 0; round < rounds; round++)
        for (int which = 0; which < programs; which++) {
            if (prepare && system(prepare)) return fputs("side-by-side: prepare failed\n", stderr), 2;
            run(which, round);
        }
    double first = 0;
    printf("%-28s %10s %10s %10s %7s %9s %s\n", "", "median ms", "quartile", "quartile", "ratio", "peak KiB", "status");
    for (int which = 0; which < programs; which++) {
        double *ms = program[which].ms;
        qsort(ms, rounds, sizeof(double), by_size);
        if (!which) first = ms[rounds / 2];
        printf("%-28s %10.3f %10.3f %10.3f %7.2f %9ld %d\n", program[which].name, ms[rounds / 2], ms[rounds / 4], ms[rounds * 3 / 4],
               ms[rounds / 2] / first, program[which].peak, WIFEXITED(program[which].status) ? WEXITSTATUS(program[which].status) : 128);
    }
    return 0;
}
