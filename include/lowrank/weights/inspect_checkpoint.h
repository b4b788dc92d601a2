#pragma once

#include <c10/core/ScalarType.h>
#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/export.h>
#include <lowrank/linalg/spectrum.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace lowrank {

/// One tensor of a checkpoint.
struct InspectedTensor {
  std::string name;
  StoredTensor stored = {};
  std::optional<double> norm;  ///< Frobenius, in float64
  /// That of a floating-point tensor of two or more dimensions, as the matrix (first dimension,
  /// product of the others).
  std::optional<Spectrum> spectrum;
};

struct InspectOptions {
  bool norms = false;    ///< reads all numbers
  bool spectra = false;  ///< decomposes all weights; norms are known then, too
};

LOWRANK_API nlohmann::ordered_json to_json(const InspectedTensor& tensor);

/// Returns what a checkpoint holds, in its own order. Without options no number is read.
/// `on_tensor` is called before each tensor with its name, its index, counted from 0, and the
/// number of tensors. If spectra are asked for, throws TensorError, naming the tensor, for numbers
/// that are not finite.
LOWRANK_API std::vector<InspectedTensor> inspect_checkpoint(
    const Checkpoint& checkpoint, const InspectOptions& options = {},
    const std::function<void(const std::string&, int64_t, int64_t)>& on_tensor = {});

}  // namespace lowrank
