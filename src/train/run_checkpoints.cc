#include "train/run_checkpoints.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>

#include <algorithm>
#include <filesystem>

#include "train/processes/received_file.h"

namespace lowrank {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kLongestCheckpoint = uint64_t{1} << 40;

}  // namespace

RunCheckpoints::RunCheckpoints(const RunOptions& run, const TrainTask& task, Stepper& stepper,
                               SharedSteps* shared)
    : run_(run), task_(task), stepper_(stepper), shared_(shared) {}

TrainingState RunCheckpoints::read() {
  const auto read_from = [&](const std::filesystem::path& file) {
    return read_checkpoint(file, run_.identity, task_.parameters, stepper_);
  };
  if (shared_ == nullptr) return read_from(run_.checkpoint);
  const auto bytes =
      shared_->share_bytes(is_first() ? read_file(run_.checkpoint, kLongestCheckpoint) : "");
  if (is_first()) return read_from(run_.checkpoint);
  const ReceivedFile file(bytes);
  return read_from(file.path());
}

void RunCheckpoints::save(TrainingState& state) {
  if (run_.checkpoint.empty()) return;
  require_finite(state.counters.step);
  const auto begin = Clock::now();
  state.generator = generator_state(task_.device);
  write_checkpoint(run_.checkpoint, run_.identity, task_.parameters, stepper_, state);
  // Checkpoints take at most about a fiftieth of the time, however slow the disk is.
  next_ = Clock::now() +
          std::max<Clock::duration>(std::chrono::seconds(1), 50 * (Clock::now() - begin));
}

void RunCheckpoints::save_if_due(TrainingState& state) {
  if (!run_.checkpoint.empty() && Clock::now() >= next_) save(state);
}

std::string RunCheckpoints::where() const {
  if (!is_first()) return "Process 0 keeps the state.";
  return run_.checkpoint.empty() ? std::string("Nothing was saved.")
                                 : fmt::format("Its state is in \"{}\"; {}",
                                               run_.checkpoint.string(), run_.how_to_resume);
}

void RunCheckpoints::require_finite(int64_t step) const {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : task_.parameters) {
    if (at::isfinite(parameter.tensor).all().item<bool>()) continue;
    fail_diverged(fmt::format("\"{}\"", parameter.name),
                  fmt::format("NaN or Inf after step {}", step));
  }
}

/// The checkpoint goes, because a run that went on from it would diverge again; but not the one
/// that this run went on from.
void RunCheckpoints::fail_diverged(const std::string& what, const std::string& found) const {
  std::error_code none;
  if (!run_.checkpoint.empty() && !run_.resume) std::filesystem::remove(run_.checkpoint, none);
  fail<TensorError>("train", what + " must stay finite", found,
                    run_.resume ? "The checkpoint stays, but a run that goes on from it will "
                                  "probably diverge again. A lower learning rate or clipping may "
                                  "help."
                                : "Nothing was kept. A lower learning rate or clipping may help.");
}

}  // namespace lowrank
