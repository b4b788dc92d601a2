#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/error.h>
#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lowrank {

/// A process of a group died, could not be reached or did not answer in time.
class LOWRANK_API ProcessGroupError : public Error {
 public:
  using Error::Error;
};

/// Processes that train one model together, each on its share of the batches (data-parallel). All
/// of them must call the same functions in the same order. A function throws ProcessGroupError if
/// another process has died, cannot be reached or does not answer within the timeout.
class LOWRANK_API ProcessGroup {
 public:
  ProcessGroup() = default;
  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  /// The number of this process, 0 to size() - 1. The process of rank 0 writes, reports and
  /// decides.
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;
  /// Returns the tensors of all processes in the order of their ranks, on the CPU. They must have
  /// one shape and dtype.
  virtual std::vector<at::Tensor> all_gather(const at::Tensor& own) = 0;
  /// Replaces the values of a contiguous CPU tensor by those in the process of rank 0. It must have
  /// the same shape and dtype there.
  virtual void broadcast(at::Tensor& tensor) = 0;
};

/// How the processes of a group find each other.
struct ProcessGroupOptions {
  int64_t rank = 0;
  int64_t size = 1;
  /// The processes meet at the file that has this name with ".lowrank-meeting" added. It must be in
  /// a folder that they share, and must not exist yet. If this is empty, they meet at `address` and
  /// `port`, where the process of rank 0 listens.
  std::filesystem::path file = {};
  std::string address = "127.0.0.1";
  int64_t port = 0;
  /// Whether the program that started the processes (torchrun) listens at `address` and `port` in
  /// place of rank 0.
  bool has_agent = false;
  /// Put before all names at the meeting point, so that a run that is started again does not find
  /// what the one before left.
  std::string prefix = "lowrank";
  /// How long a process waits for the others.
  double timeout_seconds = 600;
};

/// Joins a group by c10d's Gloo backend, which is part of LibTorch. The connections use the network
/// interface that GLOO_SOCKET_IFNAME names. If it names none, they use the one that leads to
/// `address` or, with `file`, the loopback interface, which only reaches processes on this machine.
/// Throws ArgumentError for options out of range, FileError if the file cannot be written, and
/// ProcessGroupError if not all processes come.
LOWRANK_API std::shared_ptr<ProcessGroup> join_processes(const ProcessGroupOptions& options);

/// Returns how this process joins those that it was started with, as the environment says; nothing
/// for a process that was started by itself. Rank and size come from torchrun (RANK, WORLD_SIZE) or
/// Open MPI's mpirun (OMPI_COMM_WORLD_RANK and _SIZE). LOWRANK_RENDEZVOUS gives `file`; without it,
/// they meet at MASTER_ADDR and MASTER_PORT. If all processes of mpirun are on one machine,
/// MASTER_PORT may be missing: then they meet at a file in the folder for temporary files. Throws
/// ArgumentError for a variable that is missing or is no number.
LOWRANK_API std::optional<ProcessGroupOptions> processes_of_environment();

}  // namespace lowrank
