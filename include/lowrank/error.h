#pragma once

#include <lowrank/export.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// Every error of this library is one of these types, and reads
/// "[operation] what is required. Got what was found." with, where the cause is likely known,
/// one more sentence that says what to do.
namespace lowrank {

/// The base of all errors this library throws.
class LOWRANK_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller asked for something that can never work: an option out of its range, an unknown
/// name, a combination that excludes itself. The command exits with 2.
class LOWRANK_API ArgumentError : public Error {
 public:
  using Error::Error;
};

/// A file or folder could not be read or written, or holds what it must not hold.
class LOWRANK_API FileError : public Error {
 public:
  using Error::Error;
};

/// Tensors are not what the operation needs: shape, dtype, NaN or Inf, or a state that forbids it.
class LOWRANK_API TensorError : public Error {
 public:
  using Error::Error;
};

/// The user interrupted the work (Ctrl-C); the message says what is on disk.
class LOWRANK_API Interrupted : public Error {
 public:
  using Error::Error;
};

/// "[operation] what is required. Got what was found." and the hint, where there is one.
LOWRANK_API std::string error_message(std::string_view operation, std::string_view required,
                                      std::string_view found, std::string_view hint = {});

/// Throws `E` in the library's one grammar. `required` and `found` are clauses without the final
/// full stop; `hint` is a whole sentence, or empty.
///
///     fail<ArgumentError>("attach", "rank must be at least 1", "0");
///     // [attach] rank must be at least 1. Got 0.
template <class E>
[[noreturn]] void fail(std::string_view operation, std::string_view required,
                       std::string_view found, std::string_view hint = {}) {
  throw E(error_message(operation, required, found, hint));
}

/// "Did you mean "linear1"?" for the candidate nearest to `name` (edit distance, at most a third
/// of its length off), or "" where none is near.
LOWRANK_API std::string did_you_mean(std::string_view name,
                                     const std::vector<std::string>& candidates);

/// `a, b, c` for messages; after `most` names, "and N more".
LOWRANK_API std::string list_names(const std::vector<std::string>& names, size_t most = 8);

}  // namespace lowrank
