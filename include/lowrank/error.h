#pragma once

#include <lowrank/export.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// Every error that this library throws is one of these types. Its message reads "[operation] what
/// is required. Got what was found." and, where the likely cause is known, ends with a sentence
/// that says what to do.
namespace lowrank {

/// The base of all errors this library throws.
class LOWRANK_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller asked for something that can never work: an option that is out of range, an unknown
/// name, or options that exclude each other. The command line program then exits with status 2.
class LOWRANK_API ArgumentError : public Error {
 public:
  using Error::Error;
};

/// A file or folder could not be read or written, or its content is invalid.
class LOWRANK_API FileError : public Error {
 public:
  using Error::Error;
};

/// A tensor does not fit the operation (wrong shape or dtype, NaN or Inf), or the state of the
/// model forbids the operation.
class LOWRANK_API TensorError : public Error {
 public:
  using Error::Error;
};

/// The user interrupted the work (Ctrl-C). train() throws this after it has written the checkpoint,
/// if the run keeps one; the message says what is on disk.
class LOWRANK_API Interrupted : public Error {
 public:
  using Error::Error;
};

/// Returns "[operation] what is required. Got what was found.", followed by the hint if there is
/// one. What is required and what was found are cut after 600 bytes.
LOWRANK_API std::string error_message(std::string_view operation, std::string_view required,
                                      std::string_view found, std::string_view hint = {});

/// Throws `E` with the message of error_message(). `required` and `found` are clauses without the
/// final full stop; `hint` is a whole sentence, or empty.
///
///     fail<ArgumentError>("attach", "rank must be at least 1", "0");
///     // [attach] rank must be at least 1. Got 0.
template <class E>
[[noreturn]] void fail(std::string_view operation, std::string_view required,
                       std::string_view found, std::string_view hint = {}) {
  throw E(error_message(operation, required, found, hint));
}

/// Returns the text cut to at most this many bytes, between two UTF-8 characters, and "..." after
/// it if it was longer.
LOWRANK_API std::string shortened(std::string_view text, size_t most);

/// Returns "Did you mean "linear1"?" for the candidate nearest to `name`, or "" if none is near. A
/// candidate is near if its edit distance is at most a third of the length of `name` (at least 1).
LOWRANK_API std::string did_you_mean(std::string_view name,
                                     const std::vector<std::string>& candidates);

/// Returns the names as `a, b, c` for messages; if there are more than `most`, the text ends with
/// "and N more".
LOWRANK_API std::string list_names(const std::vector<std::string>& names, size_t most = 8);

}  // namespace lowrank
