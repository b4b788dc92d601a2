#include "adapter/low_rank_sum.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/products.h"

namespace lowrank {
namespace {

using kernels::is_kernel_ready;

bool are_kernel_ready_factors(const effective::Term& term) {
  return term.a.defined() && !term.magnitude.defined() && is_kernel_ready(term.a) &&
         is_kernel_ready(term.b) &&
         (!term.minus_a.defined() ||
          (is_kernel_ready(term.minus_a) && is_kernel_ready(term.minus_b)));
}

/// The largest magnitude in each column, in float64.
at::Tensor largest_of_columns(const at::Tensor& matrix) {
  return matrix.abs().amax(0).to(at::kDouble);
}

}  // namespace

std::optional<LowRankSum> low_rank_sum(const at::Tensor& weight, const effective::Site& site,
                                       const effective::Meaning& meaning) {
  const bool fits =
      is_kernel_ready(weight) && weight.is_contiguous() && weight.dim() >= 2 &&
      weight.numel() > 0 && site.groups == 1 && !are_experts(site.kind) && !meaning.terms.empty() &&
      !meaning.replacement.defined() &&
      std::all_of(meaning.terms.begin(), meaning.terms.end(), are_kernel_ready_factors);
  if (!fits) return {};
  std::vector<at::Tensor> of_b, of_a;
  for (const auto& term : meaning.terms) {
    of_b.push_back(term.b.detach().flatten(1) * term.scaling);
    of_a.push_back(term.a.detach().flatten(1));
    if (!term.minus_a.defined()) continue;
    of_b.push_back(term.minus_b.detach().flatten(1) * -term.scaling);
    of_a.push_back(term.minus_a.detach().flatten(1));
  }
  const auto b = at::cat(of_b, 1), a = at::cat(of_a, 0);
  const bool transposed = is_stored_transposed(site.kind);
  auto sum = transposed ? LowRankSum{a.t().contiguous(), b.t().contiguous()} : LowRankSum{b, a};
  const int64_t rows = sum.left.size(0), columns = sum.right.size(1);
  // set_data() may have given the weight another shape.
  if (rows != weight.size(0) || rows * columns != weight.numel()) return {};
  return sum;
}

bool is_provably_finite(const at::Tensor& weight, const LowRankSum& sum) {
  if (sum.left.size(1) == 0) return false;
  const auto of_product =
      at::dot(largest_of_columns(sum.left), largest_of_columns(sum.right.t())).item<double>();
  const double of_weight = kernels::largest_magnitude(weight.data_ptr<float>(), weight.numel());
  // Half of the largest float leaves room for all rounding errors.
  return of_product + of_weight < std::numeric_limits<float>::max() / 2;
}

kernels::SumFigures write_sum(const at::Tensor& to, const at::Tensor& from, const LowRankSum& sum) {
  const bool fits = is_kernel_ready(to) && to.is_contiguous() && to.sizes() == from.sizes();
  const auto lying = fits ? to : at::empty_like(from);
  const auto figures = kernels::add_product(lying.data_ptr<float>(), from.data_ptr<float>(),
                                            kernels::thin_product({.x = sum.left, .w = sum.right}));
  if (lying.is_same(to)) {
    to.unsafeGetTensorImpl()->bump_version();  // LibTorch does not notice this write
  } else {
    to.copy_(lying);
  }
  return figures;
}

}  // namespace lowrank
