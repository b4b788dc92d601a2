#include "weights/rounding.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/parallel.h"

namespace lowrank {
namespace {

/// Numbers that are summed up on their own.
constexpr int64_t kPart = int64_t{1} << 13;

template <class T>
struct RoundTo {
  T operator()(double value) const {
    if constexpr (std::is_same_v<T, double>) {
      return value;
    } else {  // c10 converts a double to a half type by way of float
      return static_cast<T>(static_cast<float>(value));
    }
  }
};

template <class T, class Round>
RoundedFigures round_part(T* to, const double* exact, const double* before, const T* own,
                          int64_t count, const Round& round) {
  RoundedFigures figures;
  for (int64_t i = 0; i < count; ++i) {
    const T value = round(exact[i]);
    const auto wide = static_cast<double>(value);
    const double update = exact[i] - before[i], rounding = wide - exact[i];
    to[i] = value;
    figures.update += update * update;
    figures.rounding += rounding * rounding;
    figures.unchanged += wide == static_cast<double>(own[i]) ? 1 : 0;
    figures.is_finite &= std::isfinite(wide) || !std::isfinite(before[i]);
  }
  return figures;
}

template <class T, class Round>
RoundedFigures round_all(const at::Tensor& to, const at::Tensor& exact, const at::Tensor& before,
                         const at::Tensor& own, const Round& round) {
  const auto count = to.numel(), parts = (count + kPart - 1) / kPart;
  std::vector<RoundedFigures> of_parts(static_cast<size_t>(parts));
  kernels::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto at = i * kPart, size = std::min(kPart, count - at);
      of_parts[static_cast<size_t>(i)] =
          round_part(to.data_ptr<T>() + at, exact.data_ptr<double>() + at,
                     before.data_ptr<double>() + at, own.data_ptr<T>() + at, size, round);
    }
  });
  RoundedFigures sum;
  for (const auto& part : of_parts) {
    sum.update += part.update;
    sum.rounding += part.rounding;
    sum.unchanged += part.unchanged;
    sum.is_finite &= part.is_finite;
  }
  return sum;
}

}  // namespace

RoundedFigures round_into(const at::Tensor& to, const at::Tensor& exact, const at::Tensor& before,
                          const at::Tensor& own, std::optional<Float8> float8) {
  if (float8) {
    return round_all<float>(to, exact, before, own, [kind = *float8](double value) {
      return round_to_float8(value, kind);
    });
  }
  RoundedFigures figures;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, to.scalar_type(), "round_into", [&] {
    figures = round_all<scalar_t>(to, exact, before, own, RoundTo<scalar_t>());
  });
  return figures;
}

}  // namespace lowrank
