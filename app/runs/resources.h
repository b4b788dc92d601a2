#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

/// The options that all commands share, about the machine and the output.
namespace lowrank::app {

struct CommonOptions {
  uint64_t seed = 0;            // of LibTorch's generator, which draws the same as PyTorch's
  int threads = 0;              // threads of the tensor library; 0: all cores this process may use
  std::string device = "auto";  // "auto" (CUDA if there is a GPU), "cpu" or "cuda"
  std::string dtype = "float32";  // "float32" or "float64"
  bool json = false;              // one JSON object on standard output instead of text
  bool quiet = false;             // no progress and no notes on standard error
  bool force = false;             // existing outputs may be replaced
};

/// What the names in CommonOptions stand for, after they were checked.
struct Resources {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  int threads = 1;
};

/// Throws ArgumentError for a value out of range and for a device that this machine does not have.
void check(const CommonOptions& options);

/// Sets the number of threads and seeds the generator. Throws what check() throws.
Resources apply_common_options(const CommonOptions& options);

/// Returns {seed, threads, device, dtype}: the common options that decide a run's numbers.
nlohmann::ordered_json to_json(const CommonOptions& options, const Resources& resources);

/// Returns how many cores this process may use by its affinity mask, which taskset and containers
/// set.
int usable_cores();

/// Returns the memory of this machine in bytes; infinity if the system does not say.
double machine_memory();

/// Throws ArgumentError if `what`, its gradients and Adam's two moments cannot fit into memory. The
/// system would end this process, or another one, without a word.
void require_memory_to_train(const std::string& operation, const std::string& what,
                             double parameters, const std::string& hint);

}  // namespace lowrank::app
