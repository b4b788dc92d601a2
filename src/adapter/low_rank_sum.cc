#include "adapter/low_rank_sum.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace lowrank {
namespace {

using effective::Form;

bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.layout() == at::kStrided;
}

bool is_one_matrix(Form form) { return form != Form::kExperts && form != Form::kTransposedExperts; }

bool are_plain_factors(const effective::Term& term) {
  return term.a.defined() && !term.magnitude.defined() && is_plain(term.a) && is_plain(term.b) &&
         (!term.minus_a.defined() || (is_plain(term.minus_a) && is_plain(term.minus_b)));
}

/// The largest magnitude of each column's numbers, in float64.
at::Tensor largest_of_columns(const at::Tensor& matrix) {
  return matrix.abs().amax(0).to(at::kDouble);
}

}  // namespace

std::optional<LowRankSum> low_rank_sum(const at::Tensor& weight, const effective::Site& site,
                                       const effective::Meaning& meaning) {
  const bool fits = is_plain(weight) && weight.is_contiguous() && weight.dim() >= 2 &&
                    weight.numel() > 0 && site.groups == 1 && is_one_matrix(site.form) &&
                    !meaning.terms.empty() && !meaning.replacement.defined() &&
                    std::all_of(meaning.terms.begin(), meaning.terms.end(), are_plain_factors);
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
  const bool transposed = site.form == Form::kTransposed || site.form == Form::kEmbedding;
  return transposed ? LowRankSum{a.t().contiguous(), b.t().contiguous()} : LowRankSum{b, a};
}

bool is_surely_finite(const at::Tensor& weight, const LowRankSum& sum) {
  if (sum.left.size(1) == 0) return false;
  const auto of_product =
      at::dot(largest_of_columns(sum.left), largest_of_columns(sum.right.t())).item<double>();
  const double of_weight = kernels::largest_magnitude(weight.data_ptr<float>(), weight.numel());
  // Half of the largest number leaves room for every rounding on the way.
  return of_product + of_weight < std::numeric_limits<float>::max() / 2;
}

kernels::SumFigures add(const at::Tensor& to, const at::Tensor& from, const LowRankSum& sum) {
  const kernels::ThinProduct product = {.first = {.x = sum.left.data_ptr<float>(),
                                                  .x_row = sum.left.size(1),
                                                  .w = sum.right.data_ptr<float>(),
                                                  .w_row = sum.right.size(1),
                                                  .depth = sum.left.size(1)},
                                        .rows = sum.left.size(0),
                                        .columns = sum.right.size(1)};
  return kernels::add_product(to.data_ptr<float>(), from.data_ptr<float>(), product);
}

}  // namespace lowrank
