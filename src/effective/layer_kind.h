#pragma once

namespace lowrank::effective {

/// How a layer reads its weight W, and so how W is laid out compared with the matrix M (out, in)
/// that B·A has the shape of.
enum class LayerKind {
  kLinear,     ///< W (out, in): M itself
  kConv1D,     ///< transformers' Conv1D, PEFT's fan_in_fan_out: W (in, out), the transpose of M
  kConv,       ///< Conv1d, Conv2d, Conv3d: W (out, in / groups, kernel...)
  kEmbedding,  ///< W (entries, width), the transpose of M; only aten::embedding reads it
  kExperts,    ///< W (experts, out, in): one M each; A (rank·experts, in), B (out, rank·experts)
  kTransposedExperts,  ///< W (experts, in, out): the same with each M transposed
  /// W (out, ...) of any other layer, or a tensor that is only replaced. Every operator reads it.
  kOther,
};

constexpr bool are_experts(LayerKind kind) {
  return kind == LayerKind::kExperts || kind == LayerKind::kTransposedExperts;
}

/// Returns whether W is the transpose of M.
constexpr bool is_stored_transposed(LayerKind kind) {
  return kind == LayerKind::kConv1D || kind == LayerKind::kEmbedding;
}

}  // namespace lowrank::effective
