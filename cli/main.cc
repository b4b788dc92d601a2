#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/version.h>
#include <malloc.h>

#include <cstdio>
#include <limits>
#include <new>
#include <string>

#include "commands.h"

namespace {

constexpr int kFailed = 1;
constexpr int kWrongArguments = 2;
constexpr int kLargestFromHeap = 1 << 25;  // bytes; the most that glibc takes

int report(const std::string& sentence, int status) {
  fmt::print(stderr, "lowrank: {}\n", sentence);
  return status;
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
}

}  // namespace

int main(int argc, char** argv) {
  // Each training step frees gradients of several megabytes. glibc would give the pages back to the
  // system and take thousands of page faults to get them again.
  mallopt(M_MMAP_THRESHOLD, kLargestFromHeap);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  try {
    lowrank::cli::run_command_line(
        argc, argv, "Low-rank adaptation (LoRA) and low-rank factorization (SVD).",
        fmt::format("lowrank {} (LibTorch {})", lowrank::version(), lowrank::libtorch_version()),
        add_commands);
    return 0;
  } catch (const lowrank::ArgumentError& error) {
    return report(error.what(), kWrongArguments);
  } catch (const lowrank::Error& error) {
    return report(error.what(), kFailed);
  } catch (const c10::Error& error) {
    return report(first_line(error.what_without_backtrace()), kFailed);
  } catch (const std::bad_alloc&) {
    return report("[memory] the work must fit into memory. Got an allocation that failed.",
                  kFailed);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), kFailed);
  }
}
