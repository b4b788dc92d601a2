#include "cli/flags/flags.h"

#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <type_traits>
#include <utility>

#include "cli/flags/described_flags.h"
#include "cli/flags/help_text.h"

namespace lowrank::cli {
namespace {

/// Says, for messages, what a number of type T must be.
template <class T>
std::string range_of(bool too_large) {
  if constexpr (std::is_floating_point_v<T>) return "a number in the range of a double";
  using Limits = std::numeric_limits<T>;
  if (too_large) return fmt::format("a whole number from {} to {}", Limits::min(), Limits::max());
  return std::is_unsigned_v<T> ? "a whole number of at least 0" : "a whole number";
}

/// Returns the whole text as a number in base ten. CLI11 would replace a number that is too large
/// by the largest one, and read an empty text as zero.
template <class T>
T number_from(const CLI::App& app, const std::string& name, const std::string& text) {
  T value{};
  const auto* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end) return value;
  fail<ArgumentError>(
      app.get_name(),
      fmt::format("{} must be {}", name, range_of<T>(error == std::errc::result_out_of_range)),
      fmt::format("\"{}\"", text));
}

void require_text(const CLI::App& app, const std::string& name, const std::string& text) {
  if (text.empty()) fail<ArgumentError>(app.get_name(), name + " must not be empty", "\"\"");
}

std::string without_blanks_around(const std::string& text) {
  const auto begin = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
  return begin == std::string::npos ? std::string() : text.substr(begin, end + 1 - begin);
}

/// Returns the entries of "a,b" or "a, b".
std::vector<std::string> split(const CLI::App& app, const std::string& name,
                               const std::string& list) {
  std::vector<std::string> entries;
  for (size_t begin = 0; begin <= list.size();) {
    const auto end = std::min(list.find(',', begin), list.size());
    entries.push_back(without_blanks_around(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  if (std::find(entries.begin(), entries.end(), "") == entries.end()) return entries;
  fail<ArgumentError>(app.get_name(), fmt::format("no entry of {} may be empty", name),
                      fmt::format("\"{}\"", list));
}

/// Returns the text itself, or the number that it stands for.
template <class T>
T value_from(const CLI::App& app, const std::string& name, const std::string& text) {
  if constexpr (std::is_arithmetic_v<T>) {
    return number_from<T>(app, name, text);
  } else {
    require_text(app, name, text);
    return text;
  }
}

/// Adds an option whose text is parsed here: CLI11 would read 010 as 8.
template <class T, class Holder>
CLI::Option* add_read(CLI::App& app, const std::string& name, Holder& value,
                      const std::string& text) {
  const auto take = [&app, &value, name](const std::string& given) {
    value = value_from<T>(app, name, given);
  };
  return app.add_option_function<std::string>(name, take, text)
      ->type_name(CLI::detail::type_name<T>());
}

template <class T>
CLI::Option* add(CLI::App& app, const std::string& name, T& value, const std::string& text) {
  auto* option = add_read<T>(app, name, value, text)->default_function([&value] {
    return fmt::format("{}", value);
  });
  if constexpr (std::is_arithmetic_v<T>) option->capture_default_str();
  return option;
}

template <class T>
CLI::Option* add(CLI::App& app, const std::string& name, std::optional<T>& value,
                 const std::string& text) {
  return add_read<T>(app, name, value, text);
}

template <class T>
CLI::Option* add(CLI::App& app, const std::string& name, std::vector<T>& value,
                 const std::string& text) {
  const auto take = [&app, &value, name](const std::string& given) {
    value.clear();
    for (const auto& entry : split(app, name, given)) {
      value.push_back(number_from<T>(app, "each of " + name, entry));
    }
  };
  return app.add_option_function<std::string>(name, take, text)->type_name("INT,...");
}

CLI::Option* add(CLI::App& app, const std::string& name, std::vector<std::string>& value,
                 const std::string& text) {
  const auto take = [&app, &value, name](const std::vector<std::string>& given) {
    for (const auto& entry : given) require_text(app, "each of " + name, entry);
    value = given;
  };
  return app.add_option_function<std::vector<std::string>>(name, take, text);
}

/// Returns the command that the arguments name, as far as they could be parsed.
const CLI::App& named_command(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : named_command(*commands.front());
}

std::string path_of(const CLI::App& app) {
  const auto* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : path_of(*parent) + " " + app.get_name();
}

/// Other tools' names for our flags.
constexpr std::array<std::pair<std::string_view, const char*>, 14> kOtherNames = {{
    {"--r", "--rank"},
    {"-r", "--rank"},
    {"--lora-r", "--rank"},
    {"--lora-rank", "--rank"},
    {"--lora-alpha", "--alpha"},
    {"--learning-rate", "--lr"},
    {"--output", "--out"},
    {"--output-dir", "--out"},
    {"-o", "--out"},
    {"--batch", "--batch-size"},
    {"--digit", "--only"},
    {"--dataset", "--data"},
    {"--init-lora-weights", "--init"},
    {"-v", "--version"},
}};

/// Returns "Did you mean ...? " for the flag or command nearest to `word`.
std::string nearest(const CLI::App& command, const std::string& word) {
  std::vector<std::string> known;
  for (const auto* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (const auto* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
    known.push_back(sub->get_name());
  }
  auto asked = word.substr(0, word.find('='));
  std::replace(asked.begin(), asked.end(), '_', '-');
  for (const auto& [name, own] : kOtherNames) {
    const bool known_here = std::find(known.begin(), known.end(), own) != known.end();
    if (asked == name && known_here) return fmt::format("Did you mean \"{}\"? ", own);
  }
  std::erase(known, word);  // the word itself is known, but wrong in this place
  const auto meant = did_you_mean(word, known);
  return meant.empty() ? meant : meant + " ";
}

/// Turns CLI11's complaint into a sentence, with the word that is not a command or flag.
std::string complaint(const CLI::App& app, const CLI::ParseError& error) {
  std::string what = error.what();
  while (!what.empty() && (what.back() == '\n' || what.back() == '.')) what.pop_back();
  const auto words = app.remaining(/*recurse=*/true);
  if (const auto at = what.find(": 1 required "); at != std::string::npos) {  // "... DIR missing"
    what = what.substr(0, at) + " must be followed by a value";
  }
  if (const auto at = what.find(": At Most 1 required"); at != std::string::npos) {
    what = what.substr(0, at) + " may be given once";
  }
  if (words.empty()) return what + ". ";
  const auto& command = named_command(app);
  const auto flag = std::find_if(words.begin(), words.end(),
                                 [](const auto& word) { return word.starts_with("-"); });
  const auto& unknown = flag == words.end() ? words.front() : *flag;
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError)) {
    what = fmt::format("\"{}\" is not a {}flag of \"{}\"", words.front(),
                       command.get_require_subcommand_min() > 0 ? "command or " : "",
                       path_of(command));
  }
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError)) {
    what = fmt::format("\"{}\" is {} \"{}\"", unknown,
                       flag == words.end() ? "one argument too many for" : "not a flag of",
                       path_of(command));
  }
  return fmt::format("{}. {}", what, nearest(command, unknown));
}

[[noreturn]] void refuse(const CLI::App& app, const CLI::ParseError& error) {
  throw ArgumentError(fmt::format("{}Run \"{} --help\" to see what it takes.",
                                  complaint(app, error), path_of(named_command(app))));
}

/// Returns the command below `app` of this name, or null.
const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  const auto commands =
      app.get_subcommands([&](const CLI::App* sub) { return sub->check_name(name); });
  return commands.empty() ? nullptr : commands.front();
}

