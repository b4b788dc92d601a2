#include <ATen/ATen.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

#include <algorithm>
#include <limits>

namespace lowrank {

double numerical_tolerance(const at::Tensor& singular_values, int64_t rows, int64_t columns) {
  if (singular_values.numel() == 0) return 0;
  const double eps = singular_values.scalar_type() == at::kDouble
                         ? std::numeric_limits<double>::epsilon()
                         : static_cast<double>(std::numeric_limits<float>::epsilon());
  const double largest = singular_values.max().item<double>();
  // Multiplied in this order, a largest value of 1e308 does not overflow.
  return largest * (static_cast<double>(std::max(rows, columns)) * eps);
}

int64_t count_above(const at::Tensor& singular_values, double tolerance) {
  // In float64, so that a tolerance is not rounded to the dtype of the values.
  return singular_values.to(at::kDouble).gt(tolerance).sum().item<int64_t>();
}

int64_t numerical_rank(const at::Tensor& w, std::string_view name) {
  return RankRule::numerical().choose(singular_values(w, name), w.size(0), w.size(1));
}

int64_t numerical_rank(const at::Tensor& w, double tolerance, std::string_view name) {
  const auto rule = RankRule::tolerance(tolerance);
  return rule.choose(singular_values(w, name), w.size(0), w.size(1));
}

}  // namespace lowrank
