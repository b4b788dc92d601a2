#pragma once

#include <lowrank/export.h>
#include <lowrank/train/history.h>
#include <lowrank/train/train_options.h>
#include <lowrank/train/train_task.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace lowrank {

class ProcessGroup;
class RunLog;

/// What on_step and on_validation are told.
struct TrainProgress {
  int64_t step = 0;   ///< steps done
  int64_t total = 0;  ///< steps that the run has, unless something ends it early
  double loss = 0;    ///< of this step, or of the validation
  double learning_rate = 0;
  double seconds = 0;                     ///< since the run was started, over all its parts
  std::optional<double> gradient_norm{};  ///< before clipping, where it is known
  bool is_best = false;                   ///< of a validation: the lowest loss so far
  Metrics metrics{};                      ///< of a validation
};

struct RunOptions {
  /// The file in which the state is kept during the run, so that a run that was killed can be
  /// resumed; empty means that none is written. It is written at the start, on an interrupt, and
  /// every second, or less often if that would take more than a fiftieth of the time.
  std::filesystem::path checkpoint = {};
  /// Says which run this is. A checkpoint with another identity is refused.
  std::string identity = {};
  /// Resume from `checkpoint`, with LibTorch's default generator in the state that it was in. The
  /// result is bit-identical to that of an uninterrupted run.
  bool resume = false;
  /// What the user has to do to go on. It ends the message of an Interrupted or ProcessGroupError,
  /// after "Its state is in "FILE"; ".
  std::string how_to_resume = "go on with RunOptions::resume.";
  /// The folder of a RunLog of this run; empty means none. It gets "train/loss" (the mean since the
  /// previous entry), "train/learning_rate", "train/gradient_norm", "train/examples_per_second" and
  /// "memory_mb" at the steps of TrainHistory, and at each validation "validation/loss", the task's
  /// metrics and a histogram of each parameter. A run that is resumed continues it.
  std::filesystem::path log_to = {};
  /// Called when the log is begun, with step 0 or that of the resumed run, and after each
  /// validation, to add figures of one's own.
  std::function<void(RunLog& log, const TrainProgress&)> on_log = {};
  /// The processes that share the batches of each step; null: this process alone. If the number of
  /// batches (TrainOptions::accumulate) is no multiple of the number of processes, some of them
  /// wait. The result is the same for any number of processes, down to the bit. If the model draws
  /// no random numbers, it is also that of a run without a group. Only rank 0 writes, validates and
  /// calls the functions of RunOptions; its decisions hold for all. Examples that come as a stream
  /// cannot be shared.
  std::shared_ptr<ProcessGroup> group = {};
  /// A JSON text that must be the same in all processes, in addition to `identity`. It says, for
  /// example, what the data are.
  std::string shared_identity = {};
  /// Called after each step, and after each validation. The run ends if one returns false.
  std::function<bool(const TrainProgress&)> on_step = {};
  std::function<bool(const TrainProgress&)> on_validation = {};
};

/// Why a run ended.
enum class TrainEnd {
  kSteps,     ///< all its steps are done
  kPatience,  ///< TrainOptions::patience
  kSeconds,   ///< TrainOptions::seconds
  kCallback,  ///< on_step or on_validation returned false
  kStream,    ///< the stream of examples ended
};

struct TrainResult {
  int64_t steps = 0;
  double mean_loss = 0;  ///< over the last epoch, or over all steps if there were fewer
  double seconds = 0;    ///< spent in the loop by this process
  double steps_per_second = 0;
  int64_t best_step = 0;  ///< with validation: the step whose parameters were kept
  double best_validation_loss = 0;
  TrainEnd end = TrainEnd::kSteps;
  TrainHistory history{};
};

/// Trains with Adam (Kingma & Ba, arXiv 1412.6980; PyTorch's defaults; with a weight decay AdamW),
/// or with the task's optimizer. The checkpoint is kept: remove it once the result is saved.
///
/// Throws ArgumentError for options out of range and for a task that lacks something; TensorError
/// if the loss is not one number, and if the loss or a parameter stops being finite (parameters
/// that are not finite are never written); FileError if a checkpoint is missing, damaged or of
/// another run; Interrupted on Ctrl-C in any process; and ProcessGroupError if another process is
/// lost. Where one of the last two ends a run that has begun, the checkpoint is written first.
LOWRANK_API TrainResult train(const TrainTask& task, const TrainOptions& options,
                              const RunOptions& run = {});

/// Returns the identity that a checkpoint was written with. Throws FileError like train().
LOWRANK_API std::string checkpoint_identity(const std::filesystem::path& checkpoint);

}  // namespace lowrank
