#include <c10/util/Exception.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/version.h>
#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <new>
#include <string>
#include <system_error>

#include "commands.h"
#include "message.h"

namespace {

constexpr int kFailed = 1;
constexpr int kWrongArguments = 2;
constexpr int kLargestFromHeap = 1 << 25;  // bytes; the most that glibc takes

int report(const std::string& sentence, int status) {
  lowrank::cli::print_message(sentence);
  return status;
}

int report_unwritten_output(const std::error_code& reason) {
  return report(lowrank::error_message("output", "standard output must be writable",
                                       fmt::format("\"{}\"", reason.message())),
                kFailed);
}

/// A closed standard stream would give its number to the next file that is opened, and what is
/// printed would go into that file. Whatever is done with what stands in for it fails.
void occupy_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) >= 0) continue;
    open("/dev/null", (stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  }
}

constexpr const char* kNoMemory =
    "[memory] the work must fit into memory. Got an allocation that failed.";

/// LibTorch has no type of its own for an allocation that failed.
bool is_of_memory(const std::string& line) {
  return line.find("can't allocate memory") != std::string::npos ||
         line.find("Storage size calculation overflowed") != std::string::npos;
}

/// LibTorch's messages carry a stack trace below their first line; users get that line.
std::string first_line(const char* message) {
  const std::string text = message;
  return text.substr(0, text.find('\n'));
}

void add_commands(const lowrank::cli::Flags& flags) {
  flags.require_command();
  lowrank::cli::add_mnist(flags);
  lowrank::cli::add_train(flags);
  lowrank::cli::add_finetune(flags);
  lowrank::cli::add_eval(flags);
  lowrank::cli::add_predict(flags);
  lowrank::cli::add_info(flags);
  lowrank::cli::add_targets(flags);
  lowrank::cli::add_svd(flags);
  lowrank::cli::add_data(flags);
  lowrank::cli::add_doctor(flags);
}

}  // namespace

int main(int argc, char** argv) {
  // Each training step frees gradients of several megabytes. glibc would give the pages back to the
  // system and take thousands of page faults to get them again.
  mallopt(M_MMAP_THRESHOLD, kLargestFromHeap);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  occupy_closed_streams();
  try {
    lowrank::cli::run_command_line(
        argc, argv, "Low-rank adaptation (LoRA) and low-rank factorization (SVD).",
        fmt::format("lowrank {} (LibTorch {})", lowrank::version(), lowrank::libtorch_version()),
        add_commands);
    // Short output lies in the buffer until here; longer output throws a system_error before.
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
    return report_unwritten_output(std::error_code(errno, std::generic_category()));
  } catch (const lowrank::ArgumentError& error) {
    return report(error.what(), kWrongArguments);
  } catch (const lowrank::Error& error) {
    return report(error.what(), kFailed);
  } catch (const c10::Error& error) {
    const auto line = first_line(error.what_without_backtrace());
    return report(is_of_memory(line) ? kNoMemory : line, kFailed);
  } catch (const std::bad_alloc&) {
    return report(kNoMemory, kFailed);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(lowrank::error_message(
                      "file", fmt::format("\"{}\" must be readable", error.path1().string()),
                      fmt::format("\"{}\"", error.code().message())),
                  kFailed);
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0) return report_unwritten_output(error.code());
    return report(first_line(error.what()), kFailed);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), kFailed);
  }
}
