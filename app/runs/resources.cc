#include "app/runs/resources.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/machine/machine.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <vector>

#include "app/terminal/message.h"

namespace lowrank::app {
namespace {

constexpr int kMostThreads = 1024;

at::Device device_of(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name == "auto") return at::hasCUDA() ? at::kCUDA : at::kCPU;
  if (name != "cuda") {
    fail<ArgumentError>("device", "--device must be auto, cpu or cuda", fmt::format("\"{}\"", name),
                        did_you_mean(name, {"auto", "cpu", "cuda"}));
  }
  if (!at::hasCUDA()) {
    fail<ArgumentError>("device", "--device cuda needs a LibTorch with CUDA and a GPU",
                        "a machine where LibTorch finds none", "Use --device cpu.");
  }
  return at::kCUDA;
}

at::ScalarType dtype_of(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float64") return at::kDouble;
  fail<ArgumentError>("dtype", "--dtype must be float32 or float64", fmt::format("\"{}\"", name),
                      did_you_mean(name, {"float32", "float64"}));
}

/// LibTorch waits for ever if one of its threads cannot be made. So this first starts as many
/// threads as LibTorch, its BLAS library and autograd will start together.
void require_threads(int threads) {
  std::mutex mutex;
  std::unique_lock hold(mutex);
  std::vector<std::thread> tried;
  std::string reason;
  try {
    for (int i = 0; i < 2 * threads + 1; ++i) {
      tried.emplace_back([&mutex] { const std::lock_guard wait(mutex); });
    }
  } catch (const std::system_error& error) {
    reason = error.code().message();
  }
  hold.unlock();
  for (auto& thread : tried) thread.join();
  if (reason.empty()) return;
  fail<Error>("threads",
              fmt::format("it must be possible to start {} threads for --threads {}",
                          2 * threads + 1, threads),
              fmt::format("\"{}\" after {} of them", reason, tried.size()),
              threads > 1 ? "Raise the limits (ulimit -u, ulimit -v), or pass --threads 1."
                          : "Raise the limits (ulimit -u, ulimit -v).");
}

/// The address space of this process in bytes, as the first field of /proc/self/statm says.
uint64_t address_space() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

bool is_limited(const rlimit& limit) { return limit.rlim_cur != RLIM_INFINITY; }

rlimit address_space_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_AS, &limit) != 0) limit.rlim_cur = RLIM_INFINITY;
  return limit;
}

/// OpenBLAS tries for ever to map its buffers if a limit on the address space (ulimit -v) forbids
/// it, so enough is required beforehand.
void require_address_space(int threads) {
  constexpr uint64_t kMegabyte = 1'000'000, kSmallWork = 130 * kMegabyte;
  // OpenBLAS's buffer, glibc's arena, and two stacks of 8 MB.
  constexpr uint64_t kForEachThread = (135 + 67 + 17) * kMegabyte;
  const auto limit = address_space_limit();
  const auto needed =
      address_space() + kSmallWork + static_cast<uint64_t>(threads) * kForEachThread;
  if (!is_limited(limit) || needed <= limit.rlim_cur) return;
  fail<Error>("memory",
              fmt::format("the limit on the address space must be at least {} MB for --threads {}",
                          needed / kMegabyte, threads),
              fmt::format("{} MB", limit.rlim_cur / kMegabyte),
              threads > 1 ? "Raise it (ulimit -v), or pass --threads 1." : "Raise it (ulimit -v).");
}

/// Makes OpenBLAS map its buffers while there is room for them.
void map_blas_buffers() {
  constexpr int64_t kSize = 512;  // large enough for OpenBLAS to use every thread
  const auto ones = at::ones({kSize, kSize});
  ones.mm(ones);
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

double machine_memory() {
  const auto pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(pages) * static_cast<double>(page);
}

void require_memory_to_train(const std::string& operation, const std::string& what,
                             double parameters, const std::string& hint) {
  const double needed = 4 * sizeof(float) * parameters;
  if (needed <= machine_memory()) return;
  fail<ArgumentError>(
      operation, fmt::format("the {}, its gradients and Adam's moments must fit into memory", what),
      fmt::format("{:.3g} parameters, which take {:.3g} GB", parameters, needed / 1e9), hint);
}

void check(const CommonOptions& options) {
  if (options.threads < 0 || options.threads > kMostThreads) {
    fail<ArgumentError>("threads",
                        fmt::format("--threads must be 0 (all cores) to {}", kMostThreads),
                        fmt::format("{}", options.threads));
  }
  dtype_of(options.dtype);
  device_of(options.device);
}

Resources apply_common_options(const CommonOptions& options) {
  check(options);
  hide_notes(options.quiet);
  Resources resources;
  resources.dtype = dtype_of(options.dtype);
  resources.device = device_of(options.device);
  const int cores = usable_cores();
  resources.threads = options.threads == 0 ? cores : std::min(options.threads, cores);
  if (options.threads > cores) {
    print_message(fmt::format(
        "note: this process may use {} core{}, and more threads would only wait for each "
        "other, so --threads {} is reduced to {}.",
        cores, cores == 1 ? "" : "s", options.threads, cores));
  }
  require_address_space(resources.threads);
  require_threads(resources.threads);
  set_threads(resources.threads);
  if (is_limited(address_space_limit())) map_blas_buffers();
  instruction_set();  // throws for a wrong LOWRANK_CPU, before any work is done
  at::manual_seed(options.seed);
  return resources;
}

nlohmann::ordered_json to_json(const CommonOptions& options, const Resources& resources) {
  nlohmann::ordered_json json;
  json["seed"] = options.seed;
  json["threads"] = resources.threads;
  json["device"] = resources.device.is_cuda() ? "cuda" : "cpu";
  json["dtype"] = options.dtype;
  return json;
}

}  // namespace lowrank::app
