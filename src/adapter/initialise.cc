#include "adapter/initialise.h"

#include <ATen/ATen.h>

#include <cmath>

namespace lowrank {
namespace {

/// torch.nn.init.kaiming_uniform_(a=√5), term by term as there: bound = √3 · (√(2/6) / √fan_in).
void kaiming_uniform(at::Tensor& tensor) {
  const double gain = std::sqrt(2.0 / (1 + 5));
  const double bound = std::sqrt(3.0) * (gain / std::sqrt(static_cast<double>(tensor.size(1))));
  tensor.uniform_(-bound, bound);
}

}  // namespace

InitialFactors initial_factors(const at::Tensor& weight, int64_t rank, LoraInit init) {
  const auto dtype = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto a = at::empty({rank, weight.size(1)}, at::TensorOptions().dtype(dtype));
  auto b = at::empty({weight.size(0), rank}, at::TensorOptions().dtype(dtype));
  switch (init) {
    case LoraInit::kKaimingUniform:
      // PEFT constructs two nn.Linear, which draw A and B, then draws A again
      // (tuners/lora/layer.py, update_layer and reset_lora_parameters).
      kaiming_uniform(a);
      kaiming_uniform(b);
      kaiming_uniform(a);
      break;
    case LoraInit::kNormal:
      a.normal_(0, 1);
      break;
    default:
      break;  // refused by attach
  }
  b.zero_();
  return {a.to(weight.device()), b.to(weight.device())};
}

}  // namespace lowrank
