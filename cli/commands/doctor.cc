#include <ATen/Context.h>
#include <fmt/ranges.h>
#include <lowrank/io/json.h>
#include <lowrank/machine/machine.h>
#include <lowrank/version.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kDoctorExamples = R"(Examples:
  lowrank doctor
  lowrank doctor --threads 1 --json
  LOWRANK_CPU=avx2 lowrank doctor)";

/// Returns the processor's name, from /proc/cpuinfo.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

/// Returns the one command that would speed up this machine; empty if none is known.
std::string remedy(const BlasLibrary& blas) {
  if (!blas.better_kernels.empty()) {
    return fmt::format("export OPENBLAS_CORETYPE={}", blas.better_kernels);
  }
  if (blas.name != "reference BLAS" && !blas.own_threads) return "";
  const auto folder = std::filesystem::path(blas.path).parent_path().parent_path();
  const auto openmp = folder / "openblas-openmp" / "libblas.so.3";
  std::error_code none;
  if (!std::filesystem::exists(openmp, none)) {
    return "sudo apt-get install libopenblas0-openmp";
  }
  return fmt::format("sudo update-alternatives --set libblas.so.3-{} {}",
                     folder.filename().string(), openmp.string());
}

/// Returns whether threads that wait for work sleep, as `lowrank` has it unless the user says
/// otherwise.
bool waiting_threads_sleep() {
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  return policy != nullptr && std::string_view(policy) == "passive";
}

void run_doctor(const app::CommonOptions& options) {
  const auto resources = app::apply_common_options(options);
  const auto blas = blas_library();
  const auto used = instruction_set();
  const auto speed = measure_speed();
  const auto command = remedy(blas);
  const bool gpu = at::hasCUDA();
  if (options.json) {
    Json json;
    json["versions"] = {{"lowrank", version()}, {"libtorch", libtorch_version()}};
    json["processor"] = processor();
    json["cores"] = app::usable_cores();
    json["threads"] = resources.threads;
    json["waiting_threads_sleep"] = waiting_threads_sleep();
    json["instruction_sets"] = instruction_sets();
    json["instruction_set"] = used;
    json["blas"] = {{"name", blas.name},
                    {"path", blas.path},
                    {"own_threads", blas.own_threads},
                    {"kernels", blas.kernels.empty() ? Json(nullptr) : Json(blas.kernels)}};
    json["gflops"] = {{"thin_product", speed.thin_product}, {"large_product", speed.large_product}};
    json["copy_gb_per_second"] = speed.copy;
    json["cuda"] = gpu;
    json["remedy"] = command.empty() ? Json(nullptr) : Json(command);
    fmt::print("{}\n", to_text(json));
    return;
  }
  const auto line = [](const char* name, const std::string& text) {
    app::print_text(fmt::format("{:<18}{}", name, text));
  };
  line("lowrank", fmt::format("{}, LibTorch {}", version(), libtorch_version()));
  line("Processor", fmt::format("{}, {} cores for this process", processor(), app::usable_cores()));
  line("Threads", fmt::format("{}", resources.threads));
  line("Waiting threads", waiting_threads_sleep()
                              ? "sleep (OMP_WAIT_POLICY=passive)"
                              : "spin, which makes everything slower on a busy machine");
  line("Kernels", fmt::format("{} (of {}; set LOWRANK_CPU to choose)", used,
                              fmt::join(instruction_sets(), ", ")));
  const auto of_kernels = blas.kernels.empty() ? "" : fmt::format(", kernels for {}", blas.kernels);
  line("BLAS library",
       fmt::format("{}{}{}, {}", blas.name, blas.own_threads ? " with threads of its own" : "",
                   of_kernels, blas.path));
  line("Products",
       fmt::format("{:.0f} GFLOP/s with 10 rows (lowrank's kernel), {:.0f} with 2048 (BLAS)",
                   speed.thin_product, speed.large_product));
  line("Memory", fmt::format("{:.1f} GB/s read and written", speed.copy));
  line("GPU", gpu ? "CUDA" : "none found by LibTorch");
  line("To speed it up", command.empty() ? "nothing to do" : command);
}

}  // namespace

void add_doctor(const Flags& flags) {
  auto options = std::make_shared<app::CommonOptions>();
  const auto doctor = flags.command("doctor", "Measure this machine and say how to speed it up");
  add_common_flags(doctor, *options, {.seed = false, .force = false});
  doctor.footer(kDoctorExamples);
  doctor.action([options] { run_doctor(*options); });
}

}  // namespace lowrank::cli
