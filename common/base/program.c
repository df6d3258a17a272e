#include "base/program.h"

const char program_version[] = SELFRIGHT_VERSION;
