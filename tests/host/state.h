/* What a process can be asked about itself, as lines of text, so that two moments can be compared. */

#ifndef STATE_H
#define STATE_H

#include <stddef.h>
#include <stdio.h>

struct state {
    size_t used;
    long anonymous_kb; /* memory that is the process's own; for comparing growth, not for equality */
    char text[512 * 1024];
};

/* Touches the memory of a state, so that taking it later costs no new page. */
void state_prepare(struct state *state);

/* Describes the process as it is now. */
void state_take(struct state *state);

/* Prints what differs: "WHEN - line" for what was there before, "WHEN + line" for what is there now. */
void state_compare(FILE *report, const char *when, const struct state *before, const struct state *now);

/* Adds a line of the caller's own. */
void state_add(struct state *state, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
