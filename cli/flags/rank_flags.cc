#include "cli/flags/rank_flags.h"

#include <fmt/format.h>
#include <lowrank/error.h>

namespace lowrank::cli {
namespace {

constexpr const char* kFlags = "--rank, --energy, --max-error and --tolerance";

int count_of(const RankOptions& options) {
  return (options.rank ? 1 : 0) + (options.energy ? 1 : 0) + (options.tolerance ? 1 : 0) +
         (options.max_error ? 1 : 0);
}

}  // namespace

void add_rank_flags(const Flags& flags, RankOptions& options) {
  flags.option("--rank", &options.rank, "Use this rank");
  flags.option("--energy", &options.energy, "Smallest rank that retains this share of sum s^2");
  flags.option("--max-error", &options.max_error,
               "Smallest rank whose relative Frobenius error is at most this");
  flags.option("--tolerance", &options.tolerance, "Number of singular values above this value");
}

NamedRule rule_of(const RankOptions& options, const std::string& command) {
  if (const int count = count_of(options); count > 1) {
    fail<ArgumentError>(command, fmt::format("at most one of {} may be given", kFlags),
                        fmt::format("{}", count));
  }
  if (options.rank) {
    return {RankRule::number(*options.rank), fmt::format("--rank {}", *options.rank)};
  }
  if (options.energy) {
    return {RankRule::energy(*options.energy), fmt::format("--energy {}", *options.energy)};
  }
  if (options.max_error) {
    return {RankRule::max_error(*options.max_error),
            fmt::format("--max-error {}", *options.max_error)};
  }
  if (options.tolerance) {
    return {RankRule::tolerance(*options.tolerance),
            fmt::format("--tolerance {}", *options.tolerance)};
  }
  return {RankRule::numerical(), "numerical rank"};
}

NamedRule rule_for_layers(const RankOptions& options, const std::string& command) {
  if (count_of(options) == 0) {
    fail<ArgumentError>(command, fmt::format("one of {} must be given", kFlags), "none");
  }
  auto named = rule_of(options, command);
  if (options.rank) named.rule = RankRule::at_most(*options.rank);
  return named;
}

}  // namespace lowrank::cli
