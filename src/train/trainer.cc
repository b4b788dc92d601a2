#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/interrupt.h>
#include <lowrank/train/sampler.h>
#include <lowrank/train/trainer.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "train/log/run_logger.h"
#include "train/optimizer_driver.h"
#include "train/processes/gradient_exchange.h"
#include "train/run_checkpoints.h"
#include "train/task_checks.h"
#include "train/training_state_file.h"
#include "train/validation.h"

namespace lowrank {
namespace {

using Clock = std::chrono::steady_clock;

/// About as many points as the history of a run has.
constexpr int64_t kHistoryPoints = 1000;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

int64_t rounded_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

/// Scales all gradients down to a joint 2-norm of `most`, as torch.nn.utils.clip_grad_norm_ does.
/// Infinity scales nothing. Returns the norm that they had.
double clip_gradients(const std::vector<NamedParameter>& parameters, double most) {
  std::vector<at::Tensor> norms;
  for (const auto& [name, parameter, rate] : parameters) {
    if (parameter.grad().defined()) norms.push_back(parameter.grad().norm());
  }
  if (norms.empty()) return 0;
  const auto norm = at::stack(norms).norm();
  if (std::isinf(most)) return norm.item<double>();
  const auto scale = (most / (norm + 1e-6)).clamp_max(1.0);
  for (const auto& [name, parameter, rate] : parameters) {
    if (parameter.grad().defined()) parameter.mutable_grad().mul_(scale);
  }
  return norm.item<double>();
}

/// The options of a process. All but rank 0 neither write nor report anything.
RunOptions options_in_group(const RunOptions& run) {
  if (run.group == nullptr || run.group->rank() == 0) return run;
  return {.identity = run.identity,
          .resume = run.resume,
          .group = run.group,
          .shared_identity = run.shared_identity};
}

/// One run of the loop.
class Run {
 public:
  Run(const TrainTask& task, const TrainOptions& options, const RunOptions& run)
      : task_(task),
        options_(options),
        run_(options_in_group(run)),
        split_(split_examples(task, options)),
        optimizer_(make_stepper(task, options)),
        validation_(task, options, split_.validation),
        logger_(run_) {
    if (run_.group != nullptr) {
      shared_.emplace(*run_.group, task.parameters, options.accumulate);
    }
    checkpoints_.emplace(run_, task_, *optimizer_, shared_ ? &*shared_ : nullptr);
    if (task.next_loss == nullptr) {
      sampler_.emplace(
          split_.train,
          SamplerOptions{
              .batch_size = options.batch_size, .seed = options.seed, .replay = options.replay},
          task.replay_indices);
    }
    total_ = options.steps > 0
                 ? options.steps
                 : rounded_up(options.epochs * sampler_->batches_per_epoch(), options.accumulate);
  }

  TrainResult operator()() {
    if (shared_) shared_->require_equal(run_.identity, run_.shared_identity);
    if (run_.resume) resume();
    if (shared_) shared_->share_parameters();
    const InterruptGuard guard;
    const ModeScope mode(task_, /*training=*/true);
    std::optional<Acceleration> fast;
    if (task_.accelerated != nullptr) fast = optimizer_->accelerate(*task_.accelerated);
    begin_ = Clock::now();
    earlier_ = state_.counters.seconds;
    const auto first = state_.counters.step;
    if (!run_.resume) checkpoints_->save(state_);
    logger_.begin(first, total_);
    loop();
    if (validation_.is_on()) validation_.restore_best(state_);
    const double seconds = seconds_since(begin_);
    const auto& counters = state_.counters;
    return {.steps = counters.step,
            .mean_loss = mean_loss(),
            .seconds = seconds,
            .steps_per_second = static_cast<double>(counters.step - first) / seconds,
            .best_step = counters.best_step,
            .best_validation_loss = counters.best_loss,
            .end = end_.value_or(TrainEnd::kSteps),
            .history = state_.history};
  }

 private:
  int64_t steps_per_epoch() const {
    return sampler_ ? rounded_up(sampler_->batches_per_epoch(), options_.accumulate) : total_;
  }

  void resume() {
    state_ = checkpoints_->read();
    require_possible(state_.counters);
    if (state_.generator.defined()) restore_generator(task_.device, state_.generator);
    const auto batch = state_.counters.step * options_.accumulate;
    if (sampler_) {
      sampler_->seek(sampler_->position_of_step(batch));
    } else {
      task_.seek(batch);
    }
  }

