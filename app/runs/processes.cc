#include "app/runs/processes.h"

#include <c10/util/Logging.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/sha256.h>
#include <lowrank/version.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "app/terminal/message.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// The signal that is still to be passed on; 0: none.
volatile std::sig_atomic_t signal_to_pass_on = 0;

void note_signal(int signal) { signal_to_pass_on = signal; }

/// A folder of its own for what the processes share on this machine, and for what they print.
class SharedFolder {
 public:
  SharedFolder() {
    std::error_code error;
    auto name = (fs::temp_directory_path(error) / "lowrank-processes-XXXXXX").string();
    if (error || ::mkdtemp(name.data()) == nullptr) {
      fail<FileError>(
          "train", "the processes must have a folder for temporary files, such as $TMPDIR or /tmp",
          fmt::format("\"{}\"", error ? error.message() : std::generic_category().message(errno)));
    }
    path_ = name;
  }
  ~SharedFolder() {
    std::error_code none;
    fs::remove_all(path_, none);
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  fs::path meeting_point() const { return path_ / "store"; }
  fs::path output_of(size_t rank) const { return path_ / fmt::format("output-{}", rank); }

 private:
  fs::path path_;
};

/// The words of the command line of this process.
std::vector<std::string> own_words() {
  std::ifstream file("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

std::vector<std::string> environment_of(size_t rank, int64_t size, const fs::path& meeting_point) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    variables.emplace_back(*variable);
  }
  variables.push_back(fmt::format("RANK={}", rank));
  variables.push_back(fmt::format("WORLD_SIZE={}", size));
  variables.push_back(fmt::format("LOWRANK_RENDEZVOUS={}", meeting_point.string()));
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// How the first of the processes that failed ended. The status is 128 + N for one that signal N
/// ended.
struct Failure {
  size_t rank = 0;
  int status = 0;        // 0: none has failed
  bool is_told = false;  // whether process 0, which writes to the terminal, has said what happened
};

/// The processes that were started, and how they ended.
class Children {
 public:
  void start(size_t rank, int64_t size, const SharedFolder& folder) {
    auto words = own_words();
    auto variables = environment_of(rank, size, folder.meeting_point());
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (rank > 0) {
      const auto output = folder.output_of(rank);
      posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
      posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, output.c_str(), O_WRONLY | O_CREAT,
                                       0600);
    }
    // A terminal's Ctrl-C reaches this process alone, which passes it on once.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    pid_t process = 0;
    const int failed = posix_spawn(&process, "/proc/self/exe", &actions, &attributes,
                                   pointers_to(words).data(), pointers_to(variables).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) {
      signal_all(SIGKILL);
      fail<FileError>("train", "the processes must be startable",
                      fmt::format("\"{}\"", std::generic_category().message(failed)));
    }
    processes_.push_back(process);
  }

  /// Waits until all have ended, and returns the first failure.
  Failure wait() {
    Failure first;
    std::optional<Clock::time_point> failed_at;
    size_t running = processes_.size();
    while (running > 0) {
      if (const int signal = signal_to_pass_on; signal != 0) {
        signal_to_pass_on = 0;
        signal_all(signal);
      }
      int status = 0;
      const pid_t ended = ::waitpid(-1, &status, WNOHANG);
      if (ended <= 0) {
        if (failed_at) end_the_rest(Clock::now() - *failed_at);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        continue;
      }
      const auto place = std::find(processes_.begin(), processes_.end(), ended);
      if (place == processes_.end()) continue;
      --running;
      const auto rank = static_cast<size_t>(place - processes_.begin());
      *place = 0;
      const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      if (rank == 0) first.is_told = code != 0 && WIFEXITED(status);
      if (code == 0 || first.status != 0) continue;
      first.rank = rank;
      first.status = code;
      failed_at = Clock::now();
    }
    return first;
  }

 private:
  void signal_all(int signal) const {
    for (const auto process : processes_) {
      if (process > 0) ::kill(process, signal);
    }
  }

  /// The others notice within moments that one has failed. What still runs then is ended.
  void end_the_rest(Clock::duration since) {
    using std::chrono::seconds;
    if (since > seconds(10)) {
      signal_all(SIGKILL);
    } else if (since > seconds(5) && !asked_to_end_) {
      asked_to_end_ = true;
      signal_all(SIGTERM);
    }
  }

  std::vector<pid_t> processes_;
  bool asked_to_end_ = false;
};

}  // namespace

void check(const ProcessOptions& options) {
  constexpr int64_t kMost = 1024;
  if (options.count < 0 || options.count > kMost) {
    fail<ArgumentError>("train", fmt::format("--processes must be 1 to {}", kMost),
                        fmt::format("{}", options.count));
  }
  if (!(options.timeout > 0 && options.timeout <= 1e6)) {
    fail<ArgumentError>("train", "--timeout must be above 0 and at most 1000000 seconds",
                        fmt::format("{}", options.timeout));
  }
}

std::optional<int> start_processes(const ProcessOptions& options) {
  if (options.count == 0 || rank_of_this_process()) return std::nullopt;
  const SharedFolder folder;
  Children children;
  // A shell's background jobs start with SIGINT ignored, and can be interrupted all the same. Under
  // nohup SIGHUP stays ignored. (InterruptGuard does both too.)
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, note_signal);
  if (std::signal(SIGHUP, note_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
  for (int64_t rank = 0; rank < options.count; ++rank) {
    children.start(static_cast<size_t>(rank), options.count, folder);
  }
  const auto failure = children.wait();
  const bool is_killed = failure.status > 128;
  if (is_killed && !failure.is_told) {
    print_message(error_message(
        "train", "all processes must go on",
        fmt::format("process {}, which signal {} ended", failure.rank, failure.status - 128),
        "Its last checkpoint counts: go on with --resume and --processes."));
  }
  if (!is_killed && failure.rank > 0) {
    const auto output = read_file(folder.output_of(failure.rank), uint64_t{1} << 20);
    std::fwrite(output.data(), 1, output.size(), stderr);
  }
  return is_killed ? 1 : failure.status;
}

std::optional<int64_t> rank_of_this_process() {
  const auto found = processes_of_environment();
  return found ? std::optional(found->rank) : std::nullopt;
}

std::shared_ptr<ProcessGroup> join(const ProcessOptions& options) {
  if (!options.file.empty()) ::setenv("LOWRANK_RENDEZVOUS", options.file.c_str(), /*replace=*/1);
  auto found = processes_of_environment();
  if (!found) return nullptr;
  // Sockets that are tried again are nothing to warn of: if they fail in the end, an error says so.
  ::setenv("TORCH_CPP_LOG_LEVEL", "ERROR", /*replace=*/0);
  c10::initLogging();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // where whoever started the processes is killed
  found->timeout_seconds = options.timeout;
  return join_processes(*found);
}

std::string shared_identity(const Dataset& data) {
  const nlohmann::json json = {{"data_sha256", sha256_hex(data.inputs)},
                               {"labels_sha256", sha256_hex(data.labels)},
                               {"lowrank", version()},
                               {"libtorch", libtorch_version()}};
  return json.dump();
}

}  // namespace lowrank::app
