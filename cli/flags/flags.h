#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

/// The command line. Only flags.cc includes CLI11: its header costs a file 5 s, each typed option
/// some more.
namespace lowrank::cli {

/// One flag or positional argument, as --help shows it and as it is checked.
class Flag {
 public:
  explicit Flag(CLI::Option& option) : option_(&option) {}

  Flag& type_name(const std::string& name);
  Flag& description(const std::string& text);
  Flag& shows_default();  ///< the value it has now
  Flag& default_text(const std::string& text);
  Flag& required();
  Flag& excludes(const Flag& other);

 private:
  CLI::Option* option_;
};

/// Where the value of an option goes. A list is given as one word, its entries parted by commas.
using FlagValue =
    std::variant<std::string*, int*, int64_t*, uint64_t*, double*, std::optional<std::string>*,
                 std::optional<int64_t>*, std::optional<double>*, std::vector<int64_t>*>;

/// The flags of one command. A handle: copies speak of the same command. What a value goes to, and
/// what a function captures, must live until the command has run.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(&app) {}

  /// The same command; what is added through it is listed under this heading.
  Flags under(const std::string& heading) const;

  /// An option "--name", or a positional argument "name".
  Flag option(const std::string& name, FlagValue value, const std::string& text) const;
  Flag option(const std::string& name, const std::function<void(const std::string&)>& take,
              const std::string& text) const;
  /// Names in one word, parted by commas.
  Flag names(const std::string& name,
             const std::function<void(const std::vector<std::string>&)>& take,
             const std::string& text) const;
  /// A flag without a value, which sets `value`.
  Flag flag(const std::string& name, bool& value, const std::string& text) const;

  Flags command(const std::string& name, const std::string& text) const;
  void require_command() const;
  void footer(const std::string& text) const;
  void action(std::function<void()> run) const;

  /// Whether the flag stands on the command line.
  bool given(const std::string& name) const;
  Flag find(const std::string& name) const;

 private:
  CLI::App* app_;
  std::string heading_ = "Options";
};

/// All of a command line: a line about the program, what --version prints, and what adds the flags.
struct CommandLine {
  std::string text;
  std::string version;
  std::function<void(const Flags&)> add;
};

/// Parses the arguments and runs the action of the command that was named. Throws ArgumentError for
/// a wrong line; prints what --help and --version ask for.
void run(const CommandLine& line, int argc, char** argv);

/// The command line without its actions, as JSON.
std::string describe(const CommandLine& line);

/// What run() does as far as the description says it: true where a right line is left to be run.
/// Values are not read.
bool check_described(const std::string& description, int argc, char** argv);

}  // namespace lowrank::cli
