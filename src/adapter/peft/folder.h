#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/io/safetensors.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// An adapter's folder without its model.
namespace lowrank {

/// The factors of one layer, as they are in the file.
struct FolderLayer {
  std::string path;            ///< dotted path in the model
  std::string name_a, name_b;  ///< the names of the tensors in the file
  at::Tensor a, b;             ///< (rank, in, ...) and (out, rank, ...)
  int64_t stated_rank = 0;     ///< that the config says; PEFT's experts have a multiple of it
  double scaling = 1;          ///< with the layer's own rank and alpha
  bool is_embedding = false;   ///< whether the update is (B·A)ᵀ

  int64_t rank() const { return a.size(0); }
};

struct AdapterFolder {
  nlohmann::ordered_json json;  ///< adapter_config.json
  LoraConfig config;
  SafetensorsFile file;
  std::vector<FolderLayer> layers;  ///< in the file's order
  std::vector<std::string> others;  ///< the names of all other tensors in the file
};

/// Reads a folder. `operation` is the word in brackets of messages. Throws FileError that names the
/// file and the field or tensor, as read_lora_config() and SafetensorsFile::open() do, and if the
/// factors of a layer are not a pair of the same rank.
AdapterFolder read_adapter_folder(const std::filesystem::path& folder, const char* operation);

/// Throws FileError if a folder holds an adapter.
void require_no_adapter(const std::filesystem::path& folder, const char* operation,
                        const char* hint = "");

}  // namespace lowrank
