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

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = state_->index.find(name);
  if (found == state_->index.end()) {
    std::string hint = did_you_mean(name, state_->names);
    if (hint.empty() && !state_->names.empty())
      hint = "It holds " + list_names(state_->names) + ".";
    fail<FileError>("safetensors",
                    fmt::format("the tensor must be in {}", io::quoted(state_->path)),
                    io::quoted(name), hint);
  }
  const auto& info = state_->header.tensors[found->second];
  const size_t size = info.end - info.begin;
  if (size == 0) return at::empty(info.shape, info.dtype);

  char* data = state_->mapping->data() + state_->header.data_start + info.begin;
  if (info.dtype == at::kBool) check_booleans(data, size, name, state_->path);
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(info.dtype) != 0) {
    at::Tensor copy = at::empty(info.shape, info.dtype);
    std::memcpy(copy.data_ptr(), data, size);
    return copy;
  }
  return at::from_blob(
      data, info.shape, [mapping = state_->mapping](void*) {}, at::TensorOptions(info.dtype));
}

}  // namespace lowrank
