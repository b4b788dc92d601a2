#include "checkpoint/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/sha256.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

namespace lowrank {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// The line of a journal: the SHA-256 of the rest, and the rest.
std::string line_of(const OrderedJson& json) {
  const auto text = to_text(json, -1);
  return sha256_hex(text) + " " + text + "\n";
}

/// The line's object; null for a line that line_of() did not write.
OrderedJson parse_line(const std::string& line) {
  constexpr size_t kDigits = 64;
  if (line.size() <= kDigits || line[kDigits] != ' ') return {};
  const auto text = line.substr(kDigits + 1);
  if (line.substr(0, kDigits) != sha256_hex(text)) return {};
  auto json = parse_ordered_json(text, "a line of a journal");
  return json.is_object() ? json : OrderedJson();
}

}  // namespace

Journal::Journal(const std::filesystem::path& file, const std::string& identity, bool resume,
                 const char* operation)
    : path_(file) {
  const auto kept = resume ? read(identity, operation) : 0;
  file_ = io::Descriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file_.is_open() || ::ftruncate(file_.number(), static_cast<off_t>(kept)) != 0 ||
      ::lseek(file_.number(), 0, SEEK_END) < 0) {
    io::fail_write(file, errno);
  }
  if (kept == 0) append({{"identity", identity}});
}

uint64_t Journal::read(const std::string& identity, const char* operation) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(path_, none)) return 0;
  std::ifstream file(path_, std::ios::binary);
  uint64_t kept = 0;
  for (std::string line; std::getline(file, line) && !file.eof(); kept += line.size() + 1) {
    const auto json = parse_line(line);
    if (json.is_null()) break;
    if (kept > 0) {
      entries_[json.at("part")] = {json.at("sha256"), json.at("report")};
    } else if (json.at("identity") != identity) {
      fail<FileError>(
          operation,
          fmt::format("what is resumed must be the work that {} is about", io::quoted(path_)),
          "other inputs or options",
          "Give those of the interrupted command, or leave --resume away to begin anew.");
    }
  }
  return kept;
}

const Journal::Entry* Journal::find(const std::string& part) const {
  const auto found = entries_.find(part);
  return found == entries_.end() ? nullptr : &found->second;
}

void Journal::add(const std::string& part, const Entry& entry) {
  append({{"part", part}, {"sha256", entry.sha256}, {"report", entry.report}});
}

void Journal::append(const OrderedJson& line) { io::write_all(file_, line_of(line), path_); }

}  // namespace lowrank
