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
  /// The name of a file in a folder that they share; what they write goes to a file beside it,
  /// whose name ends in ".lowrank-meeting" and which must not exist yet. Without it they meet at
  /// `address` and `port`, where the process of rank 0 listens.
  std::filesystem::path file = {};
  std::string address = "127.0.0.1";
  int64_t port = 0;
  /// Whether the program that started the processes listens there in place of rank 0 (torchrun).
  bool has_agent = false;
  /// Put before all names at the meeting point, so that a run that is started again does not find
  /// what the one before left.
  std::string prefix = "lowrank";
  /// How long a process waits for the others.
  double timeout_seconds = 600;
};

/// Joins a group by c10d's Gloo backend, which is part of LibTorch. The connections use the network
/// interface that GLOO_SOCKET_IFNAME names, or else the one that leads to `address`, or with `file`
/// those of this machine alone. Throws ArgumentError for options out of range, FileError if `file`
/// cannot be written, and ProcessGroupError if not all processes come.
LOWRANK_API std::shared_ptr<ProcessGroup> join_processes(const ProcessGroupOptions& options);

/// Returns the options for the processes that torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)
/// or Open MPI's mpirun (OMPI_COMM_WORLD_RANK and _SIZE, with MASTER_ADDR and MASTER_PORT; on
/// one machine these two may be missing) has started, or for those that LOWRANK_RENDEZVOUS gives a
/// file; nothing for a process that was started by itself. Throws ArgumentError for a variable
/// that is missing or is no number.
LOWRANK_API std::optional<ProcessGroupOptions> processes_of_environment();

}  // namespace lowrank
