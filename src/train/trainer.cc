#include "app/train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/optim/adam.h>
#include <lowrank/train/interrupt.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "app/images/sampler.h"
#include "app/terminal/progress.h"
#include "app/train/checkpoint_file.h"

namespace lowrank::app {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::vector<at::Tensor> tensors_of(const std::vector<NamedTensor>& parameters) {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : parameters) tensors.push_back(parameter.tensor);
  return tensors;
}

/// Makes one group for each parameter, so that the groups are in the order of the parameters.
std::vector<ParameterGroup> groups_of(const std::vector<NamedTensor>& parameters, double rate) {
  std::vector<ParameterGroup> groups;
  for (const auto& parameter : parameters) {
    groups.push_back({{parameter.tensor}, rate * parameter.rate});
  }
  return groups;
}

/// Scales all gradients down to a joint 2-norm of `most`, as torch.nn.utils.clip_grad_norm_ does.
void clip_gradients(const std::vector<at::Tensor>& parameters, double most) {
  std::vector<at::Tensor> norms;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined()) norms.push_back(parameter.grad().norm());
  }
  if (norms.empty()) return;
  const auto scale = (most / (at::stack(norms).norm() + 1e-6)).clamp_max(1.0);
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined()) parameter.mutable_grad().mul_(scale);
  }
}

/// Puts the model into train() or eval() until the end of the scope, and then into the other one.
class ModeScope {
 public:
  ModeScope(const TrainingTask& task, bool training) : task_(task), training_(training) {
    if (task_.set_training) task_.set_training(training_);
  }
  ~ModeScope() {
    if (task_.set_training) task_.set_training(!training_);
  }
  ModeScope(const ModeScope&) = delete;
  ModeScope& operator=(const ModeScope&) = delete;

 private:
  const TrainingTask& task_;
  bool training_;
};

/// One run of the loop.
class Run {
 public:
  Run(const TrainingTask& task, const TrainOptions& options, const RunOptions& run)
      : task_(task),
        options_(options),
        run_(run),
        split_(split_validation(task.indices, options.validation, options.seed)),
        sampler_(split_.train,
                 {.batch_size = options.batch_size, .seed = options.seed, .replay = options.replay},
                 options.replay > 0 ? task.replay_indices : at::Tensor()),
        parameters_(tensors_of(task.parameters)),
        optimizer_(groups_of(task.parameters, options.learning_rate)),
        rate_(optimizer_.options().learning_rate),
        total_(options.steps > 0 ? options.steps
                                 : steps_for(options.epochs * sampler_.batches_per_epoch())) {}

  TrainResult operator()() {
    if (run_.resume) {
      state_ = read_checkpoint(run_.checkpoint, run_.identity, task_.parameters, optimizer_);
      require_possible(state_.counters);
      if (state_.generator.defined()) restore_generator(task_.device, state_.generator);
      sampler_.seek(sampler_.position_of_step(state_.counters.step * options_.accumulate));
    }
    const InterruptGuard guard;
    const ModeScope mode(task_, /*training=*/true);
    std::optional<Acceleration> fast;
    if (task_.accelerated != nullptr) fast = accelerate(*task_.accelerated, optimizer_);
    begin_ = Clock::now();
    const auto first = state_.counters.step;
    if (!run_.resume) save_checkpoint();
    loop();
    if (options_.validation > 0) keep_best();
    const double seconds = seconds_since(begin_);
    const auto& counters = state_.counters;
    return {.steps = counters.step,
            .mean_loss = mean_loss(),
            .seconds = seconds,
            .steps_per_second = static_cast<double>(counters.step - first) / seconds,
            .best_step = counters.best_step,
            .best_validation_loss = counters.best_loss};
  }

 private:
  int64_t steps_for(int64_t batches) const {
    return (batches + options_.accumulate - 1) / options_.accumulate;
  }

  void require_possible(const Counters& counters) const {
    if (counters.step >= 0 && counters.step <= total_ && counters.loss_count >= 0 &&
        counters.best_step >= 0 && counters.best_step <= counters.step) {
      return;
    }
    fail<FileError>("resume",
                    fmt::format("\"{}\" must hold the counters of a run of {} steps",
                                run_.checkpoint.string(), total_),
                    fmt::format("step {}, best step {}", counters.step, counters.best_step));
  }

  void loop() {
    auto& counters = state_.counters;
    Progress progress(run_.title, total_, "steps", run_.quiet);
    progress.start_at(counters.step);
    while (counters.step < total_) {
      const double loss = step();
      ++counters.step;
      progress.update(counters.step, loss);
      if (validates_at(counters.step)) validate();
      if (interrupted()) stop();
      checkpoint_if_due();
    }
    require_finite();
  }

  double step() {
    const double factor = schedule_factor(options_.schedule, state_.counters.step, total_);
    optimizer_.options().learning_rate = rate_ * factor;
    optimizer_.zero_grad();
    double sum = 0;
    const Counters before = state_.counters;
    const auto generator = options_.accumulate > 1 ? generator_state(task_.device) : at::Tensor();
    for (int64_t i = 0; i < options_.accumulate; ++i) {
      if (interrupted()) {
        state_.counters = before;  // a resumed run repeats the whole step
        if (i > 0) restore_generator(task_.device, generator);
        stop();
      }
      sum += batch();
    }
    if (options_.clip_norm > 0) {
      optimizer_.form_gradients();
      clip_gradients(parameters_, options_.clip_norm);
    }
    optimizer_.step();
    return sum / static_cast<double>(options_.accumulate);
  }

