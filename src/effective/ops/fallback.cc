#include "effective/ops/fallback.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "effective/compact_weight.h"
#include "effective/mark.h"
#include "effective/ops/convolution.h"
#include "effective/ops/mixed_batch.h"
#include "effective/ops/statistics.h"

namespace lowrank::effective {
namespace {

using Stack = torch::jit::Stack;

/// Copies of a whole weight stay adapted: the new tensor gets the mark and the same factors, so
/// that module.to(dtype), clone() and autocast's casts do not turn the adapter off.
constexpr std::array<std::string_view, 4> kCopies = {"aten::to", "aten::_to_copy", "aten::clone",
                                                     "aten::contiguous"};

/// Operators that read only the shape or options of a tensor, never its values.
constexpr std::array<std::string_view, 13> kValueFree = {
    "aten::is_same_size", "aten::empty_like", "aten::zeros_like",        "aten::ones_like",
    "aten::full_like",    "aten::rand_like",  "aten::randn_like",        "aten::randint_like",
    "aten::new_empty",    "aten::new_zeros",  "aten::new_empty_strided", "aten::new_ones",
    "aten::new_full"};

/// Fused operators for whole layers in evaluation mode, which LibTorch cannot differentiate.
constexpr std::array<std::string_view, 3> kWithoutDerivative = {
    "aten::_transformer_encoder_layer_fwd", "aten::_native_multi_head_attention",
    "aten::_transformer_decoder_only_layer_fwd"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

at::Tensor value_of(const at::Tensor& tensor) { return effective_value(tensor); }

at::IValue map_tensors(const at::IValue& value, at::Tensor (*function)(const at::Tensor&)) {
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    return is_marked(tensor) ? at::IValue(function(tensor)) : value;
  }
  if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (auto& tensor : tensors) {
      if (is_marked(tensor)) tensor = function(tensor);
    }
    return tensors;
  }
  if (value.isOptionalTensorList()) {
    auto tensors = value.toOptionalTensorList().copy();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const OptionalTensor tensor = tensors.get(i);
      if (tensor && is_marked(*tensor)) tensors.set(i, function(*tensor));
    }
    return tensors;
  }
  return value;
}

c10::DispatchKeySet below_mark(c10::DispatchKeySet keys) {
  return keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kMark);
}

void call_below(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  op.redispatchBoxed(below_mark(keys), stack);
}

bool holds_mark(const at::IValue& value) {
  if (value.isTensor()) return is_marked(value.toTensor());
  if (!value.isTensorList()) return false;
  const auto tensors = value.toTensorVector();
  return std::any_of(tensors.begin(), tensors.end(), is_marked);
}

/// Like call_below(), for operators that work on W as it is stored: operators that they call in
/// turn see no mark either.
void call_on_storage(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  call_below(op, keys, stack);
}

/// Runs a copying operator on a compact weight. If it returns the shell itself, that is the result,
/// so that module.to() of the same dtype widens nothing.
void copy_compact(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
                  const at::Tensor& source, const CompactWeight& compact) {
  const auto count = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
  const Stack arguments(stack->end() - count, stack->end());
  call_on_storage(op, keys, stack);
  if (stack->back().toTensor().is_alias_of(source)) return;
  stack->pop_back();
  stack->insert(stack->end(), arguments.begin(), arguments.end());
  *(stack->end() - count) = widened(source, compact);
  op.callBoxed(stack);
}

/// Runs a copying operator on a whole marked weight or its transpose, and gives the copy the
/// original's meaning. Returns false, and does nothing, for any other view.
bool try_copy_with_meaning(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
                           const at::Tensor& source) {
  const auto sites = sites_of(source), of_transpose = sites_of_transpose(source);
  const auto* compact = compact_weight_of(source);
  if (sites.empty() && of_transpose.empty() && compact == nullptr) return false;
  if (compact != nullptr) {
    copy_compact(op, keys, stack, source, *compact);
  } else {
    call_on_storage(op, keys, stack);
  }
  const auto& copy = stack->back().toTensor();
  if (copy.is_alias_of(source) || !copy.is_floating_point()) return true;
  for (const auto& site : sites) effective::bind(copy, site);
  for (const auto& site : of_transpose) bind_transposed(copy, site);
  return true;
}

