#include "train/validation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>

namespace lowrank {

ModeScope::ModeScope(const TrainTask& task, bool training) : task_(task), training_(training) {
  if (task_.set_training) task_.set_training(training_);
}

ModeScope::~ModeScope() {
  if (task_.set_training) task_.set_training(!training_);
}

double value_of(const at::Tensor& loss) {
  if (!loss.defined() || loss.numel() != 1) {
    fail<TensorError>(
        "train", "the loss must be a tensor of one number",
        loss.defined() ? fmt::format("{} numbers", loss.numel()) : "an undefined tensor");
  }
  return loss.item<double>();
}

const char* not_finite(double value) { return std::isnan(value) ? "NaN" : "Inf"; }

Validation::Validation(const TrainTask& task, const TrainOptions& options,
                       const at::Tensor& held_back)
    : task_(task), options_(options), held_back_(held_back) {}

bool Validation::is_due(int64_t step, int64_t steps_per_epoch, int64_t total) const {
  if (!is_on()) return false;
  const auto every = options_.validate_every > 0
                         ? options_.validate_every
                         : std::max<int64_t>(1, std::min(steps_per_epoch, total / 10));
  return step % every == 0 || step == total;
}

double Validation::loss() const {
  const auto most =
      options_.validation_batch_size > 0 ? options_.validation_batch_size : options_.batch_size;
  double sum = 0;
  for (const auto& part : held_back_.split(most)) {
    sum += value_of(task_.loss(part)) * static_cast<double>(part.size(0));
  }
  return sum / static_cast<double>(held_back_.size(0));
}

bool Validation::add(TrainingState& state, double loss) const {
  auto& counters = state.counters;
  const auto metrics = task_.metrics ? task_.metrics(held_back_) : Metrics();
  state.history.validations.push_back({counters.step, loss, metrics});
  const bool is_best = state.best.empty() || loss < counters.best_loss;
  if (!is_best) return false;
  counters.best_loss = loss;
  counters.best_step = counters.step;
  state.best.clear();
  for (const auto& parameter : task_.parameters) {
    state.best.push_back(parameter.tensor.detach().clone());
  }
  return true;
}

bool Validation::patience_ends(const TrainingState& state) const {
  const auto& validations = state.history.validations;
  const auto since = std::count_if(
      validations.begin(), validations.end(),
      [&](const auto& validation) { return validation.step > state.counters.best_step; });
  return options_.patience > 0 && since >= options_.patience;
}

void Validation::restore_best(const TrainingState& state) const {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < state.best.size(); ++i) {
    auto parameter = task_.parameters[i].tensor;
    parameter.copy_(state.best[i]);
  }
}

}  // namespace lowrank
