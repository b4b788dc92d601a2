#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <lowrank/train/history.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace lowrank {

/// The figures of a run in a folder, while it runs: `metrics.jsonl`, one JSON object a line, and an
/// event file for TensorBoard (events.out.tfevents.*). Every call hands its record to the system
/// before it returns, so a run that is killed leaves files that can be read.
class LOWRANK_API RunLog {
 public:
  /// Begins to log after `step` steps; 0 for a new run. If metrics.jsonl has lines about later
  /// steps, they are removed. A new event file tells TensorBoard to forget those steps, too. Throws
  /// FileError if the folder cannot be written.
  explicit RunLog(const std::filesystem::path& folder, int64_t step = 0);
  ~RunLog();
  RunLog(RunLog&&) noexcept;
  RunLog& operator=(RunLog&&) noexcept;

  /// Writes one line {"step": ..., name: value, ...}, and each value for TensorBoard, which keeps
  /// float32. A value that is not finite is null in the line.
  void scalars(int64_t step, const Metrics& values);
  /// For TensorBoard alone. `values` are of any shape and floating-point dtype; those that are not
  /// finite are left out.
  void histogram(int64_t step, const std::string& name, const at::Tensor& values);
  /// `png` is the content of a PNG file.
  void image(int64_t step, const std::string& name, const std::string& png, int64_t height,
             int64_t width);
  /// Markdown, for example the options of the run.
  void text(int64_t step, const std::string& name, const std::string& markdown);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lowrank