  /// Runs the next batch forward and backward; returns its loss.
  double batch() {
    const bool new_epoch = sampler_.position().batch == 0;
    const auto indices = sampler_.next();
    auto loss = loss_on(indices);
    const double value = loss.item<double>();
    if (!std::isfinite(value)) {
      fail_diverged("the loss",
                    fmt::format("{} at step {}", not_finite(value), state_.counters.step + 1));
    }
    if (options_.accumulate > 1) loss = loss / static_cast<double>(options_.accumulate);
    loss.backward();
    auto& counters = state_.counters;
    if (new_epoch && counters.loss_count > 0) {
      counters.last_mean = counters.loss_sum / static_cast<double>(counters.loss_count);
      counters.loss_sum = 0;
      counters.loss_count = 0;
    }
    counters.loss_sum += value;
    ++counters.loss_count;
    return value;
  }

  static const char* not_finite(double value) { return std::isnan(value) ? "NaN" : "Inf"; }

  /// The checkpoint goes, because a run that went on from it would diverge again.
  [[noreturn]] void fail_diverged(const std::string& what, const std::string& found) const {
    std::error_code none;
    if (!run_.checkpoint.empty()) std::filesystem::remove(run_.checkpoint, none);
    fail<TensorError>("train", what + " must stay finite", found,
                      "Nothing was kept. A lower learning rate or --clip-norm may help.");
  }

  /// A step that diverges shows in the next step's loss. The last step has none, so this is called
  /// before anything is saved.
  void require_finite() const {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : task_.parameters) {
      if (at::isfinite(parameter.tensor).all().item<bool>()) continue;
      fail_diverged(fmt::format("\"{}\"", parameter.name),
                    fmt::format("NaN or Inf after step {}", state_.counters.step));
    }
  }

  at::Tensor loss_on(const at::Tensor& indices) const {
    const auto inputs = batch_inputs(*task_.data, indices, task_.normalization, task_.dtype);
    const auto labels = batch_labels(*task_.data, indices);
    return at::cross_entropy_loss(task_.forward(inputs.to(task_.device)), labels.to(task_.device));
  }

  double mean_loss() const {
    const auto& counters = state_.counters;
    return counters.loss_count > 0 ? counters.loss_sum / static_cast<double>(counters.loss_count)
                                   : counters.last_mean;
  }

  /// Returns whether to validate after `step`: at the end of each epoch, or ten times in the whole
  /// run if that is more often.
  bool validates_at(int64_t step) const {
    if (options_.validation <= 0) return false;
    const auto every =
        std::max<int64_t>(1, std::min(steps_for(sampler_.batches_per_epoch()), total_ / 10));
    return step % every == 0 || step == total_;
  }

  void validate() {
    const at::NoGradGuard no_grad;
    const ModeScope mode(task_, /*training=*/false);
    double sum = 0;
    for (const auto& part : split_.validation.split(1000)) {
      sum += loss_on(part).item<double>() * static_cast<double>(part.size(0));
    }
    const double loss = sum / static_cast<double>(split_.validation.size(0));
    if (!std::isfinite(loss)) {
      fail_diverged("the validation loss",
                    fmt::format("{} after step {}", not_finite(loss), state_.counters.step));
    }
    auto& counters = state_.counters;
    if (!state_.best.empty() && !(loss < counters.best_loss)) return;
    counters.best_loss = loss;
    counters.best_step = counters.step;
    state_.best.clear();
    for (const auto& parameter : parameters_) state_.best.push_back(parameter.detach().clone());
  }

  void keep_best() {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < state_.best.size(); ++i) parameters_[i].copy_(state_.best[i]);
  }

  void save_checkpoint() {
    if (run_.checkpoint.empty()) return;
    require_finite();
    const auto begin = Clock::now();
    state_.generator = generator_state(task_.device);
    write_checkpoint(run_.checkpoint, run_.identity, task_.parameters, optimizer_, state_);
    // Checkpoints take at most about a fiftieth of the time, however slow the disk is.
    next_checkpoint_ = Clock::now() + std::max<Clock::duration>(std::chrono::seconds(1),
                                                                50 * (Clock::now() - begin));
  }

  void checkpoint_if_due() {
    if (!run_.checkpoint.empty() && Clock::now() >= next_checkpoint_) save_checkpoint();
  }

  [[noreturn]] void stop() {
    save_checkpoint();
    std::string kept = "Nothing was saved.";
    if (!run_.checkpoint.empty()) {
      const auto& named = run_.resume_folder;
      kept = fmt::format("Its state is in \"{}\"; go on with the same command and --resume {}.",
                         run_.checkpoint.string(),
                         (named.empty() ? run_.checkpoint.parent_path() : named).string());
    }
    throw Interrupted(fmt::format("[train] the run was interrupted at step {} of {}. {}",
                                  state_.counters.step, total_, kept));
  }

  const TrainingTask& task_;
  const TrainOptions& options_;
  const RunOptions& run_;
  ValidationSplit split_;
  Sampler sampler_;
  std::vector<at::Tensor> parameters_;
  Adam optimizer_;
  double rate_;  // the optimizer's peak learning rate
  int64_t total_;
  TrainingState state_;
  Clock::time_point begin_, next_checkpoint_;
};

}  // namespace

TrainResult train(const TrainingTask& task, const TrainOptions& options, const RunOptions& run) {
  check(options);
  check(task.normalization);
  return Run(task, options, run)();
}

}  // namespace lowrank::app
