#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "io/arrays/safetensors_header.h"
#include "io/files/mapped_file.h"
#include "io/files/system_file.h"

namespace lowrank {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

struct SafetensorsFile::State {
  explicit State(const std::filesystem::path& asked)
      : path(asked),
        mapping(std::make_shared<io::MappedFile>(asked, "safetensors")),
        header(io::parse_safetensors_header(mapping->bytes(), asked)) {
    for (size_t i = 0; i < header.tensors.size(); ++i) {
      names.push_back(header.tensors[i].name);
      index.emplace(header.tensors[i].name, i);
    }
  }

  std::filesystem::path path;
  std::shared_ptr<io::MappedFile> mapping;
  io::SafetensorsHeader header;
  std::vector<std::string> names;
  std::unordered_map<std::string, size_t> index;

  const io::SafetensorsTensorInfo& info(const std::string& name) const {
    const auto found = index.find(name);
    if (found != index.end()) return header.tensors[found->second];
    std::string hint = did_you_mean(name, names);
    if (hint.empty() && !names.empty()) hint = "It holds " + list_names(names) + ".";
    fail<FileError>("safetensors", fmt::format("the tensor must be in {}", io::quoted(path)),
                    io::quoted(name), hint);
  }
};

namespace {

void check_booleans(const char* data, size_t count, const std::string& name,
                    const std::filesystem::path& path) {
  const char* wrong = std::find_if(data, data + count, [](unsigned char c) { return c > 1; });
  if (wrong != data + count) {
    fail<FileError>(
        "safetensors",
        fmt::format("tensor {} of {} must hold bytes 0 and 1, as its dtype BOOL asks for",
                    io::quoted(name), io::quoted(path)),
        fmt::format("{} at element {}", static_cast<unsigned char>(*wrong), wrong - data));
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return SafetensorsFile(std::make_shared<const State>(path));
}

const std::vector<std::string>& SafetensorsFile::names() const { return state_->names; }
bool SafetensorsFile::contains(const std::string& name) const {
  return state_->index.count(name) > 0;
}
const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return state_->header.metadata;
}
const std::filesystem::path& SafetensorsFile::path() const { return state_->path; }

std::string SafetensorsFile::format(const std::string& name) const {
  return state_->info(name).dtype->name;
}

const std::vector<int64_t>& SafetensorsFile::shape(const std::string& name) const {
  return state_->info(name).shape;
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto& info = state_->info(name);
  const auto dtype = info.dtype->type;
  const size_t size = info.end - info.begin;
  if (size == 0) return at::empty(info.shape, dtype);

  char* data = state_->mapping->data() + state_->header.data_start + info.begin;
  if (const auto kind = float8_kind(info.dtype->name)) {
    return widen_float8(at::from_blob(data, info.shape, at::TensorOptions(at::kByte)), *kind);
  }
  if (dtype == at::kBool) check_booleans(data, size, name, state_->path);
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(dtype) != 0) {
    at::Tensor copy = at::empty(info.shape, dtype);
    std::memcpy(copy.data_ptr(), data, size);
    return copy;
  }
  return at::from_blob(
      data, info.shape, [mapping = state_->mapping](void*) {}, at::TensorOptions(dtype));
}

}  // namespace lowrank
