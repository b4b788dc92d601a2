#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace lowrank {

/// A running SHA-256 sum (FIPS 180-4).
class LOWRANK_API Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(const void* bytes, size_t count);
  /// The sum of all bytes so far, 64 lower-case hexadecimal digits; more bytes may follow.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

LOWRANK_API std::string sha256_hex(std::string_view bytes);

/// The sum of the tensor's elements as they lie in memory when contiguous (row-major, this
/// machine's byte order); shape and dtype do not enter. Any device, any strides.
/// Throws TensorError for an undefined tensor or one that has no dense data.
LOWRANK_API std::string sha256_hex(const at::Tensor& tensor);

}  // namespace lowrank
