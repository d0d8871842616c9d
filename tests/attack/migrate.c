/* Somebody who works in a tree while root makes it another user's.
 *
 * usage: migrate link|swap DIR VICTIM_FILE VICTIM_DIR
 *
 * Goes into DIR, and from then on names nothing but what is in it: whatever becomes of DIR's own path, this
 * process stays there. `link` gives VICTIM_FILE new names, and takes them away again; `swap` exchanges its own
 * files and directories for symbolic links to the victim's, as fast as it can. On SIGTERM it says how often
 * that worked, and ends. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES = 24 };

static volatile sig_atomic_t told_to_end;

static void end(int signal)
{
	(void)signal;
	told_to_end = 1;
}

static int linked(const char *victim, int i)
{
	char name[32];
	snprintf(name, sizeof name, "link-%d", i);
	if (unlink(name) == 0)
		return 1;
	return link(victim, name) == 0;
}

static void prepare_swap(const char *victim, const char *victim_dir)
{
	for (int i = 0; i < NAMES; i++) {
		char name[32];
		snprintf(name, sizeof name, "file-%d", i);
		int fd = open(name, O_WRONLY | O_CREAT, 0664);
		if (fd >= 0)
			close(fd);
		snprintf(name, sizeof name, "to-file-%d", i);
		symlink(victim, name);
		snprintf(name, sizeof name, "dir-%d", i);
		mkdir(name, 0775);
		snprintf(name, sizeof name, "dir-%d/inner", i);
		fd = open(name, O_WRONLY | O_CREAT, 0664);
		if (fd >= 0)
			close(fd);
		snprintf(name, sizeof name, "to-dir-%d", i);
		symlink(victim_dir, name);
	}
}

static int swapped(int i)
{
	char mine[32], other[32];
	snprintf(mine, sizeof mine, "file-%d", i);
	snprintf(other, sizeof other, "to-file-%d", i);
	int done = renameat2(AT_FDCWD, mine, AT_FDCWD, other, RENAME_EXCHANGE) == 0;
	snprintf(mine, sizeof mine, "dir-%d", i);
	snprintf(other, sizeof other, "to-dir-%d", i);
	return done + (renameat2(AT_FDCWD, mine, AT_FDCWD, other, RENAME_EXCHANGE) == 0);
}

int main(int argc, char **argv)
{
	if (argc != 5 || chdir(argv[2]) != 0) {
		perror("migrate");
		return 2;
	}
	signal(SIGTERM, end);
	umask(002);
	int swap = strcmp(argv[1], "swap") == 0;
	if (swap)
		prepare_swap(argv[3], argv[4]);
	puts("ready");
	fflush(stdout);

	long done = 0;
	for (int i = 0; !told_to_end; i = (i + 1) % NAMES)
		done += swap ? swapped(i) : linked(argv[3], i);
	printf("%ld\n", done);
	return 0;
}
