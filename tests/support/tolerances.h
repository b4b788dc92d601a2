#pragma once

#include <c10/core/ScalarType.h>

#include <cmath>
#include <cstdint>
#include <limits>

/// How far results may be from exact arithmetic, by dtype. All tests take their bounds from here.
namespace lowrank {

/// Returns the machine epsilon of the dtype in which `dtype` is computed (half types: float32).
inline double computing_eps(at::ScalarType dtype) {
  return dtype == at::kDouble ? std::numeric_limits<double>::epsilon()
                              : static_cast<double>(std::numeric_limits<float>::epsilon());
}

struct Tolerance {
  double decomposition;  // ‖A - USVᵀ‖ / ‖A‖, ‖UᵀU - I‖, singular values: relative to the largest
  double product;  // a chain of matrix products, relative to the norm of the result
};

/// Returns the tolerance of work whose longest sums have `length` terms. LAPACK's bounds grow with
/// the size; the errors that are measured grow like its square root.
inline Tolerance tolerance(at::ScalarType dtype, int64_t length = 1) {
  const double eps = computing_eps(dtype);
  const double growth = std::sqrt(static_cast<double>(length < 1 ? 1 : length));
  return {.decomposition = 20 * eps * growth, .product = 10 * eps * growth};
}

}  // namespace lowrank
