#pragma once

/// Compiles a function once for each instruction set; the loader picks. Not under a sanitizer: the
/// loader asks before its run time is there.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define LOWRANK_VECTOR_CLONES __attribute__((target_clones("arch=haswell", "default")))
#else
#define LOWRANK_VECTOR_CLONES
#endif
