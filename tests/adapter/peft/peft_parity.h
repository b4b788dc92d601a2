#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// The nets and the folders of tests/fixtures/peft_parity.safetensors, which
/// tests/reference/README.md describes.
namespace lowrank::parity {

/// transformers' Conv1D: a Linear with its weight (in, out) the other way round.
struct Conv1DImpl : torch::nn::Module {
  at::Tensor weight, bias;
  Conv1DImpl(int64_t in, int64_t out)
      : weight(register_parameter("weight", at::zeros({in, out}))),
        bias(register_parameter("bias", at::zeros({out}))) {}
  at::Tensor forward(const at::Tensor& x) {
    auto shape = x.sizes().vec();
    shape.back() = weight.size(1);
    return at::addmm(bias, x.view({-1, x.size(-1)}), weight).view(shape);
  }
};
TORCH_MODULE(Conv1D);

/// Returns the output of self-attention.
inline at::Tensor output(torch::nn::MultiheadAttention& layer, const at::Tensor& x) {
  return std::get<0>(layer->forward(x, x, x));
}
template <class Layer>
at::Tensor output(Layer& layer, const at::Tensor& x) {
  return layer->forward(x);
}

/// A layer of some kind, tanh, and a Linear head; a convolution's output is averaged over space.
struct Net : torch::nn::Module {
  std::function<at::Tensor(const at::Tensor&)> first;
  torch::nn::Linear second{nullptr};
  bool is_conv;

  template <class Layer>
  Net(Layer layer, int64_t width, bool conv)
      : first([layer](const at::Tensor& x) mutable { return output(layer, x); }), is_conv(conv) {
    register_module("first", layer);
    second = register_module("second", torch::nn::Linear(width, 3));
  }
  at::Tensor forward(const at::Tensor& x) {
    const auto y = first(x).tanh();
    return second(is_conv ? y.flatten(2).mean(-1) : y);
  }
};

template <class Layer>
std::shared_ptr<Net> net_of(Layer layer, int64_t width = 5, bool is_conv = false) {
  return std::make_shared<Net>(std::move(layer), width, is_conv);
}

/// Returns the net that KINDS in make_parity.py describes.
inline std::shared_ptr<Net> make_net(const std::string& kind) {
  namespace nn = torch::nn;
  if (kind == "linear" || kind == "linear_3d") return net_of(nn::Linear(6, 5));
  if (kind == "linear_no_bias") return net_of(nn::Linear(nn::LinearOptions(6, 5).bias(false)));
  if (kind == "transposed") return net_of(Conv1D(6, 5));
  if (kind == "embedding") return net_of(nn::Embedding(9, 5));
  if (kind == "attention") return net_of(nn::MultiheadAttention(5, 1));
  if (kind == "conv1d") {
    return net_of(nn::Conv1d(nn::Conv1dOptions(3, 5, 3).padding(1)), 5, /*is_conv=*/true);
  }
  if (kind == "conv2d") {
    return net_of(nn::Conv2d(nn::Conv2dOptions(3, 5, {3, 2}).stride({2, 1}).padding(1)), 5,
                  /*is_conv=*/true);
  }
  return net_of(nn::Conv2d(nn::Conv2dOptions(4, 6, 2).stride(2).padding(1).groups(2)), 6,
                /*is_conv=*/true);
}

/// The fixture's cells of one kind of layer.
class Fixture {
 public:
  explicit Fixture(std::string kind)
      : kind_(std::move(kind)),
        file_(SafetensorsFile::open(LOWRANK_FIXTURES "/peft_parity.safetensors")),
        changes_(parse_json(file_.metadata().at("cells"), "cells")) {}

  /// Returns "linear.plain", "linear.dora", ...
  std::vector<std::string> cells() const {
    std::vector<std::string> cells;
    for (const auto& [cell, changed] : changes_.items()) {
      if (cell.starts_with(kind_ + ".")) cells.push_back(cell);
    }
    return cells;
  }
  /// Returns a tensor of a cell, such as "y", or of the kind, such as "x".
  at::Tensor tensor(const std::string& of, const std::string& name) const {
    return file_.tensor(of + "." + name);
  }
  at::Tensor x() const { return tensor(kind_, "x"); }
  at::Tensor dy() const { return tensor(kind_, "dy"); }

  std::shared_ptr<Net> base() const {
    const at::NoGradGuard no_grad;
    auto net = make_net(kind_);
    for (auto& item : net->named_parameters()) {
      item.value().copy_(tensor(kind_, "base." + item.key()));
    }
    return net;
  }

  /// Returns what PEFT's save_pretrained wrote, with the names in the file.
  std::vector<SafetensorsEntry> saved(const std::string& cell) const {
    const auto prefix = cell + ".file.";
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : file_.names()) {
      if (name.starts_with(prefix)) {
        entries.push_back({name.substr(prefix.size()), file_.tensor(name)});
      }
    }
    return entries;
  }

  void write_folder(const std::string& cell, const std::filesystem::path& folder) const {
    auto config = parse_json(file_.metadata().at("config"), "config");
    config.update(changes_.at(cell));
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "adapter_config.json") << config.dump(2);
    std::ofstream(folder / "adapter_model.safetensors", std::ios::binary)
        << serialize_safetensors(saved(cell), {{"format", "pt"}});
  }

 private:
  std::string kind_;
  SafetensorsFile file_;
  nlohmann::json changes_;
};

}  // namespace lowrank::parity
