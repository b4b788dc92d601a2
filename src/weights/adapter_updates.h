#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "weights/untied_base.h"

namespace lowrank {

/// What an adapter's folder changes in a checkpoint: updates s·B·A of weights, and tensors that
/// take the place of the base's.
class Updates {
 public:
  /// Reads a folder and finds the tensors of `base` that it changes; `prefix` is put before the
  /// names in the folder. `operation` is the word in brackets of messages. Throws FileError that
  /// names what the base does not have, or has in another shape, and for what cannot be applied
  /// without the model: experts, rows of embeddings, an init that changes the base.
  static Updates read(const UntiedBase& base, const std::filesystem::path& folder,
                      const std::string& prefix, const char* operation);

  /// Returns whether the folder changes this tensor of the base.
  bool changes(const std::string& name) const;
  /// Returns whether it replaces the tensor.
  bool replaces(const std::string& name) const { return whole_.contains(name); }
  at::Tensor replacement(const std::string& name) const { return whole_.at(name); }

  /// Whether the folder holds an update that depends on the weight itself (DoRA), which cannot be
  /// taken off again.
  bool has_dora() const;
  /// Whether add_to() must be given all rows of this tensor at once: DoRA's norms are of columns
  /// where a weight is stored transposed.
  bool needs_all_rows(const std::string& name) const;

  /// Adds sign·s·B·A to rows [begin, begin + rows.size(0)) of a weight, which is seen as a matrix
  /// of float64: `rows` (count, numbers of a row). With DoRA they are V = W + s·B·A then, and
  /// become m · V / ‖V‖.
  void add_to(const std::string& name, at::Tensor& rows, int64_t begin, double sign) const;

  /// The fingerprint of the base that the adapter was made for; empty if its file has none.
  const std::string& base_sha256() const { return base_sha256_; }

  /// A note on what was found in the folder; empty for none.
  const std::string& note() const { return note_; }

  /// The names of the tensors that are changed, in their order.
  std::vector<std::string> names() const;

 private:
  void set_magnitude(const std::string& weight, const at::Tensor& magnitude,
                     const std::string& prefix, const std::filesystem::path& folder,
                     const char* operation);
  /// Throws FileError unless each layer has one.
  void require_magnitudes(const std::filesystem::path& folder, const char* operation) const;

  /// The update of a weight as a product of matrices, in the weight's own orientation.
  struct Product {
    at::Tensor left, right;  // float64: (rows, rank) with the scaling, (rank, columns)
    bool is_transposed = false;
    at::Tensor magnitude = {};  // float64 (out), DoRA's m; undefined without it
  };
  std::map<std::string, Product> products_;
  std::map<std::string, at::Tensor> whole_;
  std::string base_sha256_, note_;
  std::map<std::string, at::Tensor> biases_;  // float64, of lora_B, with the scaling
};

}  // namespace lowrank
