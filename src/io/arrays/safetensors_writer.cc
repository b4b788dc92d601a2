#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <utility>

#include "io/arrays/safetensors_header.h"
#include "io/dense_bytes.h"
#include "io/files/system_file.h"

namespace lowrank {
namespace {

constexpr const char* kWriter = "safetensors";

/// An entry and its dtype's place in the reference implementation's order.
struct Ordered {
  const SafetensorsEntry* entry;
  size_t dtype;
};

std::string tensor_text(const SafetensorsEntry& entry) {
  return "tensor " + io::quoted(entry.name);
}

size_t dtype_index(const SafetensorsEntry& entry) {
  const auto& dtypes = io::safetensors_dtypes();
  for (size_t i = 0; i < dtypes.size(); ++i) {
    if (dtypes[i].type == entry.tensor.scalar_type()) return i;
  }
  fail<TensorError>(kWriter, tensor_text(entry) + " must have a dtype that safetensors knows",
                    c10::toString(entry.tensor.scalar_type()));
}

std::vector<Ordered> in_file_order(const std::vector<SafetensorsEntry>& entries) {
  std::vector<Ordered> ordered;
  for (const auto& entry : entries) {
    io::require_dense(entry.tensor, kWriter, tensor_text(entry));
    if (entry.name == io::kSafetensorsMetadata) {
      fail<ArgumentError>(kWriter, "a tensor's name must not be one that the format reserves",
                          io::quoted(entry.name));
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
                        io::quoted(*twice) + " twice");
  }
}

std::string json_text(const nlohmann::json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::type_error&) {
    fail<TensorError>(kWriter, "names of tensors and metadata must be valid UTF-8", "other bytes");
  }
}

/// The length, the JSON, and spaces up to a multiple of eight, so that the data is aligned.
std::string header_bytes(const std::vector<Ordered>& ordered,
                         const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += fmt::format("\"{}\":{}", io::kSafetensorsMetadata, json_text(metadata));
  }
  uint64_t offset = 0;
  for (const auto& [entry, dtype] : ordered) {
    const uint64_t end = offset + entry->tensor.nbytes();
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        text.size() > 1 ? "," : "", json_text(entry->name),
                        io::safetensors_dtypes()[dtype].name, fmt::join(entry->tensor.sizes(), ","),
                        offset, end);
    offset = end;
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > io::kLongestSafetensorsHeader) {
    fail<TensorError>(
        kWriter,
        fmt::format("the header must be at most {} bytes long", io::kLongestSafetensorsHeader),
        io::count_bytes(text.size()), "Write several files.");
  }
  std::string length(io::kSafetensorsPrefix, '\0');
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  return length + text;
}

at::Tensor own_tensor(const SafetensorsEntry& entry) { return entry.tensor; }

/// Passes the file's bytes to `write`, one tensor at a time.
template <class Content, class Write>
void serialize(const std::vector<SafetensorsEntry>& entries,
               const std::map<std::string, std::string>& metadata, const Content& content,
               const Write& write) {
  require_different_names(entries);
  const std::vector<Ordered> ordered = in_file_order(entries);
  write(header_bytes(ordered, metadata));
  for (const auto& [entry, dtype] : ordered) {
    const auto tensor = content(*entry);
    if (tensor.sizes() != entry->tensor.sizes() ||
        tensor.scalar_type() != entry->tensor.scalar_type()) {
      fail<TensorError>(kWriter, tensor_text(*entry) + " must have the dtype and shape announced",
                        fmt::format("{} of shape ({})", c10::toString(tensor.scalar_type()),
                                    fmt::join(tensor.sizes(), ", ")));
    }
    const at::Tensor dense = io::to_contiguous_cpu(tensor, kWriter, tensor_text(*entry));
    write(io::bytes_of(dense));
  }
}

}  // namespace

std::string serialize_safetensors(const std::vector<SafetensorsEntry>& entries,
                                  const std::map<std::string, std::string>& metadata) {
  std::string bytes;
  serialize(entries, metadata, own_tensor, [&](std::string_view part) { bytes += part; });
  return bytes;
}

void write_safetensors(AtomicFile& file, const std::vector<SafetensorsEntry>& entries,
                       const std::map<std::string, std::string>& metadata) {
  write_safetensors(file, entries, metadata, own_tensor);
}

void write_safetensors(AtomicFile& file, const std::vector<SafetensorsEntry>& entries,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<at::Tensor(const SafetensorsEntry&)>& content) {
  serialize(entries, metadata, content, [&](std::string_view part) { file.write(part); });
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<SafetensorsEntry>& entries,
                       const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  write_safetensors(file, entries, metadata);
  file.commit();
}

}  // namespace lowrank
