#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace lowrank::io {

/// Throws TensorError ("[operation] what must ...") for an undefined, sparse, quantized or meta
/// tensor.
void require_dense(const at::Tensor& tensor, std::string_view operation, std::string_view what);

/// The tensor itself if it is dense, contiguous and on the CPU, else a copy that is. Throws as
/// `require_dense` does.
at::Tensor to_contiguous_cpu(const at::Tensor& tensor, std::string_view operation,
                             std::string_view what);

/// The bytes of a tensor that came from `to_contiguous_cpu`; they live as long as it does.
std::string_view bytes_of(const at::Tensor& tensor);

}  // namespace lowrank::io
