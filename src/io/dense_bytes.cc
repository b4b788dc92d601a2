#include "io/dense_bytes.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

namespace lowrank::io {

void require_dense(const at::Tensor& tensor, std::string_view operation, std::string_view what) {
  const std::string required = fmt::format("{} must be a dense tensor with data", what);
  if (!tensor.defined()) fail<TensorError>(operation, required, "an undefined tensor");
  if (tensor.layout() != at::kStrided || tensor.is_quantized()) {
    fail<TensorError>(operation, required, "a sparse or quantized one");
  }
  if (tensor.is_meta()) fail<TensorError>(operation, required, "one on the meta device");
}

at::Tensor to_contiguous_cpu(const at::Tensor& tensor, std::string_view operation,
                             std::string_view what) {
  require_dense(tensor, operation, what);
  // A view that is negated or conjugated lazily has its sign in a flag, not in its bytes.
  return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous();
}

std::string_view bytes_of(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return {};
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace lowrank::io
