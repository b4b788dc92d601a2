#pragma once

#include <c10/core/ScalarType.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/export.h>
#include <lowrank/linalg/spectrum.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lowrank {

/// One layer of an adapter on disk. Norms are Frobenius norms, computed in float64.
struct InspectedLayer {
  std::string name;              ///< dotted path in the model
  std::vector<int64_t> shape_a;  ///< (rank, in), followed by a convolution's kernel
  std::vector<int64_t> shape_b;  ///< (out, rank), followed by ones for a convolution
  at::ScalarType dtype = at::kFloat;
  double scaling = 1;  ///< with the layer's own rank and alpha
  double norm_a = 0, norm_b = 0;
  double norm_update = 0;  ///< ‖scaling·B·A‖

  int64_t rank() const { return shape_a.front(); }
  LOWRANK_API int64_t parameters() const;  ///< elements of A and B
};

struct InspectedAdapter {
  LoraConfig config;
  std::string base_model;              ///< base_model_name_or_path; empty if the file has none
  std::string base_sha256;             ///< the base's fingerprint; empty in files that PEFT wrote
  std::vector<InspectedLayer> layers;  ///< in the file's order
  int64_t parameters = 0;              ///< elements of all tensors in the file
  bool config_matches = true;          ///< as LoadReport::config_matches
};

/// Returns what an adapter's folder contains; its model is not needed. Throws FileError that names
/// the file and the field or tensor, as read_lora_config() and SafetensorsFile::open() do, and if
/// the factors of a layer are not a pair of the same rank.
LOWRANK_API InspectedAdapter inspect_adapter(const std::filesystem::path& folder);

/// Returns the spectrum of each layer's scaling·B·A, in the order of inspect_adapter(). The product
/// is not formed. Also throws TensorError for factors that are not finite.
LOWRANK_API std::vector<Spectrum> adapter_spectra(const std::filesystem::path& folder);

}  // namespace lowrank
