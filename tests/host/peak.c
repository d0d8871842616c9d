/*
 * Preloaded into a host whose stack has two markers: says on stderr how much memory was in use at once, at
 * most, by what was allocated between them. The first block of the size that PEAK_BUT names is not counted:
 * the module asks for one at its entry to see whether there is so much, and gives it back.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);

static int counting, is_skipped;
static long in_use, peak;
static void *not_counted;

/* What a block takes, with the allocator's own word before it. */
static long taken(void *block)
{
    return block == NULL || block == not_counted ? 0 : (long)(malloc_usable_size(block) + sizeof(size_t));
}

static void *made(void *block)
{
    if (counting) {
        in_use += taken(block);
        if (in_use > peak)
            peak = in_use;
    }
    return block;
}

void *malloc(size_t size)
{
    void *block = __libc_malloc(size);
    const char *but = getenv("PEAK_BUT");
    if (counting && !is_skipped && but != NULL && size == strtoul(but, NULL, 10)) {
        not_counted = block;
        is_skipped = 1;
    }
    return made(block);
}

void *calloc(size_t count, size_t size)
{
    return made(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    /* Both can be there at once. */
    long before = taken(old);
    void *block = made(__libc_realloc(old, size));
    if (counting)
        in_use -= before;
    return block;
}

void free(void *block)
{
    if (counting)
        in_use -= taken(block);
    if (block == not_counted)
        not_counted = NULL;
    __libc_free(block);
}

ssize_t write(int file, const void *bytes, size_t length)
{
    if (file == -1) {
        counting = length == 5 && memcmp(bytes, "begin", 5) == 0;
        if (!counting)
            dprintf(2, "peak %ld\n", peak);
    }
    return syscall(SYS_write, file, bytes, length);
}
