#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/process_group.h>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace lowrank {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

int64_t number_in(const char* name, int64_t least, int64_t most) {
  const auto text = variable(name);
  int64_t value = -1;
  if (text) {
    const auto* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, value);
    if (error == std::errc() && stop == end && value >= least && value <= most) return value;
  }
  fail<ArgumentError>(
      "train", fmt::format("the variable {} must be a whole number of {} to {}", name, least, most),
      text ? fmt::format("\"{}\"", *text) : "none",
      "A program like torchrun or mpirun sets it; without one, unset them all.");
}

/// A file for processes that are all on this machine, where mpirun gives no address.
std::filesystem::path meeting_point_of_mpi() {
  const auto job = variable("PMIX_NAMESPACE");
  if (!job || variable("OMPI_COMM_WORLD_LOCAL_SIZE") != variable("OMPI_COMM_WORLD_SIZE")) {
    fail<ArgumentError>("train", "processes on several machines must know where they meet",
                        "no MASTER_PORT",
                        "Pass -x MASTER_ADDR=HOST -x MASTER_PORT=29500 to mpirun.");
  }
  auto name = fmt::format("lowrank-{}-{}", ::getuid(), *job);
  std::replace(name.begin(), name.end(), '/', '-');
  return std::filesystem::temp_directory_path() / name;
}

}  // namespace

std::optional<ProcessGroupOptions> processes_of_environment() {
  constexpr int64_t kMostProcesses = 4096, kMostPort = 65535;
  const bool is_mpi = !variable("WORLD_SIZE") && variable("OMPI_COMM_WORLD_SIZE");
  if (!is_mpi && !variable("WORLD_SIZE") && !variable("RANK")) return std::nullopt;
  ProcessGroupOptions options;
  options.size = number_in(is_mpi ? "OMPI_COMM_WORLD_SIZE" : "WORLD_SIZE", 1, kMostProcesses);
  options.rank = number_in(is_mpi ? "OMPI_COMM_WORLD_RANK" : "RANK", 0, options.size - 1);
  if (const auto file = variable("LOWRANK_RENDEZVOUS")) {
    options.file = *file;
    return options;
  }
  if (is_mpi && !variable("MASTER_PORT")) {
    options.file = meeting_point_of_mpi();
    return options;
  }
  options.address = variable("MASTER_ADDR").value_or(options.address);
  options.port = number_in("MASTER_PORT", 1, kMostPort);
  options.has_agent = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (const auto restarts = variable("TORCHELASTIC_RESTART_COUNT")) {
    options.prefix += "/" + *restarts;
  }
  return options;
}

}  // namespace lowrank
