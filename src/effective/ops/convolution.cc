#include "effective/ops/convolution.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "effective/mark.h"
#include "effective/ops/factored_output.h"

namespace lowrank::effective {
namespace {

using Stack = torch::jit::Stack;

constexpr std::array<std::string_view, 5> kConvolutions = {
    "aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::convolution", "aten::_convolution"};

// The first arguments of each of them.
constexpr size_t kInput = 0, kWeight = 1, kBias = 2;

/// One call of a convolution operator, which can be repeated with some of its arguments exchanged.
class Convolution {
 public:
  Convolution(const c10::OperatorHandle& op, const Stack& stack)
      : op_(op), arguments_(stack.end() - count(), stack.end()) {}

  std::ptrdiff_t count() const {
    return static_cast<std::ptrdiff_t>(op_.schema().arguments().size());
  }
  const at::Tensor& input() const { return arguments_[kInput].toTensor(); }
  const at::Tensor& weight() const { return arguments_[kWeight].toTensor(); }
  OptionalTensor bias() const { return arguments_[kBias].toOptional<at::Tensor>(); }
  int64_t groups() const { return arguments_[index_of("groups")].toInt(); }
  bool is_transposed() const {
    const auto index = index_of("transposed");
    return index < arguments_.size() && arguments_[index].toBool();
  }

  at::Tensor operator()(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        int64_t groups) const {
    Stack stack = arguments_;
    stack[kInput] = x;
    stack[kWeight] = weight;
    stack[kBias] = bias.defined() ? c10::IValue(bias) : c10::IValue();
    stack[index_of("groups")] = groups;
    op_.callBoxed(&stack);
    return stack.back().toTensor();
  }

 private:
  size_t index_of(std::string_view name) const {
    const auto& schema = op_.schema().arguments();
    const auto at = std::find_if(schema.begin(), schema.end(),
                                 [&](const auto& argument) { return argument.name() == name; });
    return static_cast<size_t>(at - schema.begin());
  }

  const c10::OperatorHandle& op_;
  Stack arguments_;
};

/// Applies B (out, rank / groups, 1...) to (N, rank, ...), or to (rank, ...) without a batch.
at::Tensor pointwise(const at::Tensor& x, const at::Tensor& b, int64_t groups) {
  const bool batched = x.dim() == b.dim();
  const std::vector<int64_t> ones(static_cast<size_t>(b.dim() - 2), 1), zeros(ones.size(), 0);
  const auto y = at::convolution(batched ? x : x.unsqueeze(0), b, {}, ones, zeros, ones,
                                 /*transposed=*/false, zeros, groups);
  return batched ? y : y.squeeze(0);
}

}  // namespace

bool is_convolution(std::string_view operator_name) {
  return std::find(kConvolutions.begin(), kConvolutions.end(), operator_name) !=
         kConvolutions.end();
}

bool try_factored_convolution(const c10::OperatorHandle& op, Stack* stack) {
  const Convolution convolve(op, *stack);
  const auto reading = read_weight(convolve.weight(), Role::kConvolution);
  if (reading.computation != Computation::kFactored || is_marked(convolve.input()) ||
      convolve.is_transposed()) {
    return false;
  }
  const auto x = convolve.input();
  const auto weight = stored_weight(convolve.weight());
  require_trainable(weight, *reading.site);
  const auto bias = convolve.bias();
  const auto groups = convolve.groups();
  const Layer layer = {
      .base = [&](const at::Tensor& input,
                  const at::Tensor& w) { return convolve(input, w, {}, groups); },
      .low =
          [&](const at::Tensor& input, const at::Tensor& a, const at::Tensor& b) {
            return pointwise(convolve(input, a, {}, /*groups=*/1), b, groups);
          },
      .by_output =
          [&](const at::Tensor& vector) {
            std::vector<int64_t> shape(static_cast<size_t>(weight.dim() - 1), 1);
            shape[0] = -1;
            return vector.reshape(shape);
          },
  };
  const auto y = add_terms(convolve(x, weight, layer_bias(bias, reading), groups), x, weight, bias,
                           reading, layer);
  stack->erase(stack->end() - convolve.count(), stack->end());
  stack->emplace_back(y);
  return true;
}

}  // namespace lowrank::effective
