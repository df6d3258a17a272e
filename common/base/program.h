/*
 * program - which version of Selfright this program is.
 *
 * A symbol and not a macro, so that the same objects can be linked as another version
 * (tests of an agent that updates itself).
 */
#ifndef SELFRIGHT_BASE_PROGRAM_H
#define SELFRIGHT_BASE_PROGRAM_H

extern const char program_version[];

#endif