/// Refuses the conversion to oneDNN's layout, which optimize_for_inference applies to some weights:
/// after it, the weight's meaning could no longer change.
void refuse_conversion_to_mkldnn(const c10::OperatorHandle& op, const at::IValue& weight) {
  if (op.schema().name() != "aten::to_mkldnn" || !is_marked(weight.toTensor())) return;
  const auto* site = read_weight(weight.toTensor(), Role::kValue).site;
  if (site == nullptr) return;
  fail<TensorError>(
      "adapter",
      fmt::format("the weight of \"{}\" must stay a strided tensor while it is adapted",
                  site->path),
      "to_mkldnn, which optimize_for_inference calls",
      "Merge and save the module, and optimize what was saved.");
}

/// Throws TensorError if the operator would write to a compact weight, whose shell is read-only
/// memory.
void require_writable(const c10::OperatorHandle& op, const at::IValue& value) {
  const auto is_compact = [](const at::Tensor& tensor) {
    return is_marked(tensor) && compact_weight_of(tensor) != nullptr;
  };
  bool is_refused = value.isTensor() && is_compact(value.toTensor());
  if (value.isTensorList()) {
    const auto tensors = value.toTensorVector();
    is_refused = std::any_of(tensors.begin(), tensors.end(), is_compact);
  }
  if (!is_refused) return;
  fail<TensorError>("adapter", "a weight in a compact format must not be written to",
                    op.schema().name());
}

/// Runs an operator that writes into a marked tensor, which changes W. A tensor that is given
/// another storage, as torch::load of a module does with set_, stays adapted.
void write(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
           const at::Tensor& first) {
  const bool moves = op.schema().name() == "aten::set_" && is_marked(first);
  const auto sites = moves ? sites_of(first) : std::vector<std::shared_ptr<const Site>>();
  call_on_storage(op, keys, stack);
  for (const auto& site : sites) {
    if (!is_bound(first, *site)) effective::bind(first, site);
  }
}

/// Throws early: on backward, a fused layer would fail with a message of LibTorch's own that does
/// not say what to do.
void require_derivative(const c10::OperatorHandle& op, const Stack& stack, size_t arguments) {
  if (!at::GradMode::is_enabled() || !contains(kWithoutDerivative, op.schema().name())) return;
  const auto requires_grad = [](const at::IValue& value) {
    return value.isTensor() && value.toTensor().defined() && value.toTensor().requires_grad();
  };
  if (std::none_of(stack.end() - static_cast<std::ptrdiff_t>(arguments), stack.end(),
                   requires_grad)) {
    return;
  }
  fail<TensorError>(
      "adapter", "an adapted transformer layer must be in train() to be trained",
      fmt::format("its fused form in eval(), {}, which has no derivative", op.schema().name()),
      "Call train() on the model, or use NoGradGuard where no gradient is wanted.");
}

}  // namespace

void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const auto begin = stack->end() - static_cast<std::ptrdiff_t>(arguments.size());
  if (is_convolution(schema.name()) && try_factored_convolution(op, stack)) return;
  if (try_add_bias_by_row(op, stack)) return;
  if (try_statistics(op, stack)) return;
  if (contains(kCopies, schema.name())) {
    const auto source = begin->toTensor();
    if (is_marked(source) && try_copy_with_meaning(op, keys, stack, source)) return;
    *begin = effective_value(source);
  }
  if (begin->isTensor()) refuse_conversion_to_mkldnn(op, *begin);
  const auto replace = contains(kValueFree, schema.name()) ? &without_mark : &value_of;
  bool viewed = false, written = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = *(begin + static_cast<std::ptrdiff_t>(i));
    if (arguments[i].alias_info() == nullptr) {
      value = map_tensors(value, replace);
    } else if (holds_mark(value)) {
      const bool writes = arguments[i].alias_info()->isWrite();
      if (writes) require_writable(op, value);
      (writes ? written : viewed) = true;
    }
  }
  if (written) {
    write(op, keys, stack, begin->isTensor() ? begin->toTensor() : at::Tensor());
  } else if (viewed) {
    // If the "view" turns out to be a copy (reshape), the copying operator that it calls comes here
    // again.
    call_below(op, keys, stack);
  } else {
    require_derivative(op, *stack, arguments.size());
    // Dispatch the call from the start: its new arguments may need keys that W did not have.
    op.callBoxed(stack);
  }
}

}  // namespace lowrank::effective
