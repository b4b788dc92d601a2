#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace lowrank::kernels {

/// While it lives, what is too small for a normal number (1.2e-38 in float32) counts as zero in
/// this thread. A moment whose gradient has become zero (a unit that never fires) shrinks to such a
/// number and stays one, and Intel's processors are slow with each: docs/performance.md has the
/// figures. (Other processors than x86 are left as they are.)
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
