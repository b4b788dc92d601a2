#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

/// What every command is told about the machine it runs on and about its output.
namespace lowrank::app {

struct CommonOptions {
  uint64_t seed = 0;            // of LibTorch's generator: the numbers PyTorch draws with it
  int threads = 0;              // threads of the tensor library; 0: all cores this process may use
  std::string device = "auto";  // "auto" (CUDA where there is one), "cpu" or "cuda"
  std::string dtype = "float32";  // "float32" or "float64"
  bool json = false;              // one JSON object on standard output instead of text
  bool quiet = false;             // no progress and no notes on standard error
  bool force = false;             // outputs that exist may be replaced
};

/// What the names in CommonOptions stand for, once they are checked.
struct Resources {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  int threads = 1;
};

/// Checks the options, sets the number of threads and seeds the generator. Throws ArgumentError
/// for a value out of its range and for a device this machine does not have.
Resources apply_common_options(const CommonOptions& options);

/// {seed, threads, device, dtype}: what decides a run's numbers, of every command.
nlohmann::ordered_json to_json(const CommonOptions& options, const Resources& resources);

/// How many cores this process may use: its affinity mask, which taskset and containers set.
int usable_cores();

}  // namespace lowrank::app
