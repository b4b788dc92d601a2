#include "adapter/init/orthogonal.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

namespace lowrank::init {

FactorPair orthogonal(int64_t in, int64_t out, int64_t rank) {
  const at::NoGradGuard no_grad;
  if (rank < 2 || rank % 2 != 0) {
    fail<ArgumentError>("orthogonal", "the rank must be even and at least 2",
                        fmt::format("{}", rank));
  }
  const auto draw = [](int64_t rows, int64_t columns) {
    return at::randn({rows, columns}, at::TensorOptions(at::kFloat)).to(at::kDouble);
  };
  const auto q = std::get<0>(at::linalg_qr(draw(rank, rank)));
  const auto first = q.slice(0, 0, rank, 2);
  const auto second = q.slice(0, 1, rank, 2);
  const auto a = first.t().mm(draw(in, rank / 2).t()) / 10;
  const auto b = draw(rank / 2, out).t().mm(second) / 10;
  return {.a = a.to(at::kFloat).contiguous(), .b = b.to(at::kFloat).contiguous()};
}

}  // namespace lowrank::init
