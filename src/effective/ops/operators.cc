#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <string_view>

#include "effective/differentiation.h"
#include "effective/nodes/linear.h"
#include "effective/nodes/lora_linear.h"
#include "effective/ops/adapted_layers.h"

// What each operator does with a marked weight. The boxed fallback is driven by the operator's own
// schema and makes every operator right; linear layers, convolutions and embeddings are answered in
// factored form.
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

/// Fused forms of whole layers in evaluation mode, which LibTorch cannot differentiate.
constexpr std::array<std::string_view, 3> kWithoutDerivative = {
    "aten::_transformer_encoder_layer_fwd", "aten::_native_multi_head_attention",
    "aten::_transformer_decoder_only_layer_fwd"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

at::Tensor resolve_for_any(const at::Tensor& tensor) { return resolve(tensor); }

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

/// The same for what works on the stored numbers: operators that it calls in turn see no mark.
void call_on_storage(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  call_below(op, keys, stack);
}

/// Runs a copying operator on a whole marked weight or its transpose; the copy means what the
/// original means. False, with nothing done, for any other view.
bool try_copy_with_meaning(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
                           const at::Tensor& source) {
  const auto sites = sites_of(source), of_transpose = sites_of_transpose(source);
  if (sites.empty() && of_transpose.empty()) return false;
  call_on_storage(op, keys, stack);
  const auto& copy = stack->back().toTensor();
  if (copy.is_alias_of(source) || !copy.is_floating_point()) return true;
  for (const auto& site : sites) effective::bind(copy, site);
  for (const auto& site : of_transpose) bind_transposed(copy, site);
  return true;
}

/// In oneDNN's form, which optimize_for_inference keeps some weights in, a weight would go on to
/// mean what it means now.
void require_plain_form(const c10::OperatorHandle& op, const at::IValue& weight) {
  if (op.schema().name() != "aten::to_mkldnn" || !is_marked(weight.toTensor())) return;
  const auto* binding = find(weight.toTensor());
  if (binding == nullptr) return;
  fail<TensorError>("adapter",
                    fmt::format("the weight of \"{}\" must stay a plain tensor while it is adapted",
                                binding->site->path),
                    "to_mkldnn, which optimize_for_inference calls",
                    "Merge and save the module, and optimize what was saved.");
}

/// Writes into a marked tensor change W. It stays adapted where it is given another storage, as
/// torch::load of a module does (set_).
void write(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
           const at::Tensor& first) {
  const bool moves = op.schema().name() == "aten::set_" && is_marked(first);
  const auto sites = moves ? sites_of(first) : std::vector<std::shared_ptr<const Site>>();
  call_on_storage(op, keys, stack);
  for (const auto& site : sites) {
    if (!is_bound(first, *site)) effective::bind(first, site);
  }
}

/// A fused layer would fail on backward with a message of LibTorch's own that names no way out.
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

/// The bias of a mixed batch, which Linear::forward of LibTorch 1.13 adds by itself where its input
/// has more dimensions than two.
bool try_add_bias_by_row(const c10::OperatorHandle& op, Stack* stack) {
  const auto& name = op.schema().name();
  const bool in_place = name == "aten::add_";
  if ((name != "aten::add" && !in_place) || op.schema().overload_name() != "Tensor") return false;
  auto* const arguments = &*(stack->end() - 3);
  const auto y = arguments[0].toTensor(), bias = arguments[1].toTensor();
  if (is_marked(y) || bias.dim() != 1 || y.dim() < 2 || !arguments[2].toScalar().equal(1)) {
    return false;
  }
  const auto use = mixed_bias(bias);
  if (!use) return false;
  arguments[1] = without_mark(bias);
  op.callBoxed(stack);
  if (in_place) {
    add_bias_by_row_(y, bias, *use);
  } else {
    stack->back() = add_bias_by_row(stack->back().toTensor(), bias, *use);
  }
  return true;
}

/// Views and writes take the marked tensor itself: a view keeps the mark, a write changes W. Any
/// other operator is given what the tensor means.
void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const auto begin = stack->end() - static_cast<std::ptrdiff_t>(arguments.size());
  if (is_convolution(schema.name()) && try_adapted_convolution(op, stack)) return;
  if (try_add_bias_by_row(op, stack)) return;
  if (contains(kCopies, schema.name())) {
    const auto source = begin->toTensor();
    if (is_marked(source) && try_copy_with_meaning(op, keys, stack, source)) return;
    *begin = resolve(source);
  }
  if (begin->isTensor()) require_plain_form(op, *begin);
  const auto replace = contains(kValueFree, schema.name()) ? &without_mark : &resolve_for_any;
  bool viewed = false, written = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = *(begin + static_cast<std::ptrdiff_t>(i));
    if (arguments[i].alias_info() == nullptr) {
      value = map_tensors(value, replace);
    } else {
      (arguments[i].alias_info()->isWrite() ? written : viewed) |= holds_mark(value);
    }
  }
  if (written) {
    write(op, keys, stack, begin->isTensor() ? begin->toTensor() : at::Tensor());
  } else if (viewed) {
    // Where the "view" is a copy after all (reshape), the copying operator below comes here again.
    call_below(op, keys, stack);
  } else {
    require_derivative(op, *stack, arguments.size());
    // The call starts anew: what it is given may need keys that W did not have.
    op.callBoxed(stack);
  }
}

