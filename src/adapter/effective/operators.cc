#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <lowrank/error.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <string_view>

#include "adapter/effective/adapted_linear.h"
#include "adapter/effective/effective_weight.h"

// What each operator does with a marked weight. The boxed fallback is driven by the operator's own
// schema and makes every operator right; the linear family is answered in factored form.
namespace lowrank::effective {
namespace {

using Stack = torch::jit::Stack;
using OptionalTensor = c10::optional<at::Tensor>;  // std::optional from LibTorch 2 on

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

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

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

void call_below(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kMark), stack);
}

/// The same for what works on the stored numbers: operators that it calls in turn see no mark.
void call_on_storage(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  call_below(op, keys, stack);
}

/// Runs a copying operator on a whole marked weight; the copy means what the original means.
void copy_with_meaning(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
                       const at::Tensor& source) {
  const auto factors = find(source)->factors;
  call_on_storage(op, keys, stack);
  const auto& copy = stack->back().toTensor();
  if (!copy.is_alias_of(source) && copy.is_floating_point()) bind(copy, factors);
}

/// Views and writes take the marked tensor itself: a view keeps the mark, a write changes W. Any
/// other operator is given what the tensor means.
void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const auto begin = stack->end() - static_cast<std::ptrdiff_t>(arguments.size());
  if (contains(kCopies, schema.name())) {
    const auto source = begin->toTensor();
    const auto* binding = is_marked(source) ? find(source) : nullptr;
    if (binding != nullptr && binding->geometry.is(source)) {
      copy_with_meaning(op, keys, stack, source);
      return;
    }
    *begin = resolve(source);
  }
  const auto replace = contains(kValueFree, schema.name()) ? &without_mark : &resolve;
  bool viewed = false, written = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = *(begin + static_cast<std::ptrdiff_t>(i));
    if (arguments[i].alias_info() == nullptr) {
      value = map_tensors(value, replace);
    } else {
      const bool marked = value.isTensor() && is_marked(value.toTensor());
      (arguments[i].alias_info()->isWrite() ? written : viewed) |= marked;
    }
  }
  if (written) {
    call_on_storage(op, keys, stack);
  } else if (viewed) {
    // Where the "view" is a copy after all (reshape), the copying operator below comes here again.
    call_below(op, keys, stack);
  } else {
    // The call starts anew: what it is given may need keys that W did not have.
    op.callBoxed(stack);
  }
}

/// The factors to use for a product with `weight`, where it is exactly W or its transpose and the
/// adapter is on; null sends the operator down the general path.
const Binding* active_binding(const at::Tensor& weight) {
  if (!is_marked(weight)) return nullptr;
  const auto* binding = find(weight);
  return binding != nullptr && binding->factors->adapter->active() ? binding : nullptr;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  const auto* binding = active_binding(weight);
  if (binding != nullptr && binding->geometry.is(weight) && weight.dim() == 2 && !is_marked(x) &&
      x.dim() >= 1 && !(bias && is_marked(*bias))) {
    return adapted_linear(x, without_mark(weight), bias ? *bias : at::Tensor(), *binding->factors);
  }
  return at::linear(resolve(x), resolve(weight), bias ? OptionalTensor(resolve(*bias)) : bias);
}

at::Tensor matmul(const at::Tensor& x, const at::Tensor& weight_t) {
  const auto* binding = active_binding(weight_t);
  if (binding != nullptr && binding->geometry.is_transpose_of(weight_t) && !is_marked(x) &&
      x.dim() >= 1) {
    return adapted_linear(x, without_mark(weight_t).t(), /*bias=*/{}, *binding->factors);
  }
  return at::matmul(resolve(x), resolve(weight_t));
}

at::Tensor mm(const at::Tensor& x, const at::Tensor& weight_t) {
  const auto* binding = active_binding(weight_t);
  if (binding != nullptr && binding->geometry.is_transpose_of(weight_t) && !is_marked(x) &&
      x.dim() == 2) {
    return adapted_linear(x, without_mark(weight_t).t(), /*bias=*/{}, *binding->factors);
  }
  return at::mm(resolve(x), resolve(weight_t));
}

at::Tensor addmm(const at::Tensor& bias, const at::Tensor& x, const at::Tensor& weight_t,
                 const at::Scalar& beta, const at::Scalar& alpha) {
  const auto* binding = active_binding(weight_t);
  if (binding != nullptr && binding->geometry.is_transpose_of(weight_t) && x.dim() == 2 &&
      bias.dim() == 1 && bias.size(0) == weight_t.size(1) && !is_marked(x) && !is_marked(bias) &&
      beta.equal(1) && alpha.equal(1)) {
    return adapted_linear(x, without_mark(weight_t).t(), bias, *binding->factors);
  }
  return at::addmm(resolve(bias), resolve(x), resolve(weight_t), beta, alpha);
}

/// Owns the registrations for the life of the process.
struct Registrations {
  torch::Library everything{torch::Library::IMPL, "_", kMark, __FILE__, __LINE__};
  torch::Library linear_family{torch::Library::IMPL, "aten", kMark, __FILE__, __LINE__};

  Registrations() {
    everything.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
    linear_family.impl("linear", TORCH_FN(linear));
    linear_family.impl("matmul", TORCH_FN(matmul));
    linear_family.impl("mm", TORCH_FN(mm));
    linear_family.impl("addmm", TORCH_FN(addmm));
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
