#include "io/gguf/gguf_file.h"

#include <ATen/ATen.h>

#include <array>
#include <fstream>
#include <string_view>
#include <system_error>

namespace lowrank::io {

GgufFile::GgufFile(const std::filesystem::path& path)
    : mapping_(std::make_shared<MappedFile>(path, "gguf")),
      header_(parse_gguf_header(mapping_->bytes(), path)) {}

at::Tensor GgufFile::tensor(const GgufTensorInfo& info) const {
  if (info.end == info.begin) return at::empty(info.shape, info.type->dtype);
  char* data = mapping_->data() + info.begin;
  if (info.type->decode == nullptr) {
    return at::from_blob(
        data, info.shape, [mapping = mapping_](void*) {}, at::TensorOptions(info.type->dtype));
  }
  const auto widened = at::empty(info.shape, at::kFloat);
  const auto blocks = (info.end - info.begin) / info.type->block_bytes;
  auto* numbers = widened.data_ptr<float>();
  for (uint64_t i = 0; i < blocks; ++i) {
    info.type->decode(data + i * info.type->block_bytes,
                      numbers + static_cast<int64_t>(i) * info.type->block_numbers);
  }
  return widened;
}

bool is_gguf(const std::filesystem::path& path) {
  // Opening a pipe would wait for its writer.
  std::error_code none;
  if (!std::filesystem::is_regular_file(path, none)) return false;
  std::array<char, 4> bytes = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(bytes.data(), bytes.size()) && std::string_view(bytes.data(), 4) == "GGUF";
}

}  // namespace lowrank::io
