#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/checkpoint/checkpoint.h>

#include <string>
#include <vector>

namespace lowrank {

/// A checkpoint in which the head of a language model can be changed apart from the table of
/// embeddings with which it is shared: where config.json says tie_word_embeddings, "lm_head.weight"
/// is a tensor of its own, with the table's numbers.
class UntiedBase {
 public:
  explicit UntiedBase(const Checkpoint& base);

  const Checkpoint& checkpoint() const { return base_; }
  bool contains(const std::string& name) const;
  at::Tensor tensor(const std::string& name) const;
  StoredTensor stored(const std::string& name) const;

  /// Whether the model shares its head with this tensor.
  bool is_tied() const { return !table_.empty(); }
  /// The name of the shared table; empty without one.
  const std::string& table() const { return table_; }
  static const std::string& head();

 private:
  /// The name under which the checkpoint has a tensor.
  const std::string& own(const std::string& name) const;

  Checkpoint base_;
  std::string table_;
};

}  // namespace lowrank
