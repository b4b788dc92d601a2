#pragma once

#include <lowrank/export.h>

namespace lowrank {

/// While a guard exists, Ctrl-C (SIGINT), SIGTERM and SIGHUP (a terminal that is closed; not under
/// nohup) only set a flag, so that long work can stop cleanly; a second signal ends the process at
/// once. The destructor restores the previous handlers. Only one guard may exist at a time.
class LOWRANK_API InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

/// Returns whether a signal has come since the last guard was made.
LOWRANK_API bool interrupted();

}  // namespace lowrank
