#include <dlfcn.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/machine/openblas.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>

#include "cli/flags/flags.h"
#include "cli/launcher/standard_streams.h"

// The `lowrank` that users call. LibTorch takes half a second to load, and nobody should wait that
// long to read a --help. So this program includes a description of the command line, which
// lowrank-program printed during the build. It answers what needs no more than that (--help,
// --version, wrong arguments), and runs lowrank-program for everything else.

namespace {

namespace fs = std::filesystem;

constexpr const char* kDescription =
#include "command_line.inc"
    ;

/// Returns the path of lowrank-program: beside this program in a build folder, else where it is
/// installed.
fs::path program() {
  const auto here = fs::read_symlink("/proc/self/exe").parent_path();
  const auto beside = here / "lowrank-program";
  return fs::exists(beside) ? beside : here / LOWRANK_PROGRAM_FROM_BIN;
}

/// Below this limit on the address space, LibTorch crashes while it is loaded.
void require_address_space() {
  constexpr rlim_t kMegabyte = 1'000'000, kLeast = 950 * kMegabyte;
  rlimit limit = {};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur >= kLeast) return;
  lowrank::fail<lowrank::Error>(
      "memory",
      fmt::format(
          "the limit on the address space must be at least {} MB to load LibTorch, and more "
          "for the work",
          kLeast / kMegabyte),
      fmt::format("{} MB", limit.rlim_cur / kMegabyte), "Raise it (ulimit -v).");
}

/// OpenBLAS chooses its kernels while it is loaded, and may take a new processor for an old one
/// without AVX. So it is loaded here once before, which takes two milliseconds, and told better.
void choose_openblas_kernels() {
  constexpr const char* kChoice = "OPENBLAS_CORETYPE";
  if (std::getenv(kChoice) != nullptr) return;
  void* const blas = dlopen("libblas.so.3", RTLD_LAZY | RTLD_LOCAL);
  if (blas == nullptr) return;
  const auto better = lowrank::openblas_kernels(blas).better;
  if (!better.empty()) setenv(kChoice, better.c_str(), /*overwrite=*/1);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace lowrank;
  cli::occupy_closed_streams();
  try {
    if (!cli::check_described(kDescription, argc, argv)) return cli::finish_output();
    // Threads that wait for work sleep instead of spinning. OpenMP reads this when it is loaded.
    setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
    require_address_space();
    choose_openblas_kernels();
    const auto file = program();
    execv(file.c_str(), argv);
    return cli::report(
        error_message("lowrank",
                      fmt::format("\"{}\" must be a program that can be run", file.string()),
                      fmt::format("\"{}\"", std::generic_category().message(errno)),
                      "Install lowrank again."),
        cli::kFailed);
  } catch (const ArgumentError& error) {
    return cli::report(error.what(), cli::kWrongArguments);
  } catch (const std::exception& error) {
    return cli::report(error.what(), cli::kFailed);
  }
}
