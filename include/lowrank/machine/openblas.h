#pragma once

#include <lowrank/export.h>

#include <string>

namespace lowrank {

/// OpenBLAS's name of the processor type whose kernels it uses, and of the type whose kernels fit
/// this machine better. OpenBLAS does not know processors that are newer than itself, and may treat
/// them as processors without AVX.
struct OpenBlasKernels {
  std::string used;    ///< empty: the library is no OpenBLAS
  std::string better;  ///< empty: those in use are good enough, or it has no others
};

/// Asks the OpenBLAS in `library`, a handle from dlopen(). OpenBLAS chooses when it is loaded, and
/// follows the environment variable OPENBLAS_CORETYPE.
LOWRANK_API OpenBlasKernels openblas_kernels(void* library);

}  // namespace lowrank
