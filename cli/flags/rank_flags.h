#pragma once

#include <lowrank/linalg/rank_rule.h>
#include <lowrank/weights/report.h>

#include <cstdint>
#include <optional>
#include <string>

#include "cli/flags/flags.h"

/// The flags that say how a rank is chosen.
namespace lowrank::cli {

struct RankOptions {
  std::optional<int64_t> rank;
  std::optional<double> energy;
  std::optional<double> tolerance;
  std::optional<double> max_error;
  std::optional<double> sv_ratio, sv_cumulative, sv_fro;
  bool noise = false;
  std::optional<double> noise_sigma;
  std::optional<int64_t> budget;
  std::string split = "balanced";
  std::optional<int64_t> min_rank, max_rank;
};

/// Whether --noise is offered: what is left of an adapter's update is rounding, and no noise.
enum class NoiseFlags { kNone, kOffered };

/// A rule, and what it is called on the screen: "--energy 0.9". With a budget the rule has limits
/// alone.
struct NamedRule {
  RankRule rule;
  std::string name;
  std::optional<int64_t> budget = {};
};

/// Adds the flags under a heading.
void add_rank_flags(const Flags& flags, RankOptions& options,
                    NoiseFlags noise = NoiseFlags::kOffered);

/// Returns the rule of the flag that was given; the numerical rank if none was. Throws
/// ArgumentError if several were given.
NamedRule rule_of(const RankOptions& options, const std::string& command);

/// Does the same for several matrices, of which each may be too small for --rank, and which may
/// share a budget. Throws ArgumentError if no flag was given.
NamedRule rule_for_layers(const RankOptions& options, const std::string& command);

/// Adds --budget, and --split, which says where the singular values of new factors go.
void add_factor_flags(const Flags& flags, RankOptions& options);

/// Returns what --split says. Throws ArgumentError for an unknown word.
SplitScale split_of(const RankOptions& options, const std::string& command);

}  // namespace lowrank::cli
