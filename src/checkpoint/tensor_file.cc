#include "checkpoint/tensor_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>

#include <unordered_map>
#include <utility>

#include "checkpoint/gguf_names.h"
#include "io/arrays/safetensors_header.h"
#include "io/gguf/gguf_file.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

const std::map<std::string, std::string>& no_metadata() {
  static const std::map<std::string, std::string> none;
  return none;
}

/// What safetensors' word for a dtype says of a tensor of this shape.
StoredTensor stored_as(const std::string& format, at::IntArrayRef shape) {
  const auto count = static_cast<uint64_t>(c10::multiply_integers(shape));
  for (const auto& known : io::safetensors_dtypes()) {
    if (known.name == format) return {format, known.type, shape.vec(), count * known.bytes};
  }
  return {format, at::kFloat, shape.vec(), 0};
}

/// "F32" for float32, as safetensors has it.
std::string format_of(at::ScalarType dtype) {
  for (const auto& known : io::safetensors_dtypes()) {
    if (known.type == dtype) return known.name;
  }
  return c10::toString(dtype);
}

class Safetensors : public TensorFile {
 public:
  explicit Safetensors(const Path& path) : file_(SafetensorsFile::open(path)) {}
  const std::vector<std::string>& names() const override { return file_.names(); }
  at::Tensor tensor(const std::string& name) const override { return file_.tensor(name); }
  StoredTensor stored(const std::string& name) const override {
    return stored_as(file_.format(name), file_.shape(name));
  }
  const std::map<std::string, std::string>& metadata() const override { return file_.metadata(); }
  bool is_safetensors() const override { return true; }

 private:
  SafetensorsFile file_;
};

class Gguf : public TensorFile {
 public:
  explicit Gguf(const Path& path) : file_(path), names_in_model_(file_.header(), path) {
    for (const auto& info : file_.header().tensors) {
      const auto own = names_in_model_.of(info);
      names_.push_back(own.name);
      const bool is_new = tensors_.emplace(own.name, Tensor{&info, own}).second;
      if (is_new) continue;
      fail<FileError>("gguf",
                      fmt::format("the tensors of \"{}\" must have different names in the model",
                                  path.string()),
                      fmt::format("two of the name \"{}\"", own.name));
    }
  }
  const std::vector<std::string>& names() const override { return names_; }
  at::Tensor tensor(const std::string& name) const override {
    const auto& [info, own] = tensors_.at(name);
    return as_in_model(file_.tensor(*info), own);
  }
  StoredTensor stored(const std::string& name) const override {
    const auto& [info, own] = tensors_.at(name);
    auto shape = info->shape;
    if (own.is_transposed) std::swap(shape.at(0), shape.at(1));
    return {info->type->name, info->type->dtype, shape, info->end - info->begin};
  }
  const std::map<std::string, std::string>& metadata() const override { return no_metadata(); }

 private:
  struct Tensor {
    const io::GgufTensorInfo* info;
    TensorInModel in_model;
  };
  io::GgufFile file_;
  GgufNames names_in_model_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Tensor> tensors_;
};

/// Tensors that are in memory.
class TensorsInMemory : public TensorFile {
 public:
  explicit TensorsInMemory(const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
    for (const auto& [name, tensor] : tensors) {
      names_.push_back(name);
      tensors_.emplace(name, tensor.detach());
    }
  }
  const std::vector<std::string>& names() const override { return names_; }
  at::Tensor tensor(const std::string& name) const override { return tensors_.at(name); }
  StoredTensor stored(const std::string& name) const override {
    const auto& found = tensors_.at(name);
    return stored_as(format_of(found.scalar_type()), found.sizes());
  }
  const std::map<std::string, std::string>& metadata() const override { return no_metadata(); }

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string, at::Tensor> tensors_;
};

}  // namespace

std::unique_ptr<TensorFile> open_tensor_file(const Path& path) {
  if (io::is_gguf(path)) return std::make_unique<Gguf>(path);
  if (path.extension() == ".npy") return tensors_in_memory({{"weight", read_npy(path)}});
  return std::make_unique<Safetensors>(path);
}

std::unique_ptr<TensorFile> tensors_in_memory(
    const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  return std::make_unique<TensorsInMemory>(tensors);
}

}  // namespace lowrank
