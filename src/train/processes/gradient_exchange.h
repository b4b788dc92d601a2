#pragma once

#include <lowrank/train/process_group.h>
#include <lowrank/train/train_task.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank {

/// What the processes of a run exchange. They share the batches whose gradients are averaged for
/// one step: batch i is computed by the process i mod N, and each process adds up the gradients of
/// all batches in their order. So the result does not depend on the number of processes.
class SharedSteps {
 public:
  /// `accumulate` batches make a step.
  SharedSteps(ProcessGroup& group, const std::vector<NamedParameter>& parameters,
              int64_t accumulate);

  bool is_first() const { return group_.rank() == 0; }
  bool owns(int64_t batch) const { return batch % group_.size() == group_.rank(); }

  /// Throws ArgumentError, in all processes, if one of them has other texts than rank 0: it names
  /// the process and, for JSON texts, the field that differs.
  void require_equal(const std::string& identity, const std::string& shared_identity);
  /// Gives all processes the parameters that rank 0 has.
  void share_parameters();
  /// Gives all processes the bytes that rank 0 has.
  std::string share_bytes(const std::string& bytes);

  /// Seeds the generators for a batch, so that what it draws depends on neither the process nor
  /// what was drawn before. Steps and batches are counted from 0.
  void seed(uint64_t seed, int64_t step, int64_t batch) const;
  /// Takes the gradients of an own batch out of the parameters.
  void take(int64_t batch, double loss);

  struct Outcome {
    std::vector<double> losses;  ///< of all batches
    bool is_interrupted = false;
    bool has_ended = false;  ///< rank 0 has ended the run
  };
  /// Exchanges what was taken, and gives each parameter the sum of its gradients over all batches.
  /// A process that was interrupted, and rank 0 where it ends the run, need not have taken any.
  Outcome exchange(bool is_interrupted, bool has_ended);

 private:
  int64_t rounds() const { return (accumulate_ + group_.size() - 1) / group_.size(); }
  void add_up(const std::vector<at::Tensor>& gradients, const std::vector<at::Tensor>& headers);

  ProcessGroup& group_;
  const std::vector<NamedParameter>& parameters_;
  int64_t accumulate_, numbers_ = 0;
  at::Tensor gradients_;  // (rounds, numbers), of the own batches
  at::Tensor header_;     // float64: two flags; the own losses; which gradients there are
};

}  // namespace lowrank
