#pragma once

/// Compiles a function once for each instruction set; the loader picks.
#if defined(__x86_64__)
#define LOWRANK_VECTOR_CLONES __attribute__((target_clones("arch=haswell", "default")))
#else
#define LOWRANK_VECTOR_CLONES
#endif
