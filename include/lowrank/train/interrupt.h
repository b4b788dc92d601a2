#pragma once

#include <lowrank/export.h>

namespace lowrank {

/// While one lives, Ctrl-C (SIGINT) and SIGTERM only raise a flag, for long work to stop cleanly;
/// a second signal ends the process at once. The handlers before it come back at its end.
class LOWRANK_API InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

/// Whether a signal came since the guard was made.
LOWRANK_API bool interrupted();

}  // namespace lowrank
