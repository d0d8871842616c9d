/*
 * waiting CONFDIR SERVICE USER: a PAM application that looks for children which are not its own.
 *
 * It handles SIGCHLD and has no child. It opens a session with CARGO_TARGET_DIR=/old in its environment, asks
 * wait(2) for a child, and prints, one a line:
 *
 *   open ANSWER             libpam's answer to pam_open_session, and the session's environment after it
 *   milliseconds COUNT      how long that took
 *   SIGCHLD COUNT           how often the handler was called
 *   wait ERRNO|PID          what wait(2) found
 *   descriptors N N         how many were open before, and are after
 *
 * Then it stays until its stdin is at an end, and exits. With SERVICE "control" it has a child of its own that
 * ends meanwhile, and a descriptor more: this is how something to be found looks.
 */
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void handle(int signal)
{
    (void)signal;
    handled++;
}

/* Nothing may be asked: a session that prompts would hang a login. */
static int refuse(int count, const struct pam_message **messages, struct pam_response **answers, void *data)
{
    (void)count, (void)messages, (void)answers, (void)data;
    return PAM_CONV_ERR;
}

static int descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        err(2, "/proc/self/fd");
    int count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count - 3; /* ".", "..", and the directory's own */
}

static long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void be_found(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child < 0 || dup(0) < 0)
        err(2, "control");
    while (handled == 0)
        usleep(1000);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        errx(2, "usage: waiting CONFDIR SERVICE USER");
    struct sigaction action = {.sa_handler = handle};
    if (sigaction(SIGCHLD, &action, NULL) != 0)
        err(2, "sigaction");

    struct pam_conv conversation = {refuse, NULL};
    pam_handle_t *pam = NULL;
    int answer = pam_start_confdir(argv[2], argv[3], &conversation, argv[1], &pam);
    if (answer != PAM_SUCCESS)
        errx(2, "pam_start_confdir answered %d", answer);
    if (pam_putenv(pam, "CARGO_TARGET_DIR=/old") != PAM_SUCCESS)
        errx(2, "pam_putenv");

    int before = descriptors();
    long begin = milliseconds();
    answer = pam_open_session(pam, 0);
    long took = milliseconds() - begin;
    if (strcmp(argv[2], "control") == 0)
        be_found();
    int after = descriptors();

    printf("open %d\n", answer);
    char **environment = pam_getenvlist(pam);
    for (int i = 0; environment != NULL && environment[i] != NULL; i++) {
        puts(environment[i]);
        free(environment[i]);
    }
    free(environment);
    printf("milliseconds %ld\n", took);
    printf("SIGCHLD %d\n", (int)handled);
    pid_t found = wait(NULL);
    if (found < 0)
        printf("wait %s\n", errno == ECHILD ? "ECHILD" : strerror(errno));
    else
        printf("wait %d\n", (int)found);
    printf("descriptors %d %d\n", before, after);
    fflush(stdout);

    while (getchar() != EOF)
        ;
    if (answer == PAM_SUCCESS)
        pam_close_session(pam, 0);
    pam_end(pam, PAM_SUCCESS);
    return 0;
}