/// Whether a product can be taken from the numbers as they lie, below autograd: anything but
/// kOther. Asked first, so that what is switched off costs least.
Reading product_reading(const at::Tensor& x, const at::Tensor& weight, const at::Tensor* bias) {
  const auto reading = reading_of(weight);
  const bool stored = reading != Reading::kOther && !is_marked(x) &&
                      !(bias != nullptr && is_marked(*bias)) && !is_differentiated(x) &&
                      !is_differentiated(weight) && !(bias != nullptr && is_differentiated(*bias));
  return stored ? reading : Reading::kOther;
}

/// A product that no adapter takes part in, by our kernels where the weight is one of theirs; else
/// undefined.
at::Tensor try_own_product(const at::Tensor& x, const at::Tensor& weight, Side side,
                           const OptionalTensor& bias) {
  const bool transposed = side == Side::kTranspose;
  if (!is_marked(weight) || !is_fast(weight, transposed)) return {};
  return try_fast_linear(x, transposed ? transposed_without_mark(weight) : without_mark(weight),
                         bias);
}

/// Goes on with the call below the mark and below autograd.
template <class Operator, class... Args>
at::Tensor on_stored(c10::DispatchKeySet keys, const Args&... args) {
  constexpr auto skipped = kAutograd | c10::DispatchKeySet(kMark);
  const c10::impl::ExcludeDispatchKeyGuard below(skipped);
  return Operator::redispatch(keys - skipped, args...);
}

/// How a product x·Mᵀ is to be computed from a weight that lies as `side` says.
template <class Product>
at::Tensor product_with(const at::Tensor& x, const at::Tensor& weight, Side side,
                        const OptionalTensor& bias, const Product& product) {
  const auto use = x.dim() >= 1 && !is_marked(x) ? use_of_matrix(weight, side) : std::nullopt;
  const bool off = use && use->is_off();
  if (use && !off && !use->is_replaced()) {
    const auto matrix =
        side == Side::kMatrix ? without_mark(weight) : transposed_without_mark(weight);
    return adapted_linear(x, matrix, bias, *use);
  }
  if (off && use->meaning().observe) use->meaning().observe(x);
  const auto by_row = bias ? mixed_bias(*bias) : std::nullopt;
  auto plain_bias = bias;
  if (bias) plain_bias = by_row ? without_mark(*bias) : resolve(*bias);
  const auto input = off ? x : resolve(x);
  auto y = off || !use ? try_own_product(input, weight, side, plain_bias) : at::Tensor();
  if (!y.defined()) y = product(input, off ? without_mark(weight) : resolve(weight), plain_bias);
  return by_row ? add_bias_by_row(y, *bias, *by_row) : y;
}

/// A view keeps the mark; this one, which Linear::forward takes each time, without the fallback.
at::Tensor t(c10::DispatchKeySet keys, const at::Tensor& weight) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  return at::_ops::t::redispatch(below_mark(keys), weight);
}