/// Turns "lowrank" and "lowrank help svd" into "lowrank --help" and "lowrank svd --help".
std::vector<std::string> arguments_of(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + std::max(argc, 1));
  if (arguments.empty()) return {"--help"};
  if (arguments.front() != "help") return arguments;
  arguments.erase(arguments.begin());
  const auto* command = &app;
  for (const auto& word : arguments) {
    const auto* next = find_command(*command, word);
    if (next == nullptr) {
      throw ArgumentError(
          fmt::format("\"{}\" is not a command of \"{}\". {}Run \"{} --help\" to see "
                      "what there is.",
                      word, path_of(*command), nearest(*command, word), path_of(*command)));
    }
    command = next;
  }
  arguments.emplace_back("--help");
  return arguments;
}

/// Returns false if --help or --version was given, and has been printed.
bool parse(CLI::App& app, int argc, char** argv) {
  try {
    auto arguments = arguments_of(app, argc, argv);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes the last one first
    app.parse(std::move(arguments));
  } catch (const CLI::Success& done) {
    app.exit(done);
    return false;
  } catch (const CLI::ParseError& error) {
    refuse(app, error);
  }
  return true;
}

}  // namespace

Flag& Flag::type_name(const std::string& name) {
  option_->type_name(name);
  return *this;
}

