/*
 * measure CONFDIR PLAN COLD WARM: a PAM application that measures what sessions cost.
 *
 * PLAN is a file of lines "SERVICE USER [PATH...]": each is measured COLD times in a process of its own (fork,
 * pam_start_confdir, pam_open_session, pam_close_session, pam_end, exit, wait), then WARM times in one process that
 * holds a transaction of each service open, so that every module stays loaded. The lines are interleaved: each round
 * measures every line once, in a new order, so that whatever else the machine does, and what one line leaves in its
 * caches, meets all of them alike. What stands at the PATHs is removed before each measurement.
 *
 * Prints for each line, separated by tabs:
 *
 *   SERVICE USER  and for cold, then for warm:  median  p99  overhead
 *
 * in nanoseconds. The overhead is the median of the differences to the first line in the same round. Of COLD or
 * WARM 0 nothing is measured, and zeros are printed.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 64, PATHS = 4 };

struct line {
    char *service, *user, *paths[PATHS];
    int64_t *times;
};

static struct line lines[LINES];
static int count;
static const char *confdir;

static int refuse(int messages, const struct pam_message **message, struct pam_response **answer, void *data)
{
    (void)messages, (void)message, (void)answer, (void)data;
    return PAM_CONV_ERR;
}

static const struct pam_conv conversation = {refuse, NULL};

static void must(const char *what, const struct line *line, int answer)
{
    if (answer != PAM_SUCCESS)
        errx(1, "%s of %s for %s answered %d", what, line->service, line->user, answer);
}

static void whole_session(const struct line *line)
{
    pam_handle_t *pam = NULL;
    must("pam_start_confdir", line, pam_start_confdir(line->service, line->user, &conversation, confdir, &pam));
    must("pam_open_session", line, pam_open_session(pam, 0));
    must("pam_close_session", line, pam_close_session(pam, 0));
    must("pam_end", line, pam_end(pam, PAM_SUCCESS));
}

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *where)
{
    (void)found, (void)kind, (void)where;
    return remove(path);
}

static void clear(const struct line *line)
{
    for (int i = 0; i < PATHS && line->paths[i]; i++)
        nftw(line->paths[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void cold(const struct line *line)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        whole_session(line);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        errx(1, "a session of %s for %s failed", line->service, line->user);
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t quantile(const int64_t *times, int rounds, int hundredths)
{
    int64_t sorted[rounds];
    memcpy(sorted, times, sizeof sorted);
    qsort(sorted, rounds, sizeof *sorted, compare);
    return sorted[(int64_t)(rounds - 1) * hundredths / 100];
}

static int64_t overhead(const struct line *line, int rounds)
{
    int64_t more[rounds];
    for (int i = 0; i < rounds; i++)
        more[i] = line->times[i] - lines[0].times[i];
    return quantile(more, rounds, 50);
}

/* The same orders in every run. */
static void shuffle(int *order)
{
    static uint32_t state = 1;
    for (int i = count - 1; i > 0; i--) {
        state = state * 1664525 + 1013904223;
        int j = (state >> 16) % (i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

static void measure(void (*session)(const struct line *), int rounds, int64_t result[LINES][3])
{
    int order[LINES];
    for (int i = 0; i < count; i++) {
        order[i] = i;
        if (!(lines[i].times = malloc((rounds + 1) * sizeof(int64_t))))
            err(1, "malloc");
    }
    for (int round = -1; round < rounds; round++) {
        shuffle(order);
        for (int i = 0; i < count; i++) {
            struct line *line = &lines[order[i]];
            clear(line);
            int64_t begun = now();
            session(line);
            /* The first round, in which files come into memory, does not count. */
            line->times[round < 0 ? rounds : round] = now() - begun;
        }
    }
    for (int i = 0; i < count && rounds; i++) {
        result[i][0] = quantile(lines[i].times, rounds, 50);
        result[i][1] = quantile(lines[i].times, rounds, 99);
        result[i][2] = overhead(&lines[i], rounds);
    }
    for (int i = 0; i < count; i++)
        free(lines[i].times);
}

static void read_plan(const char *path)
{
    static char text[16384];
    FILE *file = fopen(path, "re");
    char *rest = text, *words;
    if (!file || fread(text, 1, sizeof text - 1, file) == 0 || fclose(file) != 0)
        err(1, "%s", path);
    while ((words = strsep(&rest, "\n")) && *words) {
        struct line *line = &lines[count++];
        if (count == LINES || !(line->service = strsep(&words, " ")) || !(line->user = strsep(&words, " ")))
            errx(1, "%s: line %d is too much, or too little", path, count);
        for (int i = 0; i < PATHS && words; i++)
            line->paths[i] = strsep(&words, " ");
    }
}

int main(int argc, char **argv)
{
    static int64_t results[2][LINES][3];
    if (argc != 5)
        errx(2, "usage: measure CONFDIR PLAN COLD WARM");
    confdir = argv[1];
    read_plan(argv[2]);
    /* Every PAM application asks NSS who its user is, long before the session. */
    getpwnam("root");
    getgrnam("root");
    if (atoi(argv[3]) > 0)
        measure(cold, atoi(argv[3]), results[0]);

    pam_handle_t *held[LINES];
    for (int i = 0; i < count; i++) {
        must("pam_start_confdir", &lines[i], pam_start_confdir(lines[i].service, lines[i].user, &conversation, confdir, &held[i]));
        must("pam_open_session", &lines[i], pam_open_session(held[i], 0));
    }
    if (atoi(argv[4]) > 0)
        measure(whole_session, atoi(argv[4]), results[1]);
    for (int i = 0; i < count; i++)
        pam_end(held[i], PAM_SUCCESS);

    for (int i = 0; i < count; i++) {
        printf("%s\t%s", lines[i].service, lines[i].user);
        for (int way = 0; way < 2; way++)
            for (int j = 0; j < 3; j++)
                printf("\t%ld", (long)results[way][i][j]);
        putchar('\n');
    }
    return 0;
}