  bool is_first() const { return !shared_ || shared_->is_first(); }

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
    if (validation_.patience_ends(state_)) end_with(TrainEnd::kPatience);
    while (counters.step < total_ && !end_) {
      auto progress = step();
      if (!progress) {
        end_with(TrainEnd::kStream);
        break;
      }
      counters.seconds = earlier_ + seconds_since(begin_);
      progress->seconds = counters.seconds;
      record(*progress);
      if (run_.on_step && !run_.on_step(*progress)) end_with(TrainEnd::kCallback);
      if (is_first() && validation_.is_due(counters.step, steps_per_epoch(), total_)) {
        validate(progress->learning_rate);
      }
      if (is_first() && options_.seconds > 0 && counters.seconds >= options_.seconds) {
        end_with(TrainEnd::kSeconds);
      }
      if (!shared_ && interrupted()) stop();
      checkpoints_->save_if_due(state_);
    }
    // The other processes are in the next step, and wait.
    if (shared_ && is_first() && counters.step < total_) exchange(/*has_ended=*/true);
    // The parameters of a run that ended early may be better than the best so far.
    const auto& validations = state_.history.validations;
    if (is_first() && validation_.is_on() && counters.step > 0 &&
        (validations.empty() || validations.back().step != counters.step)) {
      validate(optimizer_->rate() * factor(counters.step - 1));
    }
    // A step that diverges shows in the next step's loss. The last step has none.
    checkpoints_->require_finite(counters.step);
  }

  /// The first reason counts.
  void end_with(TrainEnd end) {
    if (!end_) end_ = end;
  }

  double factor(int64_t step) const { return schedule_factor(options_.schedule, step, total_); }

  /// Takes a step. Returns nothing at the end of a stream, or if rank 0 has ended the run.
  std::optional<TrainProgress> step() {
    optimizer_->zero_grad();
    const auto loss = shared_ ? shared_gradients() : own_gradients();
    if (!loss) return std::nullopt;
    const double factor_here = factor(state_.counters.step);
    TrainProgress progress = {.step = ++state_.counters.step,
                              .total = total_,
                              .loss = *loss / static_cast<double>(options_.accumulate),
                              .learning_rate = optimizer_->rate() * factor_here};
    if (options_.clip_norm > 0 || (logger_.is_on() && is_recorded(progress.step))) {
      optimizer_->form_gradients();
      const bool clips = options_.clip_norm > 0;
      progress.gradient_norm = clip_gradients(
          task_.parameters, clips ? options_.clip_norm : std::numeric_limits<double>::infinity());
    }
    optimizer_->step(factor_here);
    return progress;
  }

  /// Runs the batches of a step. Returns the sum of their losses, or nothing at the end of a
  /// stream.
  std::optional<double> own_gradients() {
    double sum = 0;
    const Counters before = state_.counters;
    const auto generator = options_.accumulate > 1 ? generator_state(task_.device) : at::Tensor();
    for (int64_t i = 0; i < options_.accumulate; ++i) {
      if (interrupted()) {
        state_.counters = before;  // a resumed run repeats the whole step
        if (i > 0) restore_generator(task_.device, generator);
        stop();
      }
      const bool new_epoch = begins_epoch();
      const auto loss = sampler_ ? task_.loss(next_indices()) : task_.next_loss();
      if (!sampler_ && !loss.defined()) {
        state_.counters = before;  // a step that lacks batches is not taken
        return std::nullopt;
      }
      const auto value = backward(loss);
      require_finite_loss(value);
      count_loss(value, new_epoch);
      sum += value;
    }
    return sum;
  }

  /// The same, for the batches that are shared among processes.
  std::optional<double> shared_gradients() {
    std::vector<bool> new_epochs;
    for (int64_t i = 0; i < options_.accumulate; ++i) {
      new_epochs.push_back(begins_epoch());
      const auto indices = next_indices();
      if (!shared_->owns(i)) continue;
      shared_->seed(options_.seed, state_.counters.step, i);
      const auto value = backward(task_.loss(indices));
      optimizer_->form_gradients();
      shared_->take(i, value);
    }
    const auto losses = exchange(/*has_ended=*/false);
    if (!losses) {
      end_with(TrainEnd::kCallback);
      return std::nullopt;
    }
    double sum = 0;
    for (size_t i = 0; i < losses->size(); ++i) {
      const double value = losses->at(i);
      require_finite_loss(value);
      count_loss(value, new_epochs[i]);
      sum += value;
    }
    return sum;
  }

  /// Exchanges gradients with the other processes. Returns the losses of all batches, or nothing if
  /// rank 0 has ended the run.
  std::optional<std::vector<double>> exchange(bool has_ended) {
    try {
      auto outcome = shared_->exchange(interrupted(), has_ended);
      if (outcome.has_ended) return std::nullopt;
      if (outcome.is_interrupted) stop();
      return outcome.losses;
    } catch (const ProcessGroupError& error) {
      checkpoints_->save(state_);  // of the last whole step
      throw ProcessGroupError(fmt::format("{} {}", error.what(), checkpoints_->where()));
    }
  }

