#include "adapter/init/initialise.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <cmath>
#include <utility>

#include "adapter/init/eva.h"
#include "adapter/init/lora_ga.h"
#include "adapter/init/olora.h"
#include "adapter/init/orthogonal.h"
#include "adapter/init/pissa.h"
#include "effective/weight_reading.h"

namespace lowrank {
namespace {

using Shape = std::vector<int64_t>;

struct FactorShapes {
  Shape a, b;
};

/// PEFT, tuners/lora/layer.py: update_layer of Linear, Embedding and _ConvNd.
FactorShapes shapes_for(const Target& target) {
  const auto& weight = target.weight;
  const auto rank = target.rank;
  switch (target.kind) {
    case LayerKind::kConv1D:
    case LayerKind::kEmbedding:
      return {{rank, weight.size(0)}, {weight.size(1), rank}};
    case LayerKind::kConv: {
      Shape a = weight.sizes().vec();
      a[0] = rank;
      a[1] *= target.groups;
      Shape b(a.size(), 1);
      b[0] = weight.size(0);
      b[1] = rank / target.groups;
      return {a, b};
    }
    case LayerKind::kExperts:
      return {{rank * weight.size(0), weight.size(2)}, {weight.size(1), rank * weight.size(0)}};
    case LayerKind::kTransposedExperts:
      return {{rank * weight.size(0), weight.size(1)}, {weight.size(2), rank * weight.size(0)}};
    case LayerKind::kLinear:
    case LayerKind::kOther:
      break;
  }
  return {{rank, weight.numel() / weight.size(0)}, {weight.size(0), rank}};
}

double fan_in(const at::Tensor& tensor) {
  const int64_t inputs = tensor.numel() / tensor.size(0);
  return static_cast<double>(inputs);
}

/// torch.nn.init.kaiming_uniform_(a=√5), with the same order of operations: bound = √3 · (√(2/6) /
/// √fan_in).
void kaiming_uniform(at::Tensor& tensor) {
  const double gain = std::sqrt(2.0 / (1 + 5));
  const double bound = std::sqrt(3.0) * (gain / std::sqrt(fan_in(tensor)));
  tensor.uniform_(-bound, bound);
}

/// PEFT constructs layers for A and B, whose constructors draw their values, before it draws A
/// again.
void draw_as_constructed(InitialFactors& factors, const Target& target) {
  if (target.kind == LayerKind::kEmbedding) {
    factors.a.normal_();
    factors.b.normal_();
    return;
  }
  kaiming_uniform(factors.a);
  kaiming_uniform(factors.b);
  if (!factors.bias.defined()) return;
  const double bound = 1 / std::sqrt(fan_in(factors.b));
  factors.bias.uniform_(-bound, bound);
}

/// Makes B·A start at zero: A is drawn and B is zero. For an embedding it is the other way round,
/// whatever the method is.
void draw(InitialFactors& factors, const Target& target, LoraInit init) {
  draw_as_constructed(factors, target);
  if (factors.bias.defined()) factors.bias.zero_();
  if (target.kind == LayerKind::kEmbedding) {
    factors.a.zero_();
    factors.b.normal_();
    return;
  }
  if (init == LoraInit::kKaimingUniform) kaiming_uniform(factors.a);
  if (init == LoraInit::kGaussian) factors.a.normal_(0, 1.0 / static_cast<double>(target.rank));
  factors.b.zero_();
}

/// The initialisation of the LoRA notebook, which draws nothing but A.
void draw_normal(InitialFactors& factors, const Target& target) {
  if (factors.bias.defined()) factors.bias.zero_();
  factors.a.normal_();
  factors.b.zero_();
  if (target.kind != LayerKind::kEmbedding) return;
  factors.a.zero_();
  factors.b.normal_();
}

/// Returns the weight, or a tensor of its shape, as the matrix M (out, in) that the factors are
/// made for.
at::Tensor matrix_of(const Target& target, const at::Tensor& weight) {
  return target.kind == LayerKind::kConv1D ? weight.t() : weight.flatten(1);
}

void require_one_matrix(const Target& target) {
  if (are_experts(target.kind)) {
    fail<ArgumentError>("attach", "an initialisation from W must be for layers of one matrix",
                        fmt::format("\"{}\" of {} experts", target.path(), target.weight.size(0)));
  }
  if (target.groups == 1) return;
  fail<ArgumentError>("attach", "an initialisation from W must have a layer without groups",
                      fmt::format("\"{}\" with {} groups", target.path(), target.groups));
}

init::FactorPair factor_pair(const Target& target, const LoraConfig& config,
                             const LayerData& data) {
  require_one_matrix(target);
  const auto m = matrix_of(target, effective::stored_weight(target.weight).detach());
  init::discard_linear_draws(m.size(1), m.size(0), target.rank);
  switch (config.init) {
    case LoraInit::kPissa:
      return init::pissa(m, target.rank, target.scaling);
    case LoraInit::kPissaNiter:
      return init::pissa_randomized(m, target.rank, target.scaling, config.init_iterations);
    case LoraInit::kOlora:
      return init::olora(m, target.rank);
    case LoraInit::kEva:
      return init::eva(*data.inputs, m.size(0), target.rank, config.eva_config.whiten);
    case LoraInit::kCorda:
      return init::corda(m, data.covariance->mean(), target.rank, target.scaling,
                         config.corda_config.corda_method);
    case LoraInit::kLoraGa:
      return init::lora_ga(m, matrix_of(target, data.gradient), target.rank, target.scaling,
                           config.lora_ga_config);
    default:
      return init::orthogonal(m.size(1), m.size(0), target.rank);
  }
}

/// Returns whether B·A is subtracted from the base. It is not if it is zero anyway: with EVA, where
/// B is zero, and with orthogonal factors.
bool is_taken_off(LoraInit init) { return init != LoraInit::kOrthogonal && init != LoraInit::kEva; }

void take(InitialFactors& factors, const init::FactorPair& pair, bool off_the_base) {
  if (factors.bias.defined()) factors.bias.zero_();
  factors.a.copy_(pair.a.reshape(factors.a.sizes()));
  factors.b.copy_(pair.b.reshape(factors.b.sizes()));
  if (!off_the_base) return;
  factors.minus_a = factors.a.clone();
  factors.minus_b = factors.b.clone();
}

void start_from(InitialFactors& factors, const Target& target, const LoraConfig& config,
                const LayerData& data) {
  // PEFT always gives embeddings its default (tuners/lora/layer.py, Embedding.update_layer). So
  // nothing must be subtracted from their base, even if a file names another method.
  if (target.kind == LayerKind::kEmbedding) return draw(factors, target, config.init);
  take(factors, factor_pair(target, config, data), is_taken_off(config.init));
}

void start(InitialFactors& factors, const Target& target, const LoraConfig& config,
           const LayerData& data) {
  switch (config.init) {
    case LoraInit::kKaimingUniform:
    case LoraInit::kGaussian:
      return draw(factors, target, config.init);
    case LoraInit::kNormal:
      return draw_normal(factors, target);
    case LoraInit::kOrthogonal:
    case LoraInit::kPissa:
    case LoraInit::kPissaNiter:
    case LoraInit::kOlora:
    case LoraInit::kEva:
    case LoraInit::kCorda:
    case LoraInit::kLoraGa:
      return at_layer(target.path(), [&] { start_from(factors, target, config, data); });
  }
}

}  // namespace

bool subtracts_data_factors(LoraInit init) {
  return init == LoraInit::kCorda || init == LoraInit::kLoraGa;
}

InitialFactors initial_factors(const Target& target, const LoraConfig& config, LayerData data) {
  const at::NoGradGuard no_grad;
  const auto dtype = target.weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto shapes = shapes_for(target);
  InitialFactors factors;
  factors.a = at::empty(shapes.a, dtype);
  factors.b = at::empty(shapes.b, dtype);
  if (config.lora_bias) factors.bias = at::empty({shapes.b[0]}, dtype);
  start(factors, target, config, std::exchange(data, {}));
  for (auto* factor : {&factors.a, &factors.b, &factors.bias, &factors.minus_a, &factors.minus_b}) {
    if (factor->defined()) *factor = factor->to(target.weight.device());
  }
  return factors;
}

}  // namespace lowrank
