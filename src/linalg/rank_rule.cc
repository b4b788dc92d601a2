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

/// Returns the smallest k whose first k values sum up to at least `share` of all; the values are
/// not negative.
int64_t smallest_with_share(const at::Tensor& values, double share) {
  const auto sums = values.cumsum(0);
  const auto accessor = sums.accessor<double, 1>();
  const int64_t count = values.numel();
  const double total = accessor[count - 1];
  for (int64_t k = 1; k < count; ++k) {
    if (accessor[k - 1] / total >= share) return k;
  }
  return count;
}

void require_share(const char* what, double share) {
  if (share > 0 && share <= 1) return;
  fail<ArgumentError>("rank", fmt::format("{} must be above 0 and at most 1", what),
                      fmt::format("{}", share));
}

/// Calls f(σ / σ₁) for the k of one of kohya's rules, and does with it what resize_lora.py does.
template <class F>
int64_t kohyas_rank(const at::Tensor& singular_values, int64_t rows, int64_t columns, const F& f) {
  constexpr double kLeastValue = 1e-6;
  const auto s = singular_values.to(at::kCPU, at::kDouble);
  const double largest = s.numel() == 0 ? 0 : s.max().item<double>();
  if (largest <= kLeastValue) return 1;
  const auto most = std::max<int64_t>(1, std::min(rows, columns) - 1);
  const auto k = std::clamp<int64_t>(f(s / largest), 1, most);
  return std::min({k + 1, rows, columns});
}

/// Returns the median of the Marchenko-Pastur law for an m x n matrix of white noise with
/// m / n = beta ≤ 1, whose singular values squared are divided by n.
double median_of_noise(double beta) {
  const double low = std::pow(1 - std::sqrt(beta), 2), high = std::pow(1 + std::sqrt(beta), 2);
  // With x = middle - radius·cos(t) the density has no square root at its ends.
  const double middle = (low + high) / 2, radius = (high - low) / 2;
  constexpr int kSteps = 20'000;
  const double step = M_PI / kSteps;
  double sum = 0;
  for (int i = 0; i < kSteps; ++i) {  // the midpoint rule
    const double t = (i + 0.5) * step, x = middle - radius * std::cos(t);
    const double density = std::pow(radius * std::sin(t), 2) / (2 * M_PI * beta * x);
    if (sum + density * step >= 0.5) {
      const double part = (0.5 - sum) / (density * step);
      return middle - radius * std::cos((i + part) * step);
    }
    sum += density * step;
  }
  return high;
}

double noise_threshold(const at::Tensor& singular_values, int64_t rows, int64_t columns,
                       double deviation) {
  const auto smaller = static_cast<double>(std::min(rows, columns));
  const auto larger = static_cast<double>(std::max(rows, columns));
  const double beta = smaller / larger;
  const double lambda =
      std::sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + std::sqrt(beta * beta + 14 * beta + 1)));
  if (deviation > 0) return lambda * std::sqrt(larger) * deviation;
  const double median = singular_values.to(at::kDouble).median().item<double>();
  return lambda / std::sqrt(median_of_noise(beta)) * median;
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

RankRule RankRule::sv_ratio(double ratio) {
  if (!(std::isfinite(ratio) && ratio >= 1)) {
    fail<ArgumentError>("rank", "the ratio of singular values must be finite and at least 1",
                        fmt::format("{}", ratio));
  }
  return {Kind::kRatio, 0, ratio};
}

RankRule RankRule::sv_cumulative(double share) {
  require_share("the share of the sum", share);
  return {Kind::kCumulative, 0, share};
}

RankRule RankRule::sv_fro(double share) {
  require_share("the share of the norm", share);
  return {Kind::kFro, 0, share};
}

RankRule RankRule::noise(std::optional<double> deviation) {
  if (deviation && !(std::isfinite(*deviation) && *deviation > 0)) {
    fail<ArgumentError>("rank", "the deviation of the noise must be finite and above 0",
                        fmt::format("{}", *deviation));
  }
  return {Kind::kNoise, 0, deviation.value_or(0)};
}

