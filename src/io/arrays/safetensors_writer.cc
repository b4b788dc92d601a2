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
#include "io/arrays/safetensors_plan.h"
#include "io/dense_bytes.h"
#include "io/files/system_file.h"

namespace lowrank {
namespace {

at::Tensor own_tensor(const SafetensorsEntry& entry) { return entry.tensor; }

/// Passes the file's bytes to `write`, one tensor at a time.
template <class Content, class Write>
void serialize(const std::vector<SafetensorsEntry>& entries,
               const std::map<std::string, std::string>& metadata, const Content& content,
               const Write& write) {
  const auto plan = io::plan_safetensors(entries, metadata);
  write(plan.header);
  for (const auto& place : plan.tensors) {
    const auto dense = io::as_announced(*place.entry, content(*place.entry));
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