Flag& Flag::description(const std::string& text) {
  option_->description(text);
  return *this;
}

Flag& Flag::shows_default() {
  option_->capture_default_str();
  return *this;
}

Flag& Flag::default_text(const std::string& text) {
  option_->default_str(text);
  return *this;
}

Flag& Flag::required() {
  option_->required();
  return *this;
}

Flag& Flag::excludes(const Flag& other) {
  option_->excludes(other.option_);
  return *this;
}

std::string Flags::group() const { return heading_.empty() ? "Options" : heading_; }

Flags Flags::under(const std::string& heading) const {
  auto flags = *this;
  flags.heading_ = heading;
  return flags;
}

Flag Flags::option(const std::string& name, FlagValue value, const std::string& text) const {
  auto* option = std::visit([&](auto* v) { return add(*app_, name, *v, text); }, value);
  return Flag(*option->group(group()));
}

Flag Flags::option(const std::string& name, const std::function<void(const std::string&)>& take,
                   const std::string& text) const {
  const auto take_text = [app = app_, name, take](const std::string& given) {
    require_text(*app, name, given);
    take(given);
  };
  auto* option = app_->add_option_function<std::string>(name, take_text, text);
  return Flag(*option->group(group()));
}

Flag Flags::names(const std::string& name,
                  const std::function<void(const std::vector<std::string>&)>& take,
                  const std::string& text) const {
  const auto take_list = [app = app_, name, take](const std::string& list) {
    take(split(*app, name, list));
  };
  auto* option = app_->add_option_function<std::string>(name, take_list, text);
  return Flag(*option->type_name("NAME,...")->group(group()));
}

Flag Flags::flag(const std::string& name, bool& value, const std::string& text) const {
  return Flag(*app_->add_flag(name, value, text)->group(group()));
}

Flags Flags::command(const std::string& name, const std::string& text) const {
  auto* command = app_->add_subcommand(name, text);
  if (!heading_.empty()) command->group(heading_);
  return Flags(*command);
}

void Flags::require_command() const { app_->require_subcommand(1); }

void Flags::footer(const std::string& text) const { app_->footer(text); }

void Flags::action(std::function<void()> run) const { app_->callback(std::move(run)); }

bool Flags::has(const std::string& name) const {
  return !name.empty() && app_->get_option_no_throw(name) != nullptr;
}

bool Flags::given(const std::string& name) const { return has(name) && app_->count(name) > 0; }

Flag Flags::find(const std::string& name) const { return Flag(*app_->get_option(name)); }

void run(const CommandLine& line, int argc, char** argv) {
  CLI::App app(line.text, "lowrank");
  app.formatter(help_formatter());
  app.set_version_flag("--version", line.version);
  line.add(Flags(app));
  parse(app, argc, argv);
}

std::string describe(const CommandLine& line) {
  CLI::App app(line.text, "lowrank");
  line.add(Flags(app));
  auto description = describe_app(app);
  description["version"] = line.version;
  return description.dump();
}

bool check_described(const std::string& description, int argc, char** argv) {
  const auto described = nlohmann::ordered_json::parse(description);
  CLI::App app("", "lowrank");
  app.formatter(help_formatter());
  app.set_version_flag("--version", described.at("version").get<std::string>());
  add_described(described, app);
  return parse(app, argc, argv);
}

}  // namespace lowrank::cli
