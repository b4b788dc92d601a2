#include "kernels/activation.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/grad_mode.h>

#include "kernels/isa/kernel_table.h"
#include "kernels/parallel.h"
#include "kernels/products.h"

namespace lowrank::kernels {
namespace {

/// The fewest numbers that a thread gets: with fewer, waking it up costs more than they do.
constexpr int64_t kNumbersPerThread = int64_t{1} << 15;

}  // namespace

at::Tensor relu_gradient(const at::Tensor& dy, const at::Tensor& y) {
  const bool kernel_ready = is_kernel_ready(dy) && is_kernel_ready(y) && dy.is_contiguous() &&
                            y.is_contiguous() && dy.sizes() == y.sizes() &&
                            !at::GradMode::is_enabled();
  if (!kernel_ready) return at::threshold_backward(dy, y, 0);
  const at::Tensor gradient(at::detail::empty_cpu(dy.sizes(), at::kFloat));
  parallel_for(0, dy.numel(), kNumbersPerThread, [&](int64_t begin, int64_t end) {
    kernel_table().where_positive_loop(gradient.data_ptr<float>() + begin,
                                       dy.data_ptr<float>() + begin, y.data_ptr<float>() + begin,
                                       end - begin);
  });
  return gradient;
}

}  // namespace lowrank::kernels
