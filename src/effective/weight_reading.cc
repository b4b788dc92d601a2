#include "effective/weight_reading.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>

#include "effective/compact_weight.h"
#include "effective/mark.h"

namespace lowrank::effective {
namespace {

bool is_product(Role role) { return role == Role::kMatrix || role == Role::kTranspose; }

/// Returns whether an operator with this role reads the site of a layer of this kind.
bool reads(Role role, LayerKind kind) {
  if (kind == LayerKind::kOther) return true;
  return (kind == LayerKind::kEmbedding) == (role == Role::kEmbedding);
}

const Binding* find_binding(const StorageContext& context, const at::Tensor& tensor, Role role) {
  for (const auto& binding : context.bindings) {
    if (reads(role, binding.site->kind) && binding.geometry.holds(tensor)) return &binding;
  }
  return nullptr;
}

/// Returns whether this is a mixed batch in which no part has factors for the site.
bool is_without_terms(const Selection& mixed, const Site& site) {
  return mixed.is_mixed() &&
         std::all_of(mixed.parts.begin(), mixed.parts.end(),
                     [&](const auto& part) { return part.selection->of(site).terms.empty(); });
}

/// Returns whether the tensor is exactly the weight that its site's factors are made for, so that
/// an operator with this role can apply them to its input.
bool takes_factors(const at::Tensor& tensor, Role role, const Binding& binding,
                   const Selection& selection) {
  const auto kind = binding.site->kind;
  const auto& whole = binding.geometry;
  if (is_product(role)) {
    const bool lies_as_matrix = kind == LayerKind::kLinear || kind == LayerKind::kOther;
    if (tensor.dim() != 2 || (!lies_as_matrix && kind != LayerKind::kConv1D)) return false;
    return lies_as_matrix == (role == Role::kMatrix) ? whole.is(tensor)
                                                     : whole.is_transpose_of(tensor);
  }
  if (role == Role::kValue || !whole.is(tensor)) return false;
  const auto own = role == Role::kConvolution ? LayerKind::kConv : LayerKind::kEmbedding;
  return kind == own || (kind == LayerKind::kOther && is_without_terms(selection, *binding.site));
}

/// The same view of `sum` as `view` is of W, where `whole` is the layout of W and `sum` has its
/// shape.
at::Tensor same_view(const at::Tensor& sum, const Geometry& whole, const at::Tensor& view) {
  if (whole.is(view)) return sum;
  auto laid_out = sum;
  if (sum.strides() != at::IntArrayRef(whole.strides)) {  // W has gaps between its rows
    laid_out = at::as_strided_scatter(at::zeros({whole.end - whole.offset}, sum.options()), sum,
                                      whole.sizes, whole.strides, 0);
  }
  return laid_out.as_strided(view.sizes(), view.strides(), view.storage_offset() - whole.offset);
}

/// Dropout acts on the input of A, and a dense weight has none.
void require_no_dropout(const Meaning& meaning, const Site& site) {
  for (const auto& term : meaning.terms) {
    if (term.dropout <= 0 || !site.trains()) continue;
    fail<TensorError>("adapter", fmt::format("lora_dropout must be 0 to train \"{}\"", site.path),
                      fmt::format("{}, and an operator that needs one dense weight", term.dropout),
                      "Only linear layers, convolutions and embeddings can drop the input of A.");
  }
}

/// A dense weight has one value for all rows, so in a mixed batch it must mean its base in all of
/// them.
void require_base_in_all(const Selection& mixed, const Site& site) {
  for (const auto& part : mixed.parts) {
    if (part.selection->of(site).is_base()) continue;
    fail<TensorError>("mixed batch",
                      fmt::format("\"{}\" must be read by a linear layer, a convolution or an "
                                  "embedding, which take factors row by row",
                                  site.path),
                      part.selection->of(site).replacement.defined()
                          ? "a weight that an adapter replaces, for which there are no factors"
                          : "an operator that needs one dense weight",
                      "Run the adapters one after the other, or leave this layer out of them.");
  }
}

}  // namespace

WeightReading read_weight(const at::Tensor& tensor, Role role) {
  WeightReading reading;
  if (!is_marked(tensor)) return reading;
  const auto* context = StorageContext::of(tensor.storage());
  if (context == nullptr) return reading;
  if (context->compact != nullptr) {
    reading.compact = context->compact.get();
    const bool is_whole = reading.compact->is(tensor) || reading.compact->is_transpose_of(tensor);
    reading.computation =
        is_product(role) && is_whole ? Computation::kAccelerated : Computation::kWidened;
  }
  if (is_product(role) && !context->accelerated.empty()) {
    reading.accelerated = context->find_accelerated(tensor, role == Role::kTranspose);
    if (reading.accelerated != nullptr) reading.computation = Computation::kAccelerated;
  }
  const auto* binding = find_binding(*context, tensor, role);
  if (binding == nullptr) return reading;
  reading.site = binding->site.get();
  reading.geometry = &binding->geometry;
  const auto& selection = reading.site->board->selection();
  const auto& meaning = selection->of(*reading.site);
  const bool mixed = selection->is_mixed();
  if (!mixed && meaning.is_base()) {
    reading.is_observed = meaning.observe && takes_factors(tensor, role, *binding, *selection);
    if (reading.is_observed) reading.selection = selection;
    return reading;
  }
  reading.selection = selection;
  const bool replaced = !mixed && meaning.replacement.defined();
  reading.computation = !replaced && takes_factors(tensor, role, *binding, *selection)
                            ? Computation::kFactored
                            : Computation::kDense;
  return reading;
}

at::Tensor stored_weight(const at::Tensor& weight) {
  if (!is_marked(weight)) return weight;
  if (const auto* compact = compact_weight_of(weight)) return widened(weight, *compact);
  return without_mark(weight);
}

at::Tensor matrix_of(const at::Tensor& weight, Role role) {
  return role == Role::kMatrix ? without_mark(weight) : transposed_without_mark(weight);
}

at::Tensor effective_value(const at::Tensor& tensor, const WeightReading& reading) {
  if (reading.is_base()) return stored_weight(tensor);
  const auto& site = *reading.site;
  if (reading.is_mixed()) {
    require_base_in_all(*reading.selection, site);
    return stored_weight(tensor);
  }
  const auto& meaning = reading.meaning();
  require_no_dropout(meaning, site);
  site.dense_reads.fetch_add(1, std::memory_order_relaxed);
  const auto& whole = *reading.geometry;
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  const auto weight = stored_weight(
      whole.is(tensor) ? tensor : tensor.as_strided(whole.sizes, whole.strides, whole.offset));
  return same_view(effective_weight(weight, site, meaning), whole, tensor);
}

at::Tensor effective_value(const at::Tensor& tensor, Role role) {
  if (!is_marked(tensor)) return tensor;
  return effective_value(tensor, read_weight(tensor, role));
}

}  // namespace lowrank::effective
