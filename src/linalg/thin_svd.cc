#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/linalg/thin_svd.h>

#include <cmath>

#include "linalg/matrix.h"

namespace lowrank {
namespace {

/// A matrix whose entries are near the end of its dtype's range can have a singular value beyond
/// it.
void require_in_range(const at::Tensor& s, std::string_view name) {
  if (s.numel() == 0 || std::isfinite(s.max().item<double>())) return;
  fail<TensorError>("svd",
                    fmt::format("the singular values of {} must fit into {}", name,
                                c10::toString(s.scalar_type())),
                    "a larger one", "Use a wider dtype or scale the matrix.");
}

template <class Work>
auto decompose(std::string_view name, const Work& work) {
  try {
    return work();
  } catch (const c10::LinAlgError&) {
    fail<TensorError>("svd", fmt::format("the decomposition of {} must converge", name),
                      "an iteration that did not", "Try float64, or scale the matrix.");
  }
}

}  // namespace

Svd thin_svd(const at::Tensor& w, std::string_view name) {
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix("svd", name, w);
  if (matrix.numel() == 0) {
    return {.u = matrix.new_zeros({matrix.size(0), 0}),
            .s = matrix.new_zeros({0}),
            .v = matrix.new_zeros({matrix.size(1), 0})};
  }
  auto [u, s, vt] =
      decompose(name, [&] { return at::linalg_svd(matrix, /*full_matrices=*/false); });
  require_in_range(s, name);
  return {.u = u, .s = s, .v = vt.t()};
}

at::Tensor singular_values(const at::Tensor& w, std::string_view name) {
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix("svd", name, w);
  if (matrix.numel() == 0) return matrix.new_zeros({0});
  auto s = decompose(name, [&] { return at::linalg_svdvals(matrix); });
  require_in_range(s, name);
  return s;
}

}  // namespace lowrank
