#include "cli/flags/lora_flags.h"

#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "cli/flags/flag_names.h"

namespace lowrank::cli {
namespace {

using Names = std::vector<std::string>;

/// Parses "query=16,value=4". A key may be a regular expression that contains commas and =, so an
/// entry ends only after an = that is followed by a number.
std::vector<std::pair<std::string, double>> parse_pattern(const std::string& flag,
                                                          const std::string& text) {
  std::vector<std::pair<std::string, double>> entries;
  size_t start = 0;
  for (size_t equals = text.find('='); equals != std::string::npos;
       equals = text.find('=', equals + 1)) {
    double value = 0;
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + equals + 1, end, value);
    if (error != std::errc() || (stop != end && *stop != ',')) continue;
    entries.emplace_back(text.substr(start, equals - start), value);
    start = static_cast<size_t>(stop - text.data()) + 1;
    equals = start - 1;
  }
  if (start != text.size() + 1) {
    fail<ArgumentError>("arguments", flag + " must be NAME=NUMBER,...",
                        fmt::format("\"{}\"", text));
  }
  return entries;
}

std::vector<std::pair<std::string, int64_t>> parse_ranks(const std::string& flag,
                                                         const std::string& text) {
  std::vector<std::pair<std::string, int64_t>> ranks;
  for (const auto& [key, value] : parse_pattern(flag, text)) {
    if (value != std::floor(value) || std::abs(value) > 1e9) {
      fail<ArgumentError>("arguments", fmt::format("the ranks in {} must be whole numbers", flag),
                          fmt::format("{}", value));
    }
    ranks.emplace_back(key, static_cast<int64_t>(value));
  }
  return ranks;
}

/// Adds the flag of one field, by the type of its member.
class FlagAdder {
 public:
  FlagAdder(const Flags& flags, const ConfigField& field, LoraConfig& config)
      : flags_(flags), field_(field), config_(config) {}

  void operator()(int64_t LoraConfig::*member) const { number(config_.*member); }
  void operator()(double LoraConfig::*member) const {
    number(config_.*member);
    // complete_lora() takes it from --rank.
    if (member == &LoraConfig::alpha) flags_.find(field_.flag).default_text("the rank");
  }
  void operator()(bool LoraConfig::*member) const {
    flags_.flag(field_.flag, config_.*member, field_.help);
  }
  void operator()(ModuleSelector LoraConfig::*member) const {
    auto& selector = config_.*member;
    auto names = flags_.names(
        field_.flag, [&selector](const Names& list) { selector = ModuleSelector(list); },
        field_.help);
    if (!selector.names.empty()) names.default_text(selector.names.front());
    flags_
        .option(
            regex_flag(field_.flag),
            [&selector](const std::string& regex) { selector = ModuleSelector::matching(regex); },
            "Or one Python regex that matches whole paths")
        .type_name("REGEX")
        .excludes(names);
  }
  void operator()(std::vector<int64_t> LoraConfig::*member) const {
    flags_.option(field_.flag, &(config_.*member), field_.help).type_name("N,...");
  }
  void operator()(std::vector<std::string> LoraConfig::*member) const {
    auto& names = config_.*member;
    flags_.names(
        field_.flag, [&names](const Names& list) { names = list; }, field_.help);
  }
  void operator()(std::vector<std::pair<std::string, int64_t>> LoraConfig::*member) const {
    auto& ranks = config_.*member;
    text([&ranks, flag = field_.flag](const auto& list) {
      ranks = parse_ranks(flag, list);
    }).type_name("NAME=R,...");
  }
  void operator()(std::vector<std::pair<std::string, double>> LoraConfig::*member) const {
    auto& alphas = config_.*member;
    text([&alphas, flag = field_.flag](const auto& list) {
      alphas = parse_pattern(flag, list);
    }).type_name("NAME=A,...");
  }
  void operator()(BiasMode LoraConfig::*member) const {
    auto& bias = config_.*member;
    text([&bias](const std::string& name) { bias = bias_mode(name); })
        .type_name("NAME")
        .default_text(bias_name(bias));
  }
  void operator()(LoraInit LoraConfig::* /*init*/) const {
    auto& config = config_;
    text([&config](const std::string& name) { set_init(config, name); })
        .type_name("NAME")
        .default_text(init_name(config));
  }
  /// Other fields can only be given in a file, so they have no flag.
  template <class Other>
  void operator()(Other /*member*/) const {}

 private:
  template <class T>
  void number(T& value) const {
    flags_.option(field_.flag, &value, field_.help).shows_default();
  }
  Flag text(const std::function<void(const std::string&)>& take) const {
    return flags_.option(field_.flag, take, field_.help);
  }

  const Flags& flags_;
  const ConfigField& field_;
  LoraConfig& config_;
};

}  // namespace

void complete_lora(const Flags& flags, LoraConfig& config) {
  if (flags.given("--config") || flags.given("--alpha") || !flags.given("--rank")) return;
  config.alpha = static_cast<double>(config.rank);
}

void add_lora_flags(const Flags& flags, LoraConfig& config) {
  const auto lora = flags.under("LoRA");
  // This comes first, because flags take effect in the order in which they are added.
  lora.option(
          "--config",
          [&config](const std::string& file) {
            config = read_lora_config(file);
            require_known_fields(config, file);
          },
          "PEFT adapter_config.json; the flags override it")
      .type_name("FILE");
  for (const auto& field : config_fields()) {
    if (*field.flag != '\0') std::visit(FlagAdder(lora, field, config), field.member);
  }
}

void restore_lora(const Flags& flags, LoraConfig& config, const nlohmann::ordered_json& run,
                  const std::filesystem::path& file) {
  if (flags.given("--config")) return;
  const auto held = lora_config_from_json(run, file);
  for (const auto& field : config_fields()) {
    if (!is_given(flags, field)) copy_field(field, held, config);
  }
  config.extra_json = held.extra_json;
}

void require_no_lora_flags(const Flags& flags, const std::string& why) {
  std::vector<std::string> given;
  if (flags.given("--config")) given.emplace_back("--config");
  for (const auto& field : config_fields()) {
    if (is_given(flags, field)) given.emplace_back(field.flag);
  }
  if (given.empty()) return;
  fail<ArgumentError>("arguments", why, list_names(given), "Omit it.");
}

}  // namespace lowrank::cli
