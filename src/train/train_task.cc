#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/train_task.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "train/task_checks.h"

namespace lowrank {
namespace {

void require_indices(const at::Tensor& indices, int64_t examples, const char* what) {
  const auto fits = indices.dim() == 1 && indices.scalar_type() == at::kLong &&
                    indices.numel() > 0 && indices.min().item<int64_t>() >= 0 &&
                    indices.max().item<int64_t>() < examples;
  if (fits) return;
  fail<ArgumentError>(
      "train", fmt::format("{} must be int64 of one dimension in 0 to {}", what, examples - 1),
      fmt::format("{} {} of {} dimensions", indices.numel(), c10::toString(indices.scalar_type()),
                  indices.dim()));
}

}  // namespace

ValidationSplit split_examples(const TrainTask& task, const TrainOptions& options) {
  const bool is_stream = task.next_loss != nullptr;
  ValidationSplit split;
  if (task.held_back.defined()) require_indices(task.held_back, task.examples, "held_back");
  if (!is_stream) {
    split.train =
        task.indices.defined() ? task.indices.to(at::kCPU) : at::arange(task.examples, at::kLong);
    require_indices(split.train, task.examples, "indices");
  }
  if (!task.held_back.defined()) {
    return options.validation > 0 ? split_validation(split.train, options.validation, options.seed)
                                  : split;
  }
  split.validation = task.held_back.to(at::kCPU);
  if (is_stream) return split;
  auto is_held = at::zeros({task.examples}, at::kBool);
  is_held.index_fill_(0, split.validation, true);
  const auto kept = is_held.logical_not().index_select(0, split.train);
  if (task.indices.defined() && !kept.all().item<bool>()) {
    fail<ArgumentError>("train", "examples that are held back must not be trained on",
                        fmt::format("{} that are in indices and in held_back",
                                    kept.logical_not().sum().item<int64_t>()));
  }
  split.train = split.train.masked_select(kept);
  return split;
}

void require_task(const TrainTask& task, const TrainOptions& options, bool resume) {
  const auto require = [](bool holds, const char* required, const std::string& found) {
    if (!holds) fail<ArgumentError>("train", required, found);
  };
  const bool is_stream = task.next_loss != nullptr;
  require(!task.parameters.empty(), "the task must have parameters to train", "none");
  std::set<std::string> names;
  for (const auto& [name, tensor, rate] : task.parameters) {
    require(tensor.defined(), "every parameter must be a tensor",
            fmt::format("\"{}\", which is undefined", name));
    require(std::isfinite(rate) && rate > 0, "the rate of a parameter must be finite and above 0",
            fmt::format("{} for \"{}\"", rate, name));
    require(names.insert(name).second, "the names of the parameters must differ",
            fmt::format("\"{}\" twice", name));
  }
  require(is_stream || task.loss != nullptr, "the task must have a loss", "none");
  require(is_stream || task.examples >= 1, "the task must have at least 1 example",
          fmt::format("{}", task.examples));
  require(!is_stream || options.steps > 0, "a stream of examples needs steps", "0");
  require(!is_stream || (options.validation == 0 && options.replay == 0),
          "a stream of examples has none to hold back or to replay",
          fmt::format("validation {} and replay {}", options.validation, options.replay));
  require(!is_stream || !resume || task.seek != nullptr,
          "a stream of examples must have seek() to be resumed", "none");
  require(!task.held_back.defined() || options.validation == 0,
          "validation must be 0 if the task holds examples back itself",
          fmt::format("{}", options.validation));
  require(!task.held_back.defined() || task.loss != nullptr,
          "examples that are held back need the task's loss", "none");
  const bool validates = task.held_back.defined() || options.validation > 0;
  require(validates || options.patience == 0, "patience needs examples that are held back",
          fmt::format("patience {} without validation", options.patience));
  require((options.replay > 0) == task.replay_indices.defined(),
          "replay needs a share above 0 and replay_indices",
          options.replay > 0 ? "a share alone" : "replay_indices alone");
}

std::vector<NamedParameter> trained_parameters(const Adapter& adapter, double lora_plus_ratio,
                                               const std::string& name) {
  std::vector<NamedParameter> parameters;
  for (const auto& [own, tensor] : adapter.named_parameters(name)) {
    parameters.push_back({own, tensor});
  }
  const auto groups = adapter.parameter_groups(1, lora_plus_ratio, /*embedding_rate=*/1, name);
  for (const auto& group : groups) {
    for (const auto& tensor : group.parameters) {
      const auto at = std::find_if(parameters.begin(), parameters.end(),
                                   [&](const auto& own) { return own.tensor.is_same(tensor); });
      at->rate = group.learning_rate;
    }
  }
  return parameters;
}

std::vector<NamedParameter> trained_parameters(const torch::nn::Module& model) {
  std::vector<NamedParameter> parameters;
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad()) parameters.push_back({item.key(), item.value()});
  }
  return parameters;
}

}  // namespace lowrank
