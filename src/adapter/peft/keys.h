#pragma once

#include <lowrank/io/safetensors.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/state.h"

/// The names of an adapter's tensors in PEFT's files (tuners/lora/layer.py,
/// utils/save_and_load.py).
namespace lowrank {

/// One tensor of an adapter and its name in a file.
struct FileTensor {
  std::string name;            // less "base_model.model."
  at::Tensor tensor;           // the adapter's own
  std::vector<int64_t> shape;  // in the file; DoRA's magnitude of a convolution is (1, out, 1, 1)
  std::string place;           // what it is for, in messages
};

constexpr const char* kAdapterConfigFile = "adapter_config.json";
constexpr const char* kAdapterWeightsFile = "adapter_model.safetensors";
/// The base's fingerprint in the metadata of a file that was written here.
constexpr const char* kFingerprintKey = "lowrank.base_sha256";
constexpr const char* kKeyPrefix = "base_model.model.";

/// The factors' names behind the path of their layer.
constexpr const char *kKeyA = "lora_A.weight", *kKeyB = "lora_B.weight";
constexpr const char *kEmbeddingKeyA = "lora_embedding_A", *kEmbeddingKeyB = "lora_embedding_B";

/// All tensors of an adapter in the order of trained_tensors().
std::vector<FileTensor> file_tensors(const NamedAdapter& adapter);

/// A name in a file as file_tensors() spells it: older files and other writers leave the prefix
/// out, name the adapter ("lora_A.default.weight"), or give an embedding's factors and DoRA's
/// magnitude, which are parameters of their own, a ".weight".
std::string canonical_key(std::string_view name, const std::string& adapter);

/// The names in a file by canonical_key(). Throws FileError where two names mean one tensor.
std::map<std::string, std::string> names_by_key(const SafetensorsFile& file,
                                                const std::string& adapter);

}  // namespace lowrank
