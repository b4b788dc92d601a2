#pragma once

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

/// How one tensor differs between two models. Norms are Frobenius norms in float64.
struct ComparedTensor {
  std::string name;
  std::vector<int64_t> shape;
  double norm = 0;        ///< of the base's
  double difference = 0;  ///< of tuned - base
  double largest = 0;     ///< the largest |difference|
  /// That of the difference, rounded to float32, if CompareOptions::spectra asks for it and this is
  /// a weight of two or more dimensions; see InspectedTensor.
  std::optional<Spectrum> spectrum{};

  LOWRANK_API double relative() const;  ///< difference / norm; infinite if only norm is 0
};

struct Comparison {
  std::vector<ComparedTensor> changed;  ///< in the base's order
  int64_t equal = 0;                    ///< tensors whose numbers are the same
  std::vector<std::string> only_base = {}, only_tuned = {};
  std::vector<std::string> reshaped = {};  ///< tensors that have another shape

  /// Whether all tensors are there in both, with the same numbers.
  LOWRANK_API bool are_equal() const;
};

LOWRANK_API nlohmann::ordered_json to_json(const Comparison& comparison);

struct CompareOptions {
  bool spectra = false;  ///< decompose the differences
  /// Called before each tensor of the base with its name, its index, counted from 0, and the number
  /// of tensors.
  std::function<void(const std::string&, int64_t, int64_t)> on_tensor{};
};

/// Compares two models tensor by tensor; dtypes may differ. If spectra are asked for, throws
/// TensorError, naming the tensor, for a difference that is not finite.
LOWRANK_API Comparison compare_checkpoints(const Checkpoint& base, const Checkpoint& tuned,
                                           const CompareOptions& options = {});

}  // namespace lowrank
