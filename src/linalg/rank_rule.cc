#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/rank_rule.h>

#include <algorithm>
#include <cmath>

namespace lowrank {
namespace {

int64_t smallest_with_energy(const at::Tensor& singular_values, double share) {
  auto s = singular_values.to(at::kCPU, at::kDouble);
  const double largest = s.numel() == 0 ? 0 : s.max().item<double>();
  if (largest == 0) return 0;
  s = s / largest;  // the squares of float64's extremes would overflow or vanish
  const auto sums = (s * s).cumsum(0);
  const auto accessor = sums.accessor<double, 1>();
  const int64_t count = s.numel();
  // The last sum is the total, so a share of 1 is reached there at the latest.
  const double wanted = share * accessor[count - 1];
  for (int64_t k = 1; k < count; ++k) {
    if (accessor[k - 1] >= wanted) return k;
  }
  return count;
}

int64_t smallest_with_error(const at::Tensor& singular_values, double error) {
  auto s = singular_values.to(at::kCPU, at::kDouble);
  const double largest = s.numel() == 0 ? 0 : s.max().item<double>();
  if (largest == 0) return 0;
  s = (s / largest).flip(0);
  const auto rest = (s * s).cumsum(0);  // of the smallest one, two, ...
  const auto accessor = rest.accessor<double, 1>();
  const int64_t count = s.numel();
  const double allowed = error * error * accessor[count - 1];
  int64_t left_out = 0;
  while (left_out < count && accessor[left_out] <= allowed) ++left_out;
  return count - left_out;
}

}  // namespace

RankRule RankRule::numerical() { return {Kind::kNumerical, 0, 0}; }

RankRule RankRule::number(int64_t rank) {
  if (rank < 1) fail<ArgumentError>("rank", "the rank must be at least 1", fmt::format("{}", rank));
  return {Kind::kNumber, rank, 0};
}

RankRule RankRule::at_most(int64_t rank) {
  auto rule = number(rank);
  rule.kind_ = Kind::kAtMost;
  return rule;
}

RankRule RankRule::max_error(double error) {
  if (!(error >= 0 && error < 1)) {
    fail<ArgumentError>("rank", "the relative error must be at least 0 and below 1",
                        fmt::format("{}", error));
  }
  return {Kind::kMaxError, 0, error};
}

RankRule RankRule::energy(double share) {
  if (!(share > 0 && share <= 1)) {
    fail<ArgumentError>("rank", "the share of the energy must be above 0 and at most 1",
                        fmt::format("{}", share),
                        share > 1 && share <= 100 ? "It is a share, not a percentage." : "");
  }
  return {Kind::kEnergy, 0, share};
}

RankRule RankRule::tolerance(double tolerance) {
  if (!(std::isfinite(tolerance) && tolerance >= 0)) {
    fail<ArgumentError>("rank", "the tolerance must be a finite number of at least 0",
                        fmt::format("{}", tolerance));
  }
  return {Kind::kTolerance, 0, tolerance};
}

int64_t RankRule::choose(const at::Tensor& singular_values, int64_t rows, int64_t columns) const {
  require_possible(rows, columns);
  if (const auto known = known_rank(rows, columns)) return *known;
  switch (kind_) {
    case Kind::kMaxError:
      return smallest_with_error(singular_values, value_);
    case Kind::kEnergy:
      return smallest_with_energy(singular_values, value_);
    case Kind::kTolerance:
      return count_above(singular_values, value_);
    case Kind::kNumber:
    case Kind::kAtMost:
    case Kind::kNumerical:
      break;
  }
  return count_above(singular_values, numerical_tolerance(singular_values, rows, columns));
}

std::optional<int64_t> RankRule::known_rank(int64_t rows, int64_t columns) const {
  if (kind_ == Kind::kNumber) return rank_;
  if (kind_ == Kind::kAtMost) return std::min({rank_, rows, columns});
  return std::nullopt;
}

void RankRule::require_possible(int64_t rows, int64_t columns) const {
  if (kind_ != Kind::kNumber || rank_ <= std::min(rows, columns)) return;
  fail<ArgumentError>("rank",
                      fmt::format("the rank of a {} x {} matrix must be at most {}", rows, columns,
                                  std::min(rows, columns)),
                      fmt::format("{}", rank_));
}

}  // namespace lowrank
