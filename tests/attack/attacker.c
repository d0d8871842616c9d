/*
 * attacker KIND NAME TARGET HOME
 *
 * What an ordinary user can do to a victim's login without end, as fast as the kernel lets them: the attacks
 * of tests/integration/attack.rs, which starts this as that user, in the directory to attack, and kills it.
 * NAME is the entry to attack. TARGET is a directory of root's that must stay as it is, with a file `shadow`
 * in it; HOME is one of the victim's, which is not the one to be used. What the attacker makes beside NAME is
 * called m.*.
 *
 * Standard input is a file that is mapped and holds two counts: the calls tried, and those that changed a name.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic uint64_t *counts;
static const char *name, *target, *home;
static char shadow[4096], missing[4096], above[4096];

/* Counts a call and returns its result. */
static int did(int result)
{
    atomic_fetch_add_explicit(&counts[0], 1, memory_order_relaxed);
    if (result == 0)
        atomic_fetch_add_explicit(&counts[1], 1, memory_order_relaxed);
    return result;
}

static int exchange(const char *a, const char *b)
{
    return did(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE));
}

static int touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd >= 0)
        close(fd);
    return did(fd >= 0 ? 0 : -1);
}

/* A directory and a symbolic link change places. */
static void exchange_link(void)
{
    if (exchange(name, "m.link") == 0 || errno != ENOENT)
        return;
    if (unlink("m.link") != 0)
        rmdir("m.link");
    did(mkdir(name, 0755));
    did(symlink(home, "m.link"));
}

/* Objects of every kind come and go. */
static void churn(void)
{
    did(symlink(target, name));
    did(unlink(name));
    did(mkdir(name, 0777));
    did(rmdir(name));
    touch(name);
    did(unlink(name));
    did(mkfifo(name, 0666));
    did(unlink(name));
    did(symlink(missing, name));
    did(unlink(name));
    did(symlink(home, name));
    did(unlink(name));
}

/* There is always a symbolic link, to one thing or another. */
static void planted(void)
{
    const char *const targets[] = { target, shadow, missing, home };
    static unsigned turn;

    did(symlink(targets[turn++ % 4], "m.link"));
    if (did(rename("m.link", name)) != 0)
        unlink("m.link");
}

/* Something else takes the name, and leaves it. */
static void sibling(void)
{
    did(rename("sibling", name));
    did(rename(name, "sibling"));
}

static void own_sibling(void)
{
    did(rename("mallory", name));
    did(rename(name, "mallory"));
}

/* Another user's directory, whole. */
static void other_user(void)
{
    if (exchange(name, "bob") != 0 && errno == ENOENT)
        mkdir(name, 0755);
}

/* NAME is a directory on the way to the victim's, and these are the attacker's copies of it. */
static void ancestor(void)
{
    exchange(name, "m.directory");
    exchange(name, "m.link");
}

/* What is being made in a directory that the attacker can read is taken out of it. */
static void take_from(const char *directory)
{
    char path[4096];
    DIR *entries = opendir(directory);

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        exchange(path, "m.given");
    }
    if (entries != NULL)
        closedir(entries);
}

/* The directory where others are made. */
static void staging(void)
{
    did(symlink(target, "m.staging/alice"));
    take_from(".staging");
    if (exchange(".staging", "m.staging") == 0 || errno != ENOENT)
        return;
    did(rename("m.staging", ".staging"));
    take_from(".staging");
    did(rename(".staging", "m.staging"));
    did(symlink(target, ".staging"));
    did(unlink(".staging"));
}

/* The attacker's own directory, while the attacker logs in. */
static void own_directory(void)
{
    exchange(name, "m.link");
    exchange(name, "m.directory");
}

/* The tag in it. The FIFO is open, so that whoever opens it does not wait for ever. */
static void own_tag(void)
{
    did(symlink(shadow, name));
    did(unlink(name));
    did(link("m.fifo", name));
    did(unlink(name));
    did(symlink(missing, name));
    did(rename(name, "m.link"));
    did(mkdir(name, 0777));
    did(rmdir(name));
    touch(name);
    exchange(name, "m.link");
    did(unlink(name));
    did(unlink("m.link"));
}

static const struct {
    const char *name;
    void (*turn)(void);
} kinds[] = {
    { "exchange-link", exchange_link },
    { "churn", churn },
    { "planted", planted },
    { "sibling", sibling },
    { "own-sibling", own_sibling },
    { "other-user", other_user },
    { "ancestor", ancestor },
    { "staging", staging },
    { "own-directory", own_directory },
    { "own-tag", own_tag },
};

/* What the turns above start from; where that cannot be made, they can do the less. */
static void prepare(const char *kind)
{
    if (strcmp(kind, "staging") == 0) {
        mkdir("m.staging", 0777);
        mkdir("m.given", 0777);
        touch("m.given/planted");
    } else if (strcmp(kind, "ancestor") == 0) {
        mkdir("m.directory", 0755);
        symlink(target, "m.directory/alice");
        symlink(above, "m.link");
    } else if (strcmp(kind, "own-directory") == 0) {
        mkdir("m.directory", 0755);
        symlink(shadow, "m.directory/CACHEDIR.TAG");
        symlink(target, "m.link");
    } else if (strcmp(kind, "own-tag") == 0) {
        mkfifo("m.fifo", 0666);
        open("m.fifo", O_RDWR | O_NONBLOCK);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5 || geteuid() == 0) {
        fprintf(stderr, "usage, as an ordinary user: attacker KIND NAME TARGET HOME\n");
        return 2;
    }
    name = argv[2];
    target = argv[3];
    home = argv[4];
    snprintf(shadow, sizeof shadow, "%s/shadow", target);
    snprintf(missing, sizeof missing, "%s/made-through-a-link", target);
    snprintf(above, sizeof above, "%s/..", target);
    counts = mmap(NULL, 2 * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 0);
    if (counts == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    umask(0);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, argv[1]) == 0) {
            prepare(argv[1]);
            for (;;)
                kinds[i].turn();
        }
    }
    fprintf(stderr, "no such attack: %s\n", argv[1]);
    return 2;
}
