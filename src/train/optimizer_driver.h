#pragma once

#include <lowrank/io/safetensors.h>
#include <lowrank/optim/accelerate.h>
#include <lowrank/train/trainer.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lowrank {

/// The optimizer of a run: Adam, or one of LibTorch's.
class Stepper {
 public:
  Stepper() = default;
  virtual ~Stepper() = default;
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  /// The peak learning rate of the first parameter.
  virtual double rate() const = 0;
  virtual void zero_grad() = 0;
  /// Makes .grad of each parameter what its optimizer will use.
  virtual void form_gradients() {}
  /// Takes a step at `factor` times the peak learning rates.
  virtual void step(double factor) = 0;
  virtual Acceleration accelerate(torch::nn::Module& model) = 0;
  /// Adds the state to what a checkpoint holds, and restores it. read() throws FileError.
  virtual void write(std::vector<SafetensorsEntry>& entries,
                     std::map<std::string, std::string>& metadata) const = 0;
  virtual void read(const SafetensorsFile& file) = 0;
};

/// Throws ArgumentError for a task without parameters, and for an optimizer that train() cannot
/// drive or that has other parameters than the task.
std::unique_ptr<Stepper> make_stepper(const TrainTask& task, const TrainOptions& options);

}  // namespace lowrank
