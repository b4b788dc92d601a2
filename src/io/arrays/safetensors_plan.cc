#include "io/arrays/safetensors_plan.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>

#include "io/arrays/safetensors_header.h"
#include "io/dense_bytes.h"
#include "io/files/system_file.h"

namespace lowrank::io {
namespace {

constexpr const char* kWriter = "safetensors";

/// An entry and its dtype's place in the reference implementation's order.
struct Ordered {
  const SafetensorsEntry* entry;
  size_t dtype;
};

std::string tensor_text(const SafetensorsEntry& entry) { return "tensor " + quoted(entry.name); }

size_t dtype_index(const SafetensorsEntry& entry) {
  const auto& dtypes = safetensors_dtypes();
  for (size_t i = 0; i < dtypes.size(); ++i) {
    const bool has_kind = float8_kind(dtypes[i].name) == entry.float8;
    if (has_kind && dtypes[i].type == entry.tensor.scalar_type()) return i;
  }
  fail<TensorError>(kWriter, tensor_text(entry) + " must have a dtype that safetensors knows",
                    c10::toString(entry.tensor.scalar_type()));
}

std::vector<Ordered> in_file_order(const std::vector<SafetensorsEntry>& entries) {
  std::vector<Ordered> ordered;
  for (const auto& entry : entries) {
    require_dense(entry.tensor, kWriter, tensor_text(entry));
    if (entry.name == kSafetensorsMetadata) {
      fail<ArgumentError>(kWriter, "a tensor's name must not be one that the format reserves",
                          quoted(entry.name));
    }
    ordered.push_back({&entry, dtype_index(entry)});
  }
  std::sort(ordered.begin(), ordered.end(), [](const Ordered& a, const Ordered& b) {
    return std::tie(a.dtype, a.entry->name) < std::tie(b.dtype, b.entry->name);
  });
  return ordered;
}

void require_different_names(const std::vector<SafetensorsEntry>& entries) {
  std::vector<std::string_view> names;
  for (const auto& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    fail<ArgumentError>(kWriter, "the names of the tensors in one file must differ",
                        quoted(*twice) + " twice");
  }
}

std::string json_text(const nlohmann::json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::type_error&) {
    fail<TensorError>(kWriter, "names of tensors and metadata must be valid UTF-8", "other bytes");
  }
}

/// Makes the header: the length, the JSON, and spaces up to a multiple of eight, so that the data
/// is aligned.
SafetensorsPlan plan_of(const std::vector<Ordered>& ordered,
                        const std::map<std::string, std::string>& metadata) {
  SafetensorsPlan plan;
  std::string text = "{";
  if (!metadata.empty()) {
    text += fmt::format("\"{}\":{}", kSafetensorsMetadata, json_text(metadata));
  }
  uint64_t offset = 0;
  for (const auto& [entry, dtype] : ordered) {
    const auto numbers = static_cast<uint64_t>(entry->tensor.numel());
    const uint64_t end = offset + numbers * safetensors_dtypes()[dtype].bytes;
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        text.size() > 1 ? "," : "", json_text(entry->name),
                        safetensors_dtypes()[dtype].name, fmt::join(entry->tensor.sizes(), ","),
                        offset, end);
    plan.tensors.push_back({entry, offset, end});
    offset = end;
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kLongestSafetensorsHeader) {
    fail<TensorError>(
        kWriter, fmt::format("the header must be at most {} bytes long", kLongestSafetensorsHeader),
        count_bytes(text.size()), "Write several files.");
  }
  std::string length(kSafetensorsPrefix, '\0');
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  plan.header = length + text;
  for (auto& place : plan.tensors) {
    place.begin += plan.header.size();
    place.end += plan.header.size();
  }
  return plan;
}

}  // namespace

SafetensorsPlan plan_safetensors(const std::vector<SafetensorsEntry>& entries,
                                 const std::map<std::string, std::string>& metadata) {
  require_different_names(entries);
  return plan_of(in_file_order(entries), metadata);
}

at::Tensor as_announced(const SafetensorsEntry& entry, const at::Tensor& tensor) {
  if (tensor.sizes() != entry.tensor.sizes() ||
      tensor.scalar_type() != entry.tensor.scalar_type()) {
    fail<TensorError>(kWriter, tensor_text(entry) + " must have the dtype and shape announced",
                      fmt::format("{} of shape ({})", c10::toString(tensor.scalar_type()),
                                  fmt::join(tensor.sizes(), ", ")));
  }
  const auto dense = to_contiguous_cpu(tensor, kWriter, tensor_text(entry));
  return entry.float8 ? float8_bytes(dense, *entry.float8) : dense;
}

}  // namespace lowrank::io