at::Tensor linear(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight,
                  const OptionalTensor& bias) {
  const auto reading = product_reading(x, weight, bias ? &*bias : nullptr);
  if (reading != Reading::kOther) {
    at::Tensor y;
    if (reading == Reading::kFast) y = try_own_product(x, weight, Side::kMatrix, bias);
    return y.defined() ? y : on_stored<at::_ops::linear>(keys, x, weight, bias);
  }
  return product_with(x, weight, Side::kMatrix, bias,
                      [](const auto& input, const auto& w, const OptionalTensor& b) {
                        return at::linear(input, w, b);
                      });
}

at::Tensor matmul(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t) {
  const auto reading = product_reading(x, weight_t, nullptr);
  if (reading != Reading::kOther) {
    at::Tensor y;
    if (reading == Reading::kFast) y = try_own_product(x, weight_t, Side::kTranspose, {});
    return y.defined() ? y : on_stored<at::_ops::matmul>(keys, x, weight_t);
  }
  return product_with(x, weight_t, Side::kTranspose, {},
                      [](const auto& input, const auto& w, const OptionalTensor& /*none*/) {
                        return at::matmul(input, w);
                      });
}

at::Tensor mm(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t) {
  const auto reading = product_reading(x, weight_t, nullptr);
  if (reading != Reading::kOther) {
    at::Tensor y;
    if (reading == Reading::kFast) y = try_own_product(x, weight_t, Side::kTranspose, {});
    return y.defined() ? y : on_stored<at::_ops::mm>(keys, x, weight_t);
  }
  return product_with(x, weight_t, Side::kTranspose, {},
                      [](const auto& input, const auto& w, const OptionalTensor& /*none*/) {
                        return at::mm(input, w);
                      });
}

at::Tensor addmm(c10::DispatchKeySet keys, const at::Tensor& bias, const at::Tensor& x,
                 const at::Tensor& weight_t, const at::Scalar& beta, const at::Scalar& alpha) {
  const auto is_layer = [&] {
    return bias.dim() == 1 && weight_t.dim() == 2 && bias.size(0) == weight_t.size(1) &&
           beta.equal(1) && alpha.equal(1);
  };
  const auto reading = product_reading(x, weight_t, &bias);
  if (reading != Reading::kOther) {
    at::Tensor y;
    if (reading == Reading::kFast && is_layer()) {
      y = try_own_product(x, weight_t, Side::kTranspose, bias);
    }
    return y.defined() ? y : on_stored<at::_ops::addmm>(keys, bias, x, weight_t, beta, alpha);
  }
  if (!is_layer()) return at::addmm(resolve(bias), resolve(x), resolve(weight_t), beta, alpha);
  return product_with(x, weight_t, Side::kTranspose, OptionalTensor(bias),
                      [](const auto& input, const auto& w, const OptionalTensor& b) {
                        return at::addmm(*b, input, w);
                      });
}

/// Local, so that its address is a constant under the undefined-behaviour sanitizer too.
at::Tensor embedding(const at::Tensor& weight, const at::Tensor& indices, int64_t padding_idx,
                     bool scale_grad_by_freq, bool sparse) {
  return adapted_embedding(weight, indices, padding_idx, scale_grad_by_freq, sparse);
}

/// Owns the registrations for the life of the process.
struct Registrations {
  torch::Library everything{torch::Library::IMPL, "_", kMark, __FILE__, __LINE__};
  torch::Library layers{torch::Library::IMPL, "aten", kMark, __FILE__, __LINE__};

  Registrations() {
    everything.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
    layers.impl("t", TORCH_FN(t));
    layers.impl("linear", TORCH_FN(linear));
    layers.impl("matmul", TORCH_FN(matmul));
    layers.impl("mm", TORCH_FN(mm));
    layers.impl("addmm", TORCH_FN(addmm));
    layers.impl("embedding", TORCH_FN(embedding));
  }
};

}  // namespace

void register_operators() {
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      static Registrations registrations;
    } catch (const c10::Error& error) {
      fail<Error>("attach", "LibTorch's dispatch key TESTING_ONLY_GenericWrapper must be free",
                  "another library of this process that has registered a fallback for it",
                  "Only one copy of lowrank can be loaded in a process.");
    }
  });
}

}  // namespace lowrank::effective
