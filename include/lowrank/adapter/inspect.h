#pragma once

#include <c10/core/ScalarType.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lowrank {

/// One layer of an adapter on disk. Norms are Frobenius norms, in float64.
struct InspectedLayer {
  std::string name;              ///< dotted path in the model
  std::vector<int64_t> shape_a;  ///< (rank, in), and a convolution's kernel behind it
  std::vector<int64_t> shape_b;  ///< (out, rank), and ones behind it
  at::ScalarType dtype = at::kFloat;
  double scaling = 1;  ///< with the layer's own rank and alpha
  double norm_a = 0, norm_b = 0;
  double norm_update = 0;  ///< ‖scaling·B·A‖

  int64_t rank() const { return shape_a.front(); }
  int64_t parameters() const;  ///< of A and B
};

struct InspectedAdapter {
  LoraConfig config;
  std::string base_model;              ///< base_model_name_or_path; empty: the file does not say
  std::string base_sha256;             ///< the base's fingerprint; empty in files that PEFT wrote
  std::vector<InspectedLayer> layers;  ///< in the file's order
  int64_t parameters = 0;              ///< numbers in all tensors of the file
  uint64_t bytes = 0;                  ///< of all files in the folder
};

/// What is in an adapter's folder, without its model. Throws FileError that names the file and the
/// field or tensor, as read_lora_config() and SafetensorsFile::open() do, and where a layer's
/// factors are not a pair of one rank.
LOWRANK_API InspectedAdapter inspect_adapter(const std::filesystem::path& folder);

}  // namespace lowrank
