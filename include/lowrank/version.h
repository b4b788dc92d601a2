#pragma once

#include <lowrank/export.h>

namespace lowrank {

/// The library's version, "major.minor.patch" (semantic versioning).
LOWRANK_API const char* version();

/// The version of LibTorch that this library was built with, as LibTorch's own headers state it,
/// for example "2.10.0". (The headers in Debian's package of 1.13.1 state "1.13.0".)
LOWRANK_API const char* libtorch_version();

}  // namespace lowrank
