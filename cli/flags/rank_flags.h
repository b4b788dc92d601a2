#pragma once

#include <lowrank/linalg/rank_rule.h>

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
};

/// A rule, and what it is called on the screen: "--energy 0.9".
struct NamedRule {
  RankRule rule;
  std::string name;
};

/// Adds the flags under a heading.
void add_rank_flags(const Flags& flags, RankOptions& options);

/// Returns the rule of the flag that was given; the numerical rank if none was. Throws
/// ArgumentError if several were given.
NamedRule rule_of(const RankOptions& options, const std::string& command);

/// Does the same for several matrices, of which each may be too small for --rank. Throws
/// ArgumentError if no flag was given.
NamedRule rule_for_layers(const RankOptions& options, const std::string& command);

}  // namespace lowrank::cli
