#include "app/models/script_file.h"

#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDeepest = 200;
constexpr const char* kScriptHint =
    "torch.jit.script(model).save(...) writes one; torch.save does not.";

/// LibTorch's parser prints a stack trace for what is no zip archive, and its messages are written
/// for programmers.
void require_archive(const fs::path& file) {
  std::string begin(4, '\0');
  const bool is_file = fs::is_regular_file(file);
  std::ifstream stream;
  if (is_file) stream.open(file, std::ios::binary);
  stream.read(begin.data(), 4);
  if (begin == "PK\x03\x04") return;
  const char* found = !is_file            ? "a pipe or device"
                      : !stream.is_open() ? "a file that cannot be read"
                                          : "a file that is not a zip archive";
  fail<FileError>("targets", fmt::format("\"{}\" must be a TorchScript file", file.string()), found,
                  kScriptHint);
}

void require_shallow(const fs::path& file) {
  caffe2::serialize::PyTorchStreamReader reader(file.string());
  for (const auto& name : reader.getAllRecords()) {
    const bool is_code = name.ends_with(".py"), is_pickle = name.ends_with(".pkl");
    if (!is_code && !is_pickle) continue;
    const auto [data, size] = reader.getRecord(name);
    const std::string_view bytes(static_cast<const char*>(data.get()), size);
    const auto depth = is_code ? depth_of_code(bytes) : depth_of_pickle(bytes);
    if (depth <= kDeepest) continue;
    fail<FileError>("targets",
                    fmt::format("\"{}\" in \"{}\" must nest at most {} levels deep", name,
                                file.string(), kDeepest),
                    fmt::format("{} levels", depth));
  }
}

/// Goes through a pickle and keeps, in place of its objects, how deeply each nests.
class PickleDepth {
 public:
  explicit PickleDepth(std::string_view pickle) : rest_(pickle) {}

  size_t find() {
    while (!rest_.empty() && step()) {
    }
    return deepest_;
  }

 private:
  /// Returns false at the end, and for an opcode that TorchScript does not write.
  bool step() {
    const auto opcode = static_cast<unsigned char>(take(1)[0]);
    switch (opcode) {
      case 0x80:  // PROTO
        return skip(1);
      case 'K':  // BININT1
        return skip(1) && push(0);
      case 'M':  // BININT2
        return skip(2) && push(0);
      case 'J':  // BININT
        return skip(4) && push(0);
      case 'G':  // BINFLOAT
        return skip(8) && push(0);
      case 'N':   // NONE
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
      case '}':   // EMPTY_DICT
      case ']':   // EMPTY_LIST
      case ')':   // EMPTY_TUPLE
        return push(1);
      case 0x8a:  // LONG1
      case 'U':   // SHORT_BINSTRING
      case 0x8c:  // SHORT_BINUNICODE
        return skip(length(1)) && push(0);
      case 'X':  // BINUNICODE
      case 'T':  // BINSTRING
        return skip(length(4)) && push(0);
      case 'c':  // GLOBAL: two lines
        return skip_line() && skip_line() && push(0);
      case '(':  // MARK
        marks_.push_back(stack_.size());
        return true;
      case 't':  // TUPLE
        return fold(above_mark());
      case 'e':  // APPENDS
      case 'u':  // SETITEMS
        return absorb(above_mark());
      case 'a':  // APPEND
      case 'b':  // BUILD
        return absorb(1);
      case 's':  // SETITEM
        return absorb(2);
      case 'Q':   // BINPERSID
      case 0x85:  // TUPLE1
        return fold(1);
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
      case 0x86:  // TUPLE2
        return fold(2);
      case 0x87:  // TUPLE3
        return fold(3);
      case 'q':  // BINPUT
        return put(length(1));
      case 'r':  // LONG_BINPUT
        return put(length(4));
      case 'h':  // BINGET
        return get(length(1));
      case 'j':  // LONG_BINGET
        return get(length(4));
      default:  // '.', and whatever LibTorch will refuse by itself
        return false;
    }
  }

  std::string_view take(size_t bytes) {
    const auto taken = rest_.substr(0, bytes);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  bool skip(size_t bytes) { return take(bytes).size() == bytes; }
  bool skip_line() {
    const auto end = rest_.find('\n');
    return end != std::string_view::npos && skip(end + 1);
  }
  size_t length(size_t bytes) {
    size_t value = 0, shift = 0;
    for (const char byte : take(bytes)) {
      value |= static_cast<size_t>(static_cast<unsigned char>(byte)) << shift;
      shift += 8;
    }
    return value;
  }

  bool push(size_t depth) {
    stack_.push_back(depth);
    deepest_ = std::max(deepest_, depth);
    return true;
  }
  /// Takes the topmost objects off and returns the depth of the deepest.
  size_t take_off(size_t count) {
    size_t depth = 0;
    for (; count > 0; --count) {
      depth = std::max(depth, stack_.back());
      stack_.pop_back();
    }
    return depth;
  }
  /// Replaces the topmost objects by one that holds them.
  bool fold(size_t count) { return count <= stack_.size() && push(take_off(count) + 1); }
  /// Puts the topmost objects into the one below them.
  bool absorb(size_t count) {
    if (count >= stack_.size()) return false;
    const auto depth = take_off(count) + 1;
    const auto own = take_off(1);
    return push(std::max(own, depth));
  }
  /// The number of objects above the last mark; too many to take if there is no mark.
  size_t above_mark() {
    if (marks_.empty() || marks_.back() > stack_.size()) return stack_.size() + 1;
    const auto count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }
  bool put(size_t index) {
    if (stack_.empty() || index > 10'000'000) return false;
    if (memo_.size() <= index) memo_.resize(index + 1, 0);
    memo_[index] = stack_.back();
    return true;
  }
  bool get(size_t index) { return index < memo_.size() && push(memo_[index]); }

  std::string_view rest_;
  std::vector<size_t> stack_, marks_, memo_;
  size_t deepest_ = 0;
};

}  // namespace

size_t depth_of_code(std::string_view code) {
  size_t deepest = 0, open = 0, indentation = 0;
  bool at_line_start = true;
  char quote = '\0';
  for (size_t i = 0; i < code.size(); ++i) {
    const char c = code[i];
    if (quote != '\0') {
      if (c == '\\') {
        ++i;
      } else if (c == quote || c == '\n') {
        quote = '\0';
      }
      continue;
    }
    if (c == '\n') {
      at_line_start = true;
      indentation = 0;
      continue;
    }
    if (at_line_start && c == ' ') {
      ++indentation;
      continue;
    }
    at_line_start = false;
    if (c == '"' || c == '\'') quote = c;
    if (c == '#') i = std::min(code.find('\n', i), code.size()) - 1;
    if (c == '(' || c == '[' || c == '{') ++open;
    if ((c == ')' || c == ']' || c == '}') && open > 0) --open;
    deepest = std::max(deepest, open + indentation / 2);
  }
  return deepest;
}

size_t depth_of_pickle(std::string_view pickle) { return PickleDepth(pickle).find(); }

torch::jit::Module load_script(const fs::path& file) {
  require_archive(file);
  try {
    require_shallow(file);
    return torch::jit::load(file.string(), at::kCPU);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // c10::Error, or torch::jit::ErrorReport about its code
    const std::string reason = error.what();
    fail<FileError>("targets", fmt::format("\"{}\" must be a TorchScript file", file.string()),
                    reason.substr(0, reason.find('\n')), kScriptHint);
  }
}

}  // namespace lowrank::app
