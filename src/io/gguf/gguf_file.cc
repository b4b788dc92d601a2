#include "io/gguf/gguf_file.h"

#include <ATen/ATen.h>

#include <array>
#include <fstream>
#include <string_view>
#include <system_error>

#include "kernels/compact_matrix.h"

namespace lowrank::io {

GgufFile::GgufFile(const std::filesystem::path& path)
    : mapping_(std::make_shared<MappedFile>(path, "gguf")),
      header_(parse_gguf_header(mapping_->bytes(), path)) {}

at::Tensor GgufFile::tensor(const GgufTensorInfo& info) const {
  if (info.end == info.begin) return at::empty(info.shape, info.type->dtype);
  char* data = mapping_->data() + info.begin;
  if (!info.type->blocks) {
    return at::from_blob(
        data, info.shape, [mapping = mapping_](void*) {}, at::TensorOptions(info.type->dtype));
  }
  const auto columns = info.shape.back();  // whole blocks, as parse_gguf_header() has checked
  const auto rows = c10::multiply_integers(info.shape) / columns;
  return kernels::widened({data, *info.type->blocks, rows, columns}).view(info.shape);
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
