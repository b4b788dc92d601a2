#include "adapter/init/olora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "linalg/matrix.h"

namespace lowrank::init {

FactorPair olora(const at::Tensor& w, int64_t rank) {
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix("olora", "W", w);
  require_rank("olora", rank, std::min(w.size(0), w.size(1)), "the smaller of out and in");
  const auto [q, r] = at::linalg_qr(matrix.to(at::kDouble));
  const auto dtype = matrix.scalar_type();
  return {.a = r.narrow(0, 0, rank).to(dtype).clone(at::MemoryFormat::Contiguous),
          .b = q.narrow(1, 0, rank).to(dtype).clone(at::MemoryFormat::Contiguous)};
}

}  // namespace lowrank::init
