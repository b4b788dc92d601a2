#include "checkpoint/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

namespace lowrank {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// The line as an object; null if it is none.
OrderedJson parse_line(const std::string& line) {
  auto json = OrderedJson::parse(line, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : OrderedJson();
}

std::string text_in(const OrderedJson& json, const char* field) {
  const auto found = json.find(field);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

Journal::Journal(const std::filesystem::path& file, const std::string& identity, bool resume,
                 const char* operation)
    : path_(file) {
  const auto kept = resume ? read(identity, operation) : 0;
  file_ = io::Descriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  if (!file_.is_open() || ::ftruncate(file_.number(), static_cast<off_t>(kept)) != 0 ||
      ::lseek(file_.number(), 0, SEEK_END) < 0) {
    io::fail_write(file, errno);
  }
  if (kept == 0) append({{"identity", identity}});
}

uint64_t Journal::read(const std::string& identity, const char* operation) {
  std::ifstream file(path_, std::ios::binary);
  uint64_t kept = 0;
  for (std::string line; std::getline(file, line) && !file.eof(); kept += line.size() + 1) {
    const auto json = parse_line(line);
    if (json.is_null()) break;
    if (kept > 0) {
      entries_[text_in(json, "part")] = {text_in(json, "sha256"),
                                         json.value("report", OrderedJson())};
    } else if (text_in(json, "identity") != identity) {
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

void Journal::append(const OrderedJson& line) {
  io::write_all(file_, to_text(line, -1) + "\n", path_);
}

}  // namespace lowrank
