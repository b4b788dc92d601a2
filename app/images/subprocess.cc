#include "app/images/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/interrupt.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

extern char** environ;

namespace lowrank::app {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kKeptOutput = size_t{1} << 16;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::system_error(errno, std::generic_category(), "pipe");
    }
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    ::close(read_end);
    close_write_end();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_write_end() {
    if (write_end >= 0) ::close(write_end);
    write_end = -1;
  }
};

/// Returns 0, or the error number that kept the program from starting.
int spawn(const std::vector<std::string>& arguments, const std::filesystem::path& folder,
          int output, pid_t* child) {
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  // A process group of its own, so that whatever the program starts can be ended together with it.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int error = ::posix_spawnp(child, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

/// Returns whether the program has ended; it stays a zombie until wait_for().
bool has_ended(pid_t child) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == child;
}

/// Reads until the program has ended and nothing more is to be read. (Programs that it started may
/// hold its output open.) Returns false if `deadline` passes or the user interrupts first.
bool drain(pid_t child, int descriptor, Clock::time_point deadline, std::string* output) {
  std::array<char, 4096> chunk{};
  for (bool closed = false;;) {
    if (Clock::now() >= deadline || interrupted()) return false;
    const bool ended = has_ended(child);
    pollfd waited{closed ? -1 : descriptor, POLLIN, 0};
    const int ready = ::poll(&waited, 1, ended ? 0 : closed ? 5 : 100);
    if (ready <= 0 && ended) return true;
    if (ready <= 0) continue;
    const ssize_t count = ::read(descriptor, chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    closed = count <= 0;
    if (closed) continue;
    output->append(chunk.data(), static_cast<size_t>(count));
    if (output->size() > 2 * kKeptOutput) output->erase(0, output->size() - kKeptOutput);
  }
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

std::string last_line(const std::string& output) {
  const size_t end = output.find_last_not_of(" \r\n\t");
  if (end == std::string::npos) return "";
  const size_t begin = output.find_last_of("\r\n", end);
  const size_t first = begin == std::string::npos ? 0 : begin + 1;
  return output.substr(first, std::min<size_t>(end + 1 - first, 200));
}

std::string describe(const std::string& program, int status, const std::string& output) {
  const std::string line = last_line(output);
  const std::string how = WIFSIGNALED(status)
                              ? fmt::format("was killed by signal {}", WTERMSIG(status))
                              : fmt::format("exited with status {}", WEXITSTATUS(status));
  return fmt::format("{} {}{}", program, how, line.empty() ? "" : fmt::format(" ({})", line));
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::filesystem::path& folder, std::chrono::seconds limit) {
  ProcessResult result;
  Pipe pipe;
  pid_t child = 0;
  const int error = spawn(arguments, folder, pipe.write_end, &child);
  if (error != 0) {
    result.problem = error == ENOENT ? fmt::format("{} is not installed", arguments[0])
                                     : fmt::format("{} could not be started ({})", arguments[0],
                                                   std::generic_category().message(error));
    return result;
  }
  pipe.close_write_end();
  const InterruptGuard interruptible;  // a signal ends the program too, which is in another group
  const bool ended = drain(child, pipe.read_end, Clock::now() + limit, &result.output);
  ::kill(-child, SIGKILL);  // and what the program has left running
  const int status = wait_for(child);
  if (!ended && interrupted()) {
    throw Interrupted(fmt::format("[{0}] interrupted while {0} ran.", arguments[0]));
  }
  result.ok = ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!ended) {
    result.problem = fmt::format("{} took longer than {} s", arguments[0], limit.count());
  } else if (!result.ok) {
    result.problem = describe(arguments[0], status, result.output);
  }
  return result;
}

}  // namespace lowrank::app
