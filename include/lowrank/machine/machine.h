#pragma once

#include <lowrank/export.h>

#include <string>
#include <vector>

/// What the work runs on, and how it is set up for it.
namespace lowrank {

/// The library that LibTorch calls for products of matrices.
struct BlasLibrary {
  std::string name;  ///< "OpenBLAS", "BLIS", "MKL", "reference BLAS" or "unknown"
  std::string path;  ///< the file it was loaded from
  /// It starts threads of its own, beside those of LibTorch and of the kernels: the two wait for
  /// each other, and two are slower than one.
  bool own_threads = false;
  /// OpenBLAS only: the processor that it takes this one for, in its own words, and the one whose
  /// kernels fit. It knows no processor that is newer than itself, and may take that for one
  /// without AVX. The second is empty where the first will do.
  std::string kernels, better_kernels;
};
LOWRANK_API BlasLibrary blas_library();

/// Threads for LibTorch, its BLAS library and the kernels; a library with threads of its own gets
/// one. Throws ArgumentError below 1.
LOWRANK_API void set_threads(int threads);

/// The instruction sets that this machine has a kernel for, the best last: "portable", "avx2",
/// "avx512".
LOWRANK_API std::vector<std::string> instruction_sets();
/// The one in use: the best, or what LOWRANK_CPU names in the environment. Throws ArgumentError
/// where that names none of them.
LOWRANK_API std::string instruction_set();

/// With the threads that are set.
struct MachineSpeed {
  double thin_product = 0;   ///< GFLOP/s of our kernel, (10, 1000) times (1000, 2000)
  double large_product = 0;  ///< GFLOP/s of LibTorch's BLAS library, 2048³
  double copy = 0;           ///< GB/s read and written, 256 MiB to 256 MiB
};
/// Takes about a second; the best of a few runs each.
LOWRANK_API MachineSpeed measure_speed();

}  // namespace lowrank
