#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank {

/// Builds GGUF files by hand, whole ones and damaged ones.
class GgufBytes {
 public:
  static std::string number(uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  }
  static std::string text(std::string_view value) {
    return number(value.size(), 8) + std::string(value);
  }

  GgufBytes& entry(std::string_view key, std::string_view value) {
    return raw_entry(key, 8, text(value));
  }
  GgufBytes& entry(std::string_view key, uint32_t value) {
    return raw_entry(key, 4, number(value, 4));
  }
  GgufBytes& raw_entry(std::string_view key, uint32_t type, std::string_view value) {
    entries_ += text(key) + number(type, 4) + std::string(value);
    ++entry_count_;
    return *this;
  }
  /// A tensor of any type; `shape` has its contiguous dimension last.
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                    std::string_view data) {
    raw_tensor(name, shape, type, data_.size());
    data_ += data;
    data_.append((32 - data_.size() % 32) % 32, '\0');
    return *this;
  }
  GgufBytes& raw_tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                        uint64_t offset) {
    tensors_ += text(name) + number(shape.size(), 4);
    for (size_t i = shape.size(); i > 0; --i) tensors_ += number(shape[i - 1], 8);
    tensors_ += number(type, 4) + number(offset, 8);
    ++tensor_count_;
    return *this;
  }
  /// Float32.
  GgufBytes& tensor(std::string_view name, const at::Tensor& values) {
    const auto numbers = values.contiguous();
    std::vector<uint64_t> shape(numbers.sizes().begin(), numbers.sizes().end());
    return tensor(name, shape, 0,
                  {reinterpret_cast<const char*>(numbers.data_ptr<float>()), numbers.nbytes()});
  }
  GgufBytes& version(uint32_t version) {
    version_ = version;
    return *this;
  }

  std::string header() const {
    return "GGUF" + number(version_, 4) + number(tensor_count_, 8) + number(entry_count_, 8) +
           entries_ + tensors_;
  }
  std::string bytes() const {
    auto file = header();
    file.append((32 - file.size() % 32) % 32, '\0');
    return file + data_;
  }

 private:
  uint32_t version_ = 3;
  uint64_t entry_count_ = 0, tensor_count_ = 0;
  std::string entries_, tensors_, data_;
};

}  // namespace lowrank
