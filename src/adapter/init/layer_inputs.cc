#include "adapter/init/layer_inputs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include "linalg/matrix.h"

namespace lowrank::init {

at::Tensor layer_inputs(const char* method, const at::Tensor& x, int64_t in) {
  const bool folded = x.defined() && x.dim() > 2 && x.layout() == at::kStrided;
  const auto rows = finite_matrix(method, "a batch of inputs", folded ? x.flatten(0, -2) : x);
  if (in != 0 && rows.size(1) != in) {
    fail<TensorError>(method, fmt::format("every batch must have {} inputs a row", in),
                      fmt::format("{}", rows.size(1)));
  }
  return rows.to(at::kDouble);
}

}  // namespace lowrank::init
