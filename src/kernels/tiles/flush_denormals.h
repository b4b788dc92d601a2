#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace lowrank::kernels {

/// While it lives, denormal numbers (below 1.2e-38 in float32) count as zero on this thread. The
/// moment of a gradient that has become zero (of a unit that never fires) shrinks to a denormal and
/// stays one, and Intel's processors are slow with denormals: docs/performance-log.md has the
/// figures. (On processors other than x86 this does nothing.)
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : before_(_mm_getcsr()) {
    constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
    _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

#if defined(__SSE2__)
 private:
  unsigned before_;
#endif
};

}  // namespace lowrank::kernels
