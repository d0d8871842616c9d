/* The tree that benches/migrate measures with, and how much memory a command takes.
 *
 * usage: migrate-tree make DIR FILES BYTES
 *        migrate-tree peak COMMAND [ARG...]
 *
 * `make` lays out a target directory as cargo does: per unit a fingerprint of small files, what its build script
 * wrote, a library with its metadata, dependency list and objects, and a second name for some. The sizes follow
 * those of a team's cache: most files are small, few take most of the space. The content is noise, so that no
 * file system can make it smaller; with 0 BYTES all files are empty. `peak` runs the command and prints the
 * most memory it ever held, in KiB. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Files of one unit, and which share of its bytes each has, in thousandths. */
static const struct {
	const char *name;
	int share;
} FILES[] = {
	{ "debug/.fingerprint/%u/invoked.timestamp", 0 },
	{ "debug/.fingerprint/%u/lib", 0 },
	{ "debug/.fingerprint/%u/lib.json", 1 },
	{ "debug/.fingerprint/%u/dep-lib", 2 },
	{ "debug/build/%u/output", 1 },
	{ "debug/build/%u/root-output", 0 },
	{ "debug/build/%u/stderr", 0 },
	{ "debug/build/%u/out/bindings.rs", 20 },
	{ "debug/deps/%u.d", 2 },
	{ "debug/deps/lib%u.rlib", 400 },
	{ "debug/deps/lib%u.rmeta", 200 },
	{ "debug/incremental/%u/s/dep-graph.bin", 60 },
	{ "debug/incremental/%u/s/query-cache.bin", 60 },
	{ "debug/incremental/%u/s/work-products.bin", 4 },
	{ "debug/incremental/%u/s/a.o", 70 },
	{ "debug/incremental/%u/s/b.o", 50 },
	{ "debug/incremental/%u/s/c.o", 50 },
	{ "debug/incremental/%u/s/d.o", 40 },
	{ "debug/incremental/%u/s/e.o", 40 },
	{ "debug/incremental/%u.lock", 0 },
};
enum { OF_UNIT = sizeof FILES / sizeof *FILES };

static char noise[1 << 20];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0775);
		*slash = '/';
	}
}

static void write_file(const char *path, uint64_t size, unsigned seed)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0664);
	if (fd < 0)
		fail(path);
	/* Each file begins elsewhere in the noise, so that no two are the same. */
	uint64_t at = (uint64_t)seed * 4099 % (sizeof noise / 2);
	while (size > 0) {
		size_t part = size < sizeof noise - at ? size : sizeof noise - at;
		ssize_t done = write(fd, noise + at, part);
		if (done <= 0)
			fail(path);
		size -= done;
		at = 0;
	}
	close(fd);
}

static int make(const char *top, unsigned files, uint64_t bytes)
{
	uint64_t state = 88172645463325252u;
	for (size_t i = 0; i + 8 <= sizeof noise; i += 8) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		memcpy(noise + i, &state, 8);
	}
	umask(0);
	char path[4096], name[256], second[4096 + 8];
	unsigned units = files / OF_UNIT;
	for (unsigned unit = 0; unit < units; unit++) {
		for (int i = 0; i < OF_UNIT; i++) {
			snprintf(name, sizeof name, FILES[i].name, unit);
			snprintf(path, sizeof path, "%s/%s", top, name);
			make_parents(path);
			uint64_t of_unit = bytes / units;
			uint64_t size = of_unit * FILES[i].share / 1000;
			write_file(path, bytes == 0 ? 0 : size ? size : 16, unit * OF_UNIT + i);
			if (strstr(name, ".rlib") && unit % 4 == 0) {
				snprintf(second, sizeof second, "%s/debug/lib%u.rlib", top, unit);
				if (link(path, second) != 0)
					fail(second);
			}
		}
	}
	snprintf(path, sizeof path, "%s/debug/.cargo-lock", top);
	write_file(path, 0, 0);
	snprintf(path, sizeof path, "%s/.rustc_info.json", top);
	write_file(path, 0, 0);
	return 0;
}

static int peak(char **command)
{
	struct rusage usage;
	int status;
	pid_t child = fork();
	if (child == 0) {
		execvp(command[0], command);
		fail(command[0]);
	}
	if (wait4(child, &status, 0, &usage) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "%s failed\n", command[0]);
		return 1;
	}
	printf("%ld\n", usage.ru_maxrss);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "make") == 0)
		return make(argv[2], strtoul(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	if (argc > 2 && strcmp(argv[1], "peak") == 0)
		return peak(argv + 2);
	fprintf(stderr, "usage: migrate-tree make DIR FILES BYTES | peak COMMAND [ARG...]\n");
	return 2;
}
