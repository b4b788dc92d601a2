#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/matrix_file.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/linalg/numerical_rank.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "app/models/weights_file.h"
#include "app/reports/svd_report.h"
#include "app/runs/folder_lock.h"
#include "app/runs/input_protection.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/rank_flags.h"

namespace lowrank::cli {
namespace {

namespace fs = std::filesystem;

struct SvdOptions {
  app::CommonOptions common;
  bool dtype_given = false;  // otherwise a file's matrix keeps its own dtype
  std::string file;          // "-": text on standard input
  std::optional<std::string> tensor;
  std::string random;                // "MxN"
  std::optional<int64_t> true_rank;  // of the random matrix; full if not given
  RankOptions ranks;
  bool balanced = false;
  std::string out;  // folder for factors.safetensors
  bool report = false;
};

constexpr auto kSvdExamples = R"(Examples:
  lowrank svd --random 10x10 --true-rank 2 --seed 0
  lowrank svd weights.npy --energy 0.99 --out factors/
  lowrank svd model.safetensors --tensor linear1.weight --rank 8 --json)";

/// A matrix, and a description of it for people.
struct Source {
  at::Tensor w;
  std::string description;
};

[[noreturn]] void fail_spec(const std::string& spec) {
  fail<ArgumentError>("svd", "--random must be a shape such as 10x10", fmt::format("\"{}\"", spec));
}

std::pair<int64_t, int64_t> shape_of(const std::string& spec) {
  std::pair<int64_t, int64_t> shape = {-1, -1};
  const char* end = spec.data() + spec.size();
  const auto rows = std::from_chars(spec.data(), end, shape.first);
  if (rows.ec != std::errc() || rows.ptr == end || *rows.ptr != 'x') fail_spec(spec);
  const auto columns = std::from_chars(rows.ptr + 1, end, shape.second);
  if (columns.ec != std::errc() || columns.ptr != end) fail_spec(spec);
  if (shape.first < 0 || shape.second < 0) fail_spec(spec);
  return shape;
}

/// Throws E if the work on a matrix would not fit into memory. Otherwise the system's out-of-memory
/// killer would end the process in the middle of it.
template <class E>
void require_memory(int64_t rows, int64_t columns, at::ScalarType dtype) {
  // As measured: W and its copies for LAPACK, U and V, and the float64 residual of the error
  // figures.
  const auto entry = 8.0 * static_cast<double>(c10::elementSize(dtype)) + sizeof(double);
  // A matrix without entries still needs vectors as long as its rows or columns.
  const double needed = entry * static_cast<double>(std::max<int64_t>(rows, 1)) *
                        static_cast<double>(std::max<int64_t>(columns, 1));
  const double memory = app::machine_memory();
  if (needed <= memory) return;
  fail<E>("svd",
          fmt::format("the work must fit into this machine's {:.3g} GB of memory", memory / 1e9),
          fmt::format("a {} x {} matrix, which needs {:.3g} GB", rows, columns, needed / 1e9));
}

Source draw(const SvdOptions& options, const app::Resources& resources) {
  const auto [rows, columns] = shape_of(options.random);
  const int64_t smaller = std::min(rows, columns);
  if (options.true_rank && (*options.true_rank < 0 || *options.true_rank > smaller)) {
    fail<ArgumentError>(
        "svd",
        fmt::format("--true-rank of a {} x {} matrix must be 0 to {}", rows, columns, smaller),
        fmt::format("{}", *options.true_rank));
  }
  require_memory<ArgumentError>(rows, columns, resources.dtype);
  // Always drawn on the CPU: its generator gives PyTorch's numbers on every machine.
  if (!options.true_rank) {
    return {at::randn({rows, columns}, resources.dtype),
            fmt::format("randn({}, {}), seed {}", rows, columns, options.common.seed)};
  }
  const int64_t rank = *options.true_rank;
  const auto left = at::randn({rows, rank}, resources.dtype);
  const auto right = at::randn({rank, columns}, resources.dtype);
  return {left.mm(right), fmt::format("randn({}, {}) @ randn({}, {}), seed {}", rows, rank, rank,
                                      columns, options.common.seed)};
}

/// Whether the file is a model's weights in a form that read_matrix() does not know.
bool is_model(const fs::path& file) {
  return fs::is_directory(file) || file.extension() == ".gguf" || app::is_archive(file);
}

at::Tensor matrix_of(const SvdOptions& options) {
  if (options.file == "-") return read_matrix("/dev/stdin", options.tensor);
  if (!options.tensor || !is_model(options.file)) return read_matrix(options.file, options.tensor);
  const auto weight = app::open_weights(options.file).tensor(*options.tensor);
  return weight.dim() > 2 ? weight.flatten(1) : weight;
}

Source read(const SvdOptions& options, const app::Resources& resources) {
  const bool standard_input = options.file == "-";
  auto w = matrix_of(options);
  // thin_svd() computes whole numbers in float64, and half precision in float32.
  const bool is_single = w.is_floating_point() && w.scalar_type() != at::kDouble;
  const auto own = is_single ? at::kFloat : at::kDouble;
  if (w.dim() == 2) {
    require_memory<TensorError>(w.size(0), w.size(1), options.dtype_given ? resources.dtype : own);
  }
  if (options.dtype_given) w = w.to(resources.dtype);
  const std::string name = standard_input ? "standard input" : options.file;
  return {w, options.tensor ? fmt::format("{} of {}", *options.tensor, name) : name};
}

void check_combination(const SvdOptions& options) {
  if (options.file.empty() == options.random.empty()) {
    fail<ArgumentError>("svd", "one matrix must be given, as FILE or as --random MxN",
                        options.file.empty() ? "neither" : "both");
  }
  if (options.true_rank && options.random.empty()) {
    fail<ArgumentError>("svd", "--true-rank goes with --random", "a file",
                        "Use --rank for the rank of the factors.");
  }
  if (options.tensor && options.file.empty()) {
    fail<ArgumentError>("svd", "--tensor names a tensor of FILE", "no file");
  }
  if (options.report && options.out.empty()) {
    fail<ArgumentError>("svd", "--report writes into the folder of --out", "no --out");
  }
  check_report_flag(options.report, options.out);
}

/// Announces a decomposition that takes long: it is one LAPACK call, which reports no progress.
void announce(const at::Tensor& w, const app::CommonOptions& options) {
  constexpr double kAboutASecond = 2e9;
  if (options.quiet || w.dim() != 2) return;
  const auto smaller = static_cast<double>(std::min(w.size(0), w.size(1)));
  if (static_cast<double>(w.numel()) * smaller < kAboutASecond) return;
  fmt::print(stderr, "Decomposing {} x {} ...\n", w.size(0), w.size(1));
}

app::SvdReport analyze(const SvdOptions& options, const NamedRule& rule,
                       const app::Resources& resources) {
  const auto source = options.random.empty() ? read(options, resources) : draw(options, resources);
  if (source.w.dim() == 2) rule.rule.require_possible(source.w.size(0), source.w.size(1));
  announce(source.w, options.common);
  const auto decomposition = thin_svd(source.w.to(resources.device), source.description);

  app::SvdReport report;
  report.source = source.description;
  report.singular_values = decomposition.s;
  report.w = source.w.to(decomposition.s.options());
  report.numerical_rank =
      RankRule::numerical().choose(decomposition.s, report.w.size(0), report.w.size(1));
  report.rule = rule.name;
  report.balanced = options.balanced;
  report.factors = truncate(decomposition, rule.rule, {.balanced = options.balanced});
  report.error = error_figures(report.w, report.factors.b, report.factors.a);

  // b is drawn before x, as in the SVD notebook (003), so that y comes out as it does there.
  const auto dtype = report.w.scalar_type();
  const auto bias = at::randn({report.w.size(0)}, dtype).to(resources.device);
  const auto x = at::randn({report.w.size(1)}, dtype).to(resources.device);
  report.dense_output = report.w.mv(x) + bias;
  report.factored_output = report.factors.b.mv(report.factors.a.mv(x)) + bias;
  return report;
}

std::filesystem::path factors_in(const std::filesystem::path& folder) {
  return folder / "factors.safetensors";
}

std::string save(const app::SvdReport& report, const std::filesystem::path& folder) {
  const auto path = factors_in(folder);
  write_safetensors(path, {{"lora_A", report.factors.a}, {"lora_B", report.factors.b}},
                    {{"format", "pt"},
                     {"rank", std::to_string(report.factors.rank())},
                     {"balanced", report.balanced ? "true" : "false"}});
  return path.string();
}

void run_svd(const SvdOptions& options) {
  check_combination(options);
  const auto rule = rule_of(options.ranks, "svd");
  const auto resources = app::apply_common_options(options.common);
  if (!options.out.empty()) {
    app::require_not_an_input(factors_in(options.out), {options.file});
    require_writable_output(options.out, options.common.force);
  }
  std::optional<app::FolderLock> lock;
  if (!options.out.empty()) lock.emplace(options.out);
  auto report = analyze(options, rule, resources);
  if (!options.out.empty()) report.saved = save(report, options.out);
  if (options.report) {
    write_file_atomically(fs::path(options.out) / app::kSvdFile,
                          to_text(record_of(report), -1) + "\n");
  }
  if (options.common.json) {
    auto json = to_json(report);
    json["seed"] = options.common.seed;
    json["threads"] = resources.threads;
    fmt::print("{}\n", to_text(json));
  } else {
    app::print_report(report);
  }
  write_report(options.report, options.out, options.common);
}

}  // namespace

