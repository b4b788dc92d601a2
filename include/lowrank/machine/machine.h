#pragma once

#include <lowrank/export.h>

#include <string>
#include <vector>

/// The machine that lowrank runs on: its BLAS library, threads, instruction sets and speed.
namespace lowrank {

/// The library that LibTorch calls for matrix products.
struct BlasLibrary {
  std::string name;  ///< "OpenBLAS", "BLIS", "MKL", "reference BLAS" or "unknown"
  std::string path;  ///< the file it was loaded from
  /// Whether the library starts threads of its own, in addition to those of LibTorch and of our
  /// kernels. The two groups wait for each other, so that two threads are slower than one.
  bool own_threads = false;
  std::string kernels, better_kernels;  ///< OpenBLAS only: those of OpenBlasKernels (openblas.h)
};
/// Finds out which one this process has loaded.
LOWRANK_API BlasLibrary blas_library();

/// Sets the number of threads of LibTorch, its BLAS library and our kernels. A BLAS library that
/// starts threads of its own is limited to one. Throws ArgumentError if `threads` is below 1.
LOWRANK_API void set_threads(int threads);

/// The instruction sets that we have kernels for and this machine supports, the best last:
/// "portable", "avx2", "avx512".
LOWRANK_API std::vector<std::string> instruction_sets();
/// The instruction set in use: the best one, or the one that the environment variable LOWRANK_CPU
/// names. Throws ArgumentError if LOWRANK_CPU names none of instruction_sets().
LOWRANK_API std::string instruction_set();

/// Speeds with the current number of threads.
struct MachineSpeed {
  double thin_product = 0;   ///< GFLOP/s of our kernel, (10, 1000) times (1000, 2000)
  double large_product = 0;  ///< GFLOP/s of LibTorch's BLAS library, 2048³
  double copy = 0;           ///< GB/s, reads plus writes, of a copy of 256 MiB
};
/// Measures each speed as the best of a few runs. Takes about a second.
LOWRANK_API MachineSpeed measure_speed();

}  // namespace lowrank
