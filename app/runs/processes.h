#pragma once

#include <lowrank/train/process_group.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "app/data/dataset.h"

/// Runs that several processes share.
namespace lowrank::app {

struct ProcessOptions {
  int64_t count = 0;      // processes to start on this machine; 0: none
  double timeout = 600;   // seconds that a process waits for the others
  std::string file = {};  // where they meet (--rendezvous); empty: at MASTER_ADDR and MASTER_PORT
};

/// Throws ArgumentError for a number of processes or a time that is out of range.
void check(const ProcessOptions& options);

/// Starts the processes that --processes asks for, as copies of this command, and waits for them.
/// Returns their status: that of the first one that failed (1 if a signal ended it), or 0. Returns
/// nothing, and starts none, if none are asked for or if this process is one of them. A signal is
/// passed on to all of them. What the processes other than rank 0 print is shown only if one of
/// them was the first to fail.
std::optional<int> start_processes(const ProcessOptions& options);

/// Joins the processes that this one was started with, by start_processes(), torchrun or mpirun.
/// Returns null for a process that was started alone.
std::shared_ptr<ProcessGroup> join(const ProcessOptions& options);

/// Returns whether this process was started together with others (or as one of one), and its rank.
std::optional<int64_t> rank_of_this_process();

/// Returns what must be the same in all processes: the data and the versions, as JSON.
std::string shared_identity(const Dataset& data);

}  // namespace lowrank::app
