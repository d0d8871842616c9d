/*
 * A PAM session module as one would write it in an afternoon, in three ways, none of them safe. The attacks
 * of tests/integration/attack.rs are run against it to show that they can win. Never install it.
 *
 *   way=path     all by path name, under the final name (the default)
 *   way=fd       the same on a held descriptor, no symbolic link followed, what is there judged first
 *   way=staging  by path name in ROOT/.staging, then renamed to the final name
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <security/pam_modules.h>

static const char tag[] = "Signature: 8a477f597d28d172789f06886806bc55\n";

static void write_tag(int directory, const char *path, const struct passwd *user)
{
    int fd = openat(directory, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return;
    if (write(fd, tag, strlen(tag)) > 0 && fchown(fd, user->pw_uid, user->pw_gid) == 0)
        fchmod(fd, 0644);
    close(fd);
}

static int provision(const char *path, const struct passwd *user)
{
    char tag_path[4096];

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return -1;
    if (chown(path, user->pw_uid, user->pw_gid) != 0 || chmod(path, 0700) != 0)
        return -1;
    snprintf(tag_path, sizeof tag_path, "%s/CACHEDIR.TAG", path);
    write_tag(AT_FDCWD, tag_path, user);
    return 0;
}

static int provision_by_fd(const char *path, const struct passwd *user)
{
    struct stat found;
    int made = mkdir(path, 0700) == 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    int good = -1;

    if (fd < 0)
        return -1;
    if (made) {
        if (fchown(fd, user->pw_uid, user->pw_gid) == 0 && fchmod(fd, 0700) == 0)
            good = 0;
        write_tag(fd, "CACHEDIR.TAG", user);
    } else if (fstat(fd, &found) == 0 && found.st_uid == user->pw_uid && !(found.st_mode & 022)) {
        good = 0;
    }
    close(fd);
    return good;
}

static int provision_in_staging(const char *root, const char *path, const struct passwd *user)
{
    char staging[4096], staged[4096 + 256];

    if (access(path, F_OK) == 0)
        return 0;
    snprintf(staging, sizeof staging, "%s/.staging", root);
    snprintf(staged, sizeof staged, "%s/%s", staging, user->pw_name);
    mkdir(staging, 0700);
    if (provision(staged, user) != 0)
        return -1;
    return rename(staged, path);
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *root = "", *way = "path", *name = NULL;
    char path[4096], variable[4096 + 32];
    struct passwd *user;
    int done;

    (void)flags;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "root=", 5) == 0)
            root = argv[i] + 5;
        else if (strncmp(argv[i], "way=", 4) == 0)
            way = argv[i] + 4;
    }
    if (pam_get_item(pamh, PAM_USER, (const void **)&name) != PAM_SUCCESS || name == NULL)
        return PAM_SUCCESS;
    user = getpwnam(name);
    if (user == NULL)
        return PAM_SUCCESS;

    snprintf(path, sizeof path, "%s/%s", root, user->pw_name);
    if (strcmp(way, "fd") == 0)
        done = provision_by_fd(path, user);
    else if (strcmp(way, "staging") == 0)
        done = provision_in_staging(root, path, user);
    else
        done = provision(path, user);
    if (done == 0) {
        snprintf(variable, sizeof variable, "CARGO_TARGET_DIR=%s", path);
        pam_putenv(pamh, variable);
    }
    return PAM_SUCCESS;
}

int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
