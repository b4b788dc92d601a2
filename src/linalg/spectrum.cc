#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/spectrum.h>
#include <lowrank/linalg/thin_svd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "linalg/matrix.h"

namespace lowrank {
namespace {

/// Numbers that are widened to float64 at a time, four megabytes, but no fewer columns than these.
constexpr int64_t kGramNumbers = int64_t{1} << 19, kFewestColumns = 256;

/// Returns W·Wᵀ of a matrix with at most as many rows as columns, divided by the square of `scale`.
at::Tensor gram(const at::Tensor& w, double scale) {
  const auto rows = w.size(0), columns = w.size(1);
  const auto step = std::max(kFewestColumns, kGramNumbers / rows);
  auto sum = at::zeros({rows, rows}, at::kDouble);
  for (int64_t begin = 0; begin < columns; begin += step) {
    const auto part = w.narrow(1, begin, std::min(step, columns - begin)).to(at::kDouble) / scale;
    sum.addmm_(part, part.t());
  }
  return sum;
}

/// Returns the singular values of a finite float32 matrix, descending.
at::Tensor values_by_gram(const at::Tensor& w) {
  const double scale = w.abs().max().item<double>();
  if (scale == 0) return at::zeros({std::min(w.size(0), w.size(1))}, at::kDouble);
  const auto squares =
      at::linalg_eigvalsh(gram(w.size(0) <= w.size(1) ? w : w.t(), scale)).clamp_min(0);
  return squares.sqrt().mul_(scale).flip(0);
}

}  // namespace

nlohmann::ordered_json to_json(const Spectrum& spectrum) {
  return {{"largest", spectrum.largest},
          {"norm", spectrum.norm},
          {"numerical_rank", spectrum.numerical_rank},
          {"stable_rank", spectrum.stable_rank},
          {"effective_rank", spectrum.effective_rank},
          {"rank_90", spectrum.rank_90},
          {"rank_95", spectrum.rank_95},
          {"rank_99", spectrum.rank_99}};
}

Spectrum spectrum_of(const at::Tensor& singular_values, int64_t rows, int64_t columns,
                     double epsilon) {
  Spectrum found;
  const auto s =
      std::get<0>(singular_values.to(at::kCPU, at::kDouble).sort(0, /*descending=*/true));
  if (s.numel() == 0 || s[0].item<double>() == 0) return found;
  found.largest = s[0].item<double>();
  const auto relative = s / found.largest;  // squares of float64's extremes would overflow
  found.stable_rank = relative.dot(relative).item<double>();
  found.norm = found.largest * std::sqrt(found.stable_rank);
  found.numerical_rank =
      count_above(relative, static_cast<double>(std::max(rows, columns)) * epsilon);
  const auto share = relative / relative.sum();
  found.effective_rank = std::exp(-at::xlogy(share, share).sum().item<double>());
  const auto rank_for = [&](double energy) {
    return RankRule::energy(energy).choose(s, rows, columns);
  };
  found.rank_90 = rank_for(0.90);
  found.rank_95 = rank_for(0.95);
  found.rank_99 = rank_for(0.99);
  return found;
}

Spectrum spectrum(const at::Tensor& w, std::string_view name) {
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix("spectrum", name, w);
  if (matrix.numel() == 0) return {};
  const bool is_double = matrix.scalar_type() == at::kDouble;
  const auto values = is_double ? singular_values(matrix, name) : values_by_gram(matrix);
  return spectrum_of(values, matrix.size(0), matrix.size(1), spacing_of(matrix.scalar_type()));
}

}  // namespace lowrank