void add_svd(const Flags& flags) {
  auto options = std::make_shared<SvdOptions>();
  const auto command = flags.command("svd", "Compute rank, singular values and factors W ≈ BA");
  command.option("FILE", &options->file,
                 "Matrix: .npy, .safetensors or text (blanks, commas, semicolons or tabs), or "
                 "with --tensor any model; - reads text from standard input");
  command.option("--tensor", &options->tensor, "Name of a tensor in the file or model")
      .type_name("NAME");
  command.option("--random", &options->random, "Use a random matrix of this shape instead")
      .type_name("MxN");
  command.option("--true-rank", &options->true_rank, "Rank of the random matrix (default: full)");
  add_rank_flags(command.under("Rank of the factors (default: the numerical rank)"),
                 options->ranks);
  command.flag("--balanced", options->balanced, "Put sqrt(S) into B and A, not all of S into B");
  command.option("--out", &options->out, "Folder for factors.safetensors (lora_A, lora_B)")
      .type_name("DIR");
  add_report_flag(command, options->report);
  add_common_flags(command, options->common);
  command.find("--dtype").description(
      "Data type: float32 or float64 (default: the file's, float32 for --random)");
  command.footer(kSvdExamples);
  command.action([options, command] {
    options->dtype_given = command.given("--dtype");
    run_svd(*options);
  });
}

}  // namespace lowrank::cli
