#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/train/history.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/log/appended_file.h"

namespace lowrank {

/// A file of TensorBoard's events (tensorboard/compat/proto/event.proto and summary.proto) in
/// TFRecord's format, written record by record.
class EventFile {
 public:
  /// Makes a new file in the folder.
  explicit EventFile(const std::filesystem::path& folder);

  /// Tells readers that the run starts with this step, and that it and later steps in older files
  /// are void.
  void start(int64_t step);
  void scalars(int64_t step, const Metrics& values);
  void histogram(int64_t step, const std::string& tag, const at::Tensor& values);
  void image(int64_t step, const std::string& tag, const std::string& png, int64_t height,
             int64_t width);
  void text(int64_t step, const std::string& tag, const std::string& markdown);

 private:
  AppendedFile file_;
};

/// CRC-32C (RFC 3720, appendix B.4) as TFRecord stores it: rotated by 15 bits, plus 0xa282ead8.
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace lowrank
