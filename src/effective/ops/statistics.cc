#include "effective/ops/statistics.h"

#include <ATen/ATen.h>

#include <string_view>

#include "effective/mark.h"
#include "effective/weight_reading.h"

namespace lowrank::effective {
namespace {

/// The site of a tensor that is exactly some running statistics; null for any other.
std::shared_ptr<const Site> statistic_site(const at::IValue& value) {
  if (!value.isTensor() || !is_marked(value.toTensor())) return nullptr;
  const auto sites = sites_of(value.toTensor());
  return sites.size() == 1 && sites[0]->is_statistic ? sites[0] : nullptr;
}

/// The statistics that an adapter keeps in place of the base's; undefined if none does now.
at::Tensor replacement_of(const Site& site) {
  const auto& selection = site.board->selection();
  return selection->is_mixed() ? at::Tensor() : selection->of(site).replacement;
}

/// Returns whether batch_norm and the like are called in training mode, in which they write.
bool is_in_training(const c10::FunctionSchema& schema, const torch::jit::Stack& stack) {
  const auto& arguments = schema.arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view name = arguments[i].name();
    if (name != "training" && name != "train" && name != "use_input_stats") continue;
    const auto& value = *(stack.end() - static_cast<std::ptrdiff_t>(arguments.size() - i));
    return !value.isBool() || value.toBool();
  }
  return true;
}

}  // namespace

bool try_statistics(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const auto begin = stack->end() - static_cast<std::ptrdiff_t>(arguments.size());
  if (schema.name() == "aten::add_") {
    const auto site = statistic_site(*begin);
    if (site == nullptr) return false;
    const auto counter = begin->toTensor();
    const auto replacement = replacement_of(*site);
    if (!replacement.defined() && !site->board->are_statistics_frozen()) return false;
    if (replacement.defined()) {
      *begin = replacement;
      op.callBoxed(stack);
    } else {
      torch::jit::drop(*stack, arguments.size());
      stack->emplace_back();
    }
    stack->back() = counter;
    return true;
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view name = arguments[i].name();
    if (name != "running_mean" && name != "running_var") continue;
    auto& value = *(begin + static_cast<std::ptrdiff_t>(i));
    const auto site = statistic_site(value);
    if (site == nullptr) continue;
    if (const auto replacement = replacement_of(*site); replacement.defined()) {
      value = replacement;
    } else if (site->board->are_statistics_frozen() && is_in_training(schema, *stack)) {
      value = stored_weight(value.toTensor()).clone();
    } else {
      value = stored_weight(value.toTensor());
    }
  }
  return false;
}

}  // namespace lowrank::effective
