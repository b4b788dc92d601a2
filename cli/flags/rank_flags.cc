#include "cli/flags/rank_flags.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <limits>
#include <vector>

namespace lowrank::cli {
namespace {

/// Returns the rules whose flags were given, each with its name. `rank` makes that of --rank.
std::vector<NamedRule> given_rules(const RankOptions& options, RankRule (*rank)(int64_t)) {
  std::vector<NamedRule> rules;
  const auto add = [&](const char* flag, const auto& value, const auto& make) {
    if (value) rules.push_back({make(*value), fmt::format("{} {}", flag, *value)});
  };
  add("--rank", options.rank, rank);
  add("--energy", options.energy, &RankRule::energy);
  add("--max-error", options.max_error, &RankRule::max_error);
  add("--tolerance", options.tolerance, &RankRule::tolerance);
  add("--sv-ratio", options.sv_ratio, &RankRule::sv_ratio);
  add("--sv-cumulative", options.sv_cumulative, &RankRule::sv_cumulative);
  add("--sv-fro", options.sv_fro, &RankRule::sv_fro);
  add("--noise-sigma", options.noise_sigma, [](double sigma) { return RankRule::noise(sigma); });
  if (options.noise && !options.noise_sigma) rules.push_back({RankRule::noise(), "--noise"});
  if (options.budget) {
    rules.push_back(
        {RankRule::numerical(), fmt::format("--budget {}", *options.budget), options.budget});
  }
  return rules;
}

NamedRule limited(NamedRule rule, const RankOptions& options) {
  if (!options.min_rank && !options.max_rank) return rule;
  rule.rule = rule.rule.within(options.min_rank.value_or(1),
                               options.max_rank.value_or(std::numeric_limits<int64_t>::max()));
  if (options.min_rank) rule.name += fmt::format(" --min-rank {}", *options.min_rank);
  if (options.max_rank) rule.name += fmt::format(" --max-rank {}", *options.max_rank);
  return rule;
}

/// Returns the one rule that was given; nothing for none.
std::optional<NamedRule> only_rule(const std::vector<NamedRule>& rules,
                                   const std::string& command) {
  if (rules.size() > 1) {
    fail<ArgumentError>(command, "at most one rule for the rank may be given",
                        fmt::format("{} and {}", rules[0].name, rules[1].name));
  }
  return rules.empty() ? std::nullopt : std::optional(rules[0]);
}

}  // namespace

void add_rank_flags(const Flags& flags, RankOptions& options, NoiseFlags noise) {
  flags.option("--rank", &options.rank, "Use this rank");
  flags.option("--energy", &options.energy, "Smallest rank that retains this share of sum s^2");
  flags.option("--max-error", &options.max_error,
               "Smallest rank whose relative Frobenius error is at most this");
  flags.option("--tolerance", &options.tolerance, "Number of singular values above this value");
  flags.option("--sv-ratio", &options.sv_ratio,
               "As kohya's resize: values above s1 divided by this");
  flags.option("--sv-cumulative", &options.sv_cumulative, "As kohya's resize: share of sum s");
  flags.option("--sv-fro", &options.sv_fro, "As kohya's resize: share of the Frobenius norm");
  if (noise == NoiseFlags::kOffered) {
    flags.flag("--noise", options.noise, "Number of singular values above those of white noise");
    flags.option("--noise-sigma", &options.noise_sigma,
                 "The same, for noise of this standard deviation");
  }
  flags.option("--min-rank", &options.min_rank, "At least this rank, beside another rule");
  flags.option("--max-rank", &options.max_rank, "At most this rank, beside another rule");
}

void add_factor_flags(const Flags& flags, RankOptions& options) {
  flags.option("--budget", &options.budget,
               "Parameters of all layers together, put where they keep the most energy");
  flags
      .option("--split", &options.split,
              "Factor that holds the singular values: b, a, or balanced for both alike")
      .type_name("NAME")
      .shows_default();
}

SplitScale split_of(const RankOptions& options, const std::string& command) {
  if (options.split == "balanced") return SplitScale::kBalanced;
  if (options.split == "b") return SplitScale::kB;
  if (options.split == "a") return SplitScale::kA;
  fail<ArgumentError>(command, "--split must be balanced, b or a",
                      fmt::format("\"{}\"", options.split),
                      did_you_mean(options.split, {"balanced", "b", "a"}));
}

NamedRule rule_of(const RankOptions& options, const std::string& command) {
  const auto rule = only_rule(given_rules(options, &RankRule::number), command);
  return limited(rule.value_or(NamedRule{RankRule::numerical(), "numerical rank"}), options);
}

NamedRule rule_for_layers(const RankOptions& options, const std::string& command) {
  const auto rule = only_rule(given_rules(options, &RankRule::at_most), command);
  if (!rule) {
    fail<ArgumentError>(command, "a rule for the rank must be given", "none",
                        "Pass --rank N, or one of the others that --help lists.");
  }
  return limited(*rule, options);
}

}  // namespace lowrank::cli
