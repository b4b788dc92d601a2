#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace lowrank {

/// A SHA-256 hash that is computed piece by piece (FIPS 180-4).
class LOWRANK_API Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(const void* bytes, size_t count);
  /// Returns the hash of all bytes so far as 64 lower-case hexadecimal digits; more bytes may
  /// follow.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

LOWRANK_API std::string sha256_hex(std::string_view bytes);

/// Returns the hash of the tensor's elements in the order of a contiguous tensor (row-major, in
/// this machine's byte order). Shape and dtype are not part of it. The tensor may be on any device
/// and have any strides. Throws TensorError for an undefined tensor and for one that has no dense
/// data.
LOWRANK_API std::string sha256_hex(const at::Tensor& tensor);

}  // namespace lowrank
