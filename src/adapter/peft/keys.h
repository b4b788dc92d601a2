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
  std::string name;            // without "base_model.model."
  at::Tensor tensor;           // the adapter's own
  std::vector<int64_t> shape;  // in the file; DoRA's magnitude of a convolution is (1, out, 1, 1)
  std::string place;           // what it belongs to, for messages
};

constexpr const char* kAdapterConfigFile = "adapter_config.json";
constexpr const char* kAdapterWeightsFile = "adapter_model.safetensors";
/// The key of the base's fingerprint in the metadata of files that lowrank writes.
constexpr const char* kFingerprintKey = "lowrank.base_sha256";
constexpr const char* kKeyPrefix = "base_model.model.";

/// The names of the factors, which follow the path of their layer.
constexpr const char *kKeyA = "lora_A.weight", *kKeyB = "lora_B.weight";
constexpr const char *kEmbeddingKeyA = "lora_embedding_A", *kEmbeddingKeyB = "lora_embedding_B";

/// Returns all tensors of an adapter: those of trained_tensors(), in that order, then the running
/// statistics that it keeps.
std::vector<FileTensor> file_tensors(const NamedAdapter& adapter);

/// Converts a name in a file to the spelling of file_tensors(). Older files and other programs
/// leave the prefix out, include the adapter's name ("lora_A.default.weight"), or add ".weight" to
/// an embedding's factors and to DoRA's magnitude, which are parameters themselves.
std::string canonical_key(std::string_view name, const std::string& adapter);

/// Returns the names in a file by their canonical_key(). Throws FileError if two names mean the
/// same tensor.
std::map<std::string, std::string> names_by_key(const SafetensorsFile& file,
                                                const std::string& adapter);

}  // namespace lowrank
