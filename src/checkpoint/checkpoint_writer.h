#pragma once

#include <lowrank/io/safetensors.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/journal.h"
#include "checkpoint/staged_output.h"

namespace lowrank {

/// Writes a checkpoint as a stream: tensors one after the other, in a hidden folder that takes the
/// place of the output at the end. If it is not reached, nothing of the output changes. A process
/// that was killed can be resumed: what a journal says to be finished is taken only if its bytes
/// have the digest that stands there.
class CheckpointWriter {
 public:
  struct Options {
    bool is_folder = true;  ///< otherwise `out` is one file
    bool resume = false;    ///< takes up what a killed process left, if there is something
    std::string identity;   ///< what the work is, for the journal
    const char* operation = "checkpoint";
  };
  CheckpointWriter(const std::filesystem::path& out, const Options& options);

  /// A tensor to write, and what is to be reported of it.
  struct Content {
    at::Tensor tensor;
    nlohmann::ordered_json report;
  };
  struct Source {
    std::function<Content(const SafetensorsEntry&)> make;
    /// Takes the report of each tensor, made now or before the interruption.
    std::function<void(const SafetensorsEntry&, const nlohmann::ordered_json&)> report;
  };
  /// Writes one file, in the order in which write_safetensors() would. The tensors of the entries
  /// only say which dtype and shape they will have.
  void write(const std::string& name, const std::vector<SafetensorsEntry>& entries,
             const std::map<std::string, std::string>& metadata, const Source& source);
  /// As StagedOutput has it: call it before anything is computed.
  void require_places(const std::set<std::string>& names) const { stage_.require_places(names); }
  /// Writes a small file.
  void add(const std::string& name, std::string_view bytes);

  /// How many tensors were there from an interrupted run.
  int64_t resumed() const { return resumed_; }

  /// Puts everything in its place; `dropped` are files of an older checkpoint there that have no
  /// place in this one.
  void commit(const std::set<std::string>& dropped = {});

 private:
  std::set<std::string> names_;  // of the files that were written
  Options options_;
  StagedOutput stage_;
  Journal journal_;
  int64_t resumed_ = 0;
};

}  // namespace lowrank