  bool begins_epoch() const { return sampler_ && sampler_->position().batch == 0; }

  /// Runs a batch backward, and returns its loss.
  double backward(at::Tensor loss) const {
    const double value = value_of(loss);
    if (!loss.requires_grad()) {
      fail<TensorError>("train", "the loss must depend on the parameters that are trained",
                        "one without a gradient");
    }
    if (options_.accumulate > 1) loss = loss / static_cast<double>(options_.accumulate);
    if (std::isfinite(value)) loss.backward();
    return value;
  }

  void require_finite_loss(double value) const {
    if (std::isfinite(value)) return;
    checkpoints_->fail_diverged(
        "the loss", fmt::format("{} at step {}", not_finite(value), state_.counters.step + 1));
  }

  void count_loss(double value, bool new_epoch) {
    auto& counters = state_.counters;
    if (new_epoch && counters.loss_count > 0) {
      counters.last_mean = counters.loss_sum / static_cast<double>(counters.loss_count);
      counters.loss_sum = 0;
      counters.loss_count = 0;
    }
    counters.loss_sum += value;
    ++counters.loss_count;
  }

  at::Tensor next_indices() {
    auto indices = sampler_->next();
    logger_.count(indices.numel());
    return indices;
  }

  void record(const TrainProgress& progress) {
    auto& counters = state_.counters;
    auto& points = state_.history.points;
    counters.point_sum += progress.loss;
    if (!is_recorded(progress.step)) return;
    const auto since = progress.step - (points.empty() ? 0 : points.back().step);
    points.push_back(
        {progress.step, counters.point_sum / static_cast<double>(since), progress.learning_rate});
    counters.point_sum = 0;
    logger_.point(points.back().loss, progress);
  }

  bool is_recorded(int64_t step) const {
    return step % rounded_up(total_, kHistoryPoints) == 0 || step == total_;
  }

  double mean_loss() const {
    const auto& counters = state_.counters;
    return counters.loss_count > 0 ? counters.loss_sum / static_cast<double>(counters.loss_count)
                                   : counters.last_mean;
  }

  void validate(double learning_rate) {
    const at::NoGradGuard no_grad;
    const ModeScope mode(task_, /*training=*/false);
    const auto& counters = state_.counters;
    const double loss = validation_.loss();
    if (!std::isfinite(loss)) {
      checkpoints_->fail_diverged("the validation loss",
                                  fmt::format("{} after step {}", not_finite(loss), counters.step));
    }
    const bool is_best = validation_.add(state_, loss);
    if (validation_.patience_ends(state_)) end_with(TrainEnd::kPatience);
    const TrainProgress progress = {.step = counters.step,
                                    .total = total_,
                                    .loss = loss,
                                    .learning_rate = learning_rate,
                                    .seconds = counters.seconds,
                                    .is_best = is_best,
                                    .metrics = state_.history.validations.back().metrics};
    logger_.validation(progress, task_.parameters);
    if (run_.on_validation && !run_.on_validation(progress)) end_with(TrainEnd::kCallback);
  }

  [[noreturn]] void stop() {
    checkpoints_->save(state_);
    throw Interrupted(fmt::format("[train] the run was interrupted at step {} of {}. {}",
                                  state_.counters.step, total_, checkpoints_->where()));
  }

  const TrainTask& task_;
  const TrainOptions& options_;
  const RunOptions run_;
  ValidationSplit split_;
  std::optional<Sampler> sampler_;  // nothing for a stream
  std::unique_ptr<Stepper> optimizer_;
  int64_t total_ = 0;
  TrainingState state_;
  std::optional<TrainEnd> end_;  // nothing while the run goes on, and if all its steps were done
  Clock::time_point begin_;
  double earlier_ = 0;  // seconds of the run's earlier parts
  Validation validation_;
  RunLogger logger_;
  std::optional<SharedSteps> shared_;
  std::optional<RunCheckpoints> checkpoints_;
};

}  // namespace

TrainResult train(const TrainTask& task, const TrainOptions& options, const RunOptions& run) {
  check(options);
  require_task(task, options, run.resume);
  if (run.group != nullptr && task.next_loss != nullptr) {
    fail<ArgumentError>("train", "examples must have indices to be shared among processes",
                        "a stream of them");
  }
  return Run(task, options, run)();
}

}  // namespace lowrank
