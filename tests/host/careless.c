/*
 * A module as careless as they come, for the tests to find fault with: it believes every call, makes the
 * directory under its final name, takes another place when it cannot, talks to the terminal, and exports
 * whatever came of it. A harness that finds nothing wrong here would find nothing wrong anywhere.
 */
#include <fcntl.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <security/pam_modules.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

static const char TAG[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                          "# This file is a cache directory tag created by cargo.\n"
                          "# For information about cache directory tags see https://bford.info/cachedir/\n";

int pam_sm_open_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    const void *user = NULL;
    char directory[256], tag[300], variable[300];
    volatile char settings[40 * 1024];
    (void)flags;
    for (size_t i = 0; i < sizeof settings; i++)
        settings[i] = 0;
    if (argc != 1 || pam_get_item(pam, PAM_USER, &user) != PAM_SUCCESS)
        return PAM_SESSION_ERR;
    struct passwd *account = getpwnam(user);
    snprintf(directory, sizeof directory, "%s/%s", argv[0] + strlen("root="), account->pw_name);

    openlog("pam_cargo_target", LOG_PID, LOG_AUTHPRIV);
    if (access(directory, F_OK) != 0) {
        if (mkdir(directory, 0755) != 0) {
            perror("mkdir");
            syslog(LOG_ERR, "cannot make %s", directory);
            syslog(LOG_ERR, "trying another place");
            snprintf(directory, sizeof directory, "%s.%s", argv[0] + strlen("root="), account->pw_name);
            if (mkdir(directory, 0755) != 0)
                return PAM_SESSION_ERR;
        }
        snprintf(tag, sizeof tag, "%s/CACHEDIR.TAG", directory);
        int file = open(tag, O_WRONLY | O_CREAT, 0600);
        if (file < 0)
            return PAM_SESSION_ERR;
        if (write(file, TAG, strlen(TAG)) != (ssize_t)strlen(TAG))
            perror("write");
        close(file);
        if (chown(tag, account->pw_uid, account->pw_gid) != 0 || chmod(tag, 0644) != 0)
            perror("tag");
        if (chown(directory, account->pw_uid, account->pw_gid) != 0)
            perror("chown");
        if (chmod(directory, 0700) != 0)
            perror("chmod");
    }
    closelog();
    snprintf(variable, sizeof variable, "CARGO_TARGET_DIR=%s", directory);
    return pam_putenv(pam, variable);
}

int pam_sm_close_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
