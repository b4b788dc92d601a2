#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/mapped_files.h>
#include <lowrank/version.h>
#include <malloc.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <system_error>

#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/documents/write_documents.h"
#include "cli/launcher/standard_streams.h"

namespace {

using lowrank::cli::kFailed;
using lowrank::cli::kWrongArguments;
using lowrank::cli::report;

/// Prints the command line as a C++ literal, which the launcher includes; see launcher/launcher.cc.
constexpr std::string_view kDescribe = "--describe-command-line";
/// Writes manual pages and completions below the folder that follows, for the build.
constexpr std::string_view kWriteDocuments = "--write-documents";
constexpr int kLargestFromHeap = 1 << 25;  // bytes; the largest threshold that glibc accepts

constexpr const char* kNoMemory =
    "[memory] the work must fit into memory. Got an allocation that failed.";

/// Returns whether a message is about a failed allocation: LibTorch has no exception type for it.
bool is_of_memory(const std::string& line) {
  return line.find("can't allocate memory") != std::string::npos ||
         line.find("Storage size calculation overflowed") != std::string::npos;
}

/// LibTorch's messages have a stack trace below their first line, which users need not see.
std::string first_line(const char* message) {
  const std::string text = message;
  return text.substr(0, text.find('\n'));
}

int answer(int argc, char** argv) {
  lowrank::cli::occupy_closed_streams();
  const lowrank::cli::CommandLine command_line = {
      "Low-rank adaptation (LoRA) and low-rank factorization (SVD).",
      fmt::format("lowrank {} (LibTorch {})", lowrank::version(), lowrank::libtorch_version()),
      lowrank::cli::add_commands};
  try {
    if (argc == 2 && std::string_view(argv[1]) == kDescribe) {
      fmt::print("R\"json({})json\"\n", lowrank::cli::describe(command_line));
    } else if (argc == 3 && std::string_view(argv[1]) == kWriteDocuments) {
      lowrank::cli::write_documents(lowrank::cli::describe(command_line), argv[2]);
    } else {
      lowrank::cli::run(command_line, argc, argv);
    }
    // Short output is still in the buffer here. Longer output that could not be written has thrown
    // a system_error before.
    return lowrank::cli::finish_output();
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
    if (std::ferror(stdout) != 0) return lowrank::cli::report_unwritten_output(error.code());
    return report(first_line(error.what()), kFailed);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), kFailed);
  }
}

void write_to_stderr(const char* text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

/// A mapped file was cut short by another process. Only async-signal-safe calls are possible here.
void report_short_file(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const char* name = lowrank::mapped_file_at(info->si_addr);
  write_to_stderr("lowrank: [file] a file must not change while it is read. Got ");
  write_to_stderr(name == nullptr ? "one" : name);
  write_to_stderr(", which was cut short meanwhile. Try again once it is complete.\n");
  std::_Exit(kFailed);
}

void install_signal_handlers() {
  // Without its default action, writing beyond the limit on file sizes is an error like a full
  // disk.
  std::signal(SIGXFSZ, SIG_IGN);
  struct sigaction on_short_file = {};
  on_short_file.sa_sigaction = report_short_file;
  on_short_file.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &on_short_file, nullptr);
}

/// Ends the process without LibTorch's own shutdown, which takes a tenth of a second and does
/// nothing that the system would not do. Sanitizers need it: they look for leaks afterwards.
[[noreturn]] void leave(int status) {
#ifdef LOWRANK_SANITIZE
  std::exit(status);
#else
  std::fflush(nullptr);
  std::_Exit(status);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  install_signal_handlers();
  if (argc > 0) lowrank::app::set_program_name(argv[0]);
  // Each training step frees gradients of several megabytes. glibc would give the pages back to the
  // system and take thousands of page faults to get them again.
  mallopt(M_MMAP_THRESHOLD, kLargestFromHeap);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  leave(answer(argc, argv));
}
