#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/files/system_file.h"

namespace lowrank {

/// What a long command has finished, line by line, so that it can go on after it was killed. The
/// first line says what the work is; each further one names a part, the SHA-256 of its bytes, and
/// what is to be reported of it. Every line begins with its own SHA-256.
class Journal {
 public:
  struct Entry {
    std::string sha256;
    nlohmann::ordered_json report;
  };

  /// Begins a new journal; with `resume` it goes on with the one that is there. A line that was not
  /// written to its end is dropped. Throws FileError with `operation` if the journal is about other
  /// work than `identity`, or cannot be written.
  Journal(const std::filesystem::path& file, const std::string& identity, bool resume,
          const char* operation);

  /// Returns the entry of a part, or nullptr.
  const Entry* find(const std::string& part) const;
  void add(const std::string& part, const Entry& entry);

 private:
  /// Reads the whole lines of an old journal; returns how many bytes they have.
  uint64_t read(const std::string& identity, const char* operation);
  void append(const nlohmann::ordered_json& line);

  std::filesystem::path path_;
  std::map<std::string, Entry> entries_;
  io::Descriptor file_;
};

}  // namespace lowrank