RankRule RankRule::within(int64_t least, int64_t most) const {
  if (least < 1 || most < least) {
    fail<ArgumentError>("rank",
                        "the least rank must be at least 1, and the largest no smaller than it",
                        fmt::format("{} and {}", least, most));
  }
  auto rule = *this;
  rule.least_ = least;
  rule.most_ = most;
  return rule;
}

std::string RankRule::text() const {
  const auto rule = [&]() -> std::string {
    switch (kind_) {
      case Kind::kNumber:
        return fmt::format("rank {}", rank_);
      case Kind::kAtMost:
        return fmt::format("rank at most {}", rank_);
      case Kind::kMaxError:
        return fmt::format("max-error {}", value_);
      case Kind::kEnergy:
        return fmt::format("energy {}", value_);
      case Kind::kTolerance:
        return fmt::format("tolerance {}", value_);
      case Kind::kRatio:
        return fmt::format("sv-ratio {}", value_);
      case Kind::kCumulative:
        return fmt::format("sv-cumulative {}", value_);
      case Kind::kFro:
        return fmt::format("sv-fro {}", value_);
      case Kind::kNoise:
        return value_ > 0 ? fmt::format("noise-sigma {}", value_) : "noise";
      case Kind::kNumerical:
        break;
    }
    return "numerical rank";
  }();
  return least_ == 0 ? rule : fmt::format("{}, rank {} to {}", rule, least_, most_);
}

int64_t RankRule::choose(const at::Tensor& singular_values, int64_t rows, int64_t columns) const {
  require_possible(rows, columns);
  const auto possible = std::min(rows, columns);
  return std::clamp(chosen(singular_values, rows, columns), std::min(least_, possible),
                    std::min(most_, possible));
}

int64_t RankRule::chosen(const at::Tensor& singular_values, int64_t rows, int64_t columns) const {
  switch (kind_) {
    case Kind::kNumber:
      return rank_;
    case Kind::kAtMost:
      return std::min({rank_, rows, columns});
    case Kind::kMaxError:
      return smallest_with_error(singular_values, value_);
    case Kind::kEnergy:
      return smallest_with_energy(singular_values, value_);
    case Kind::kTolerance:
      return count_above(singular_values, value_);
    case Kind::kRatio:
      return kohyas_rank(singular_values, rows, columns,
                         [&](const at::Tensor& s) { return count_above(s, 1 / value_); });
    case Kind::kCumulative:
      return kohyas_rank(singular_values, rows, columns,
                         [&](const at::Tensor& s) { return smallest_with_share(s, value_); });
    case Kind::kFro:
      return kohyas_rank(singular_values, rows, columns, [&](const at::Tensor& s) {
        return smallest_with_share(s * s, value_ * value_);
      });
    case Kind::kNoise:
      if (singular_values.numel() == 0) return 0;
      return count_above(singular_values, noise_threshold(singular_values, rows, columns, value_));
    case Kind::kNumerical:
      break;
  }
  return count_above(singular_values, numerical_tolerance(singular_values, rows, columns));
}

std::optional<int64_t> RankRule::known_rank(int64_t rows, int64_t columns) const {
  if (kind_ != Kind::kNumber && kind_ != Kind::kAtMost) return std::nullopt;
  const auto possible = std::min(rows, columns);
  if (kind_ == Kind::kNumber && rank_ > possible) return rank_;  // which choose() refuses
  return std::clamp(std::min(rank_, possible), std::min(least_, possible),
                    std::min(most_, possible));
}

void RankRule::require_possible(int64_t rows, int64_t columns) const {
  if (kind_ != Kind::kNumber || rank_ <= std::min(rows, columns)) return;
  fail<ArgumentError>("rank",
                      fmt::format("the rank of a {} x {} matrix must be at most {}", rows, columns,
                                  std::min(rows, columns)),
                      fmt::format("{}", rank_));
}

}  // namespace lowrank
