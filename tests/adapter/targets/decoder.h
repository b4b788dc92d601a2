#pragma once

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include <memory>
#include <string>
#include <vector>

#include "adapter/targets/targets.h"

/// A model with a layer of each kind that a config may choose.
namespace lowrank::decoder {

using namespace torch::nn;

struct BlockImpl : Module {
  Linear query = register_module("query", Linear(4, 4));
  Linear value = register_module("value", Linear(4, 4));
};
TORCH_MODULE(Block);

/// model.embed, model.layers.{0,1,2}.{query,value}, conv, norm, lstm, lm_head (tied to the
/// embedding).
struct Decoder : Module {
  struct Inner : Module {
    Embedding embed = register_module("embed", Embedding(9, 4));
    ModuleList layers = register_module("layers", ModuleList(Block(), Block(), Block()));
  };
  std::shared_ptr<Inner> model = register_module("model", std::make_shared<Inner>());
  Conv2d conv = register_module("conv", Conv2d(Conv2dOptions(4, 6, 3).groups(2)));
  BatchNorm2d norm = register_module("norm", BatchNorm2d(6));
  LSTM lstm = register_module("lstm", LSTM(4, 3));
  Linear lm_head = register_module("lm_head", Linear(LinearOptions(4, 9).bias(false)));
  Decoder() { lm_head->weight.set_data(model->embed->weight.data()); }
};

class Targets : public testing::Test {
 protected:
  std::vector<Target> find(const LoraConfig& config) {
    return find_targets(layers_of(net_), config);
  }
  std::vector<std::string> paths(const LoraConfig& config) {
    std::vector<std::string> paths;
    for (const auto& target : find(config)) paths.push_back(target.path());
    return paths;
  }
  Decoder net_;
};

}  // namespace lowrank::decoder
