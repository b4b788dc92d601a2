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

/// The command line. Only this folder's .cc files include CLI11: its header adds 5 s to the
/// compilation of a file, and each typed option adds some more.
namespace lowrank::cli {

/// One flag or positional argument: how --help shows it, and how it is checked.
class Flag {
 public:
  explicit Flag(CLI::Option& option) : option_(&option) {}

  Flag& type_name(const std::string& name);
  Flag& description(const std::string& text);
  Flag& shows_default();  ///< shows the variable's present value
  Flag& default_text(const std::string& text);
  Flag& required();
  Flag& excludes(const Flag& other);

 private:
  CLI::Option* option_;
};

/// The variable that an option sets. A list of numbers is given as one word, with commas between
/// its entries; a list of texts is all positional arguments from this one on.
using FlagValue =
    std::variant<std::string*, int*, int64_t*, uint64_t*, double*, std::optional<std::string>*,
                 std::optional<int64_t>*, std::optional<double>*, std::vector<int64_t>*,
                 std::vector<double>*, std::vector<std::string>*>;

/// The flags of one command. This is a handle: copies refer to the same command. The variables that
/// options set, and what functions capture, must live until the command has run.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(&app) {}

  /// Returns whether the command has this flag.
  bool has(const std::string& name) const;
  /// Returns a handle to the same command; flags and commands added through it are listed under
  /// this heading.
  Flags under(const std::string& heading) const;

  /// Adds an option "--name", or a positional argument "name".
  Flag option(const std::string& name, FlagValue value, const std::string& text) const;
  Flag option(const std::string& name, const std::function<void(const std::string&)>& take,
              const std::string& text) const;
  /// Adds an option that takes names in one word, with commas between them.
  Flag names(const std::string& name,
             const std::function<void(const std::vector<std::string>&)>& take,
             const std::string& text) const;
  /// Adds a flag without a value, which sets `value` to true.
  Flag flag(const std::string& name, bool& value, const std::string& text) const;

  Flags command(const std::string& name, const std::string& text) const;
  void require_command() const;
  void footer(const std::string& text) const;
  void action(std::function<void()> run) const;

  /// Returns whether the flag was given on the command line.
  bool given(const std::string& name) const;
  Flag find(const std::string& name) const;

 private:
  std::string group() const;

  CLI::App* app_;
  std::string heading_ = {};
};

/// A whole command line: one line about the program, what --version prints, and a function that
/// adds the commands and flags.
struct CommandLine {
  std::string text;
  std::string version;
  std::function<void(const Flags&)> add;
};

/// Parses the arguments and runs the action of the command that they name, or prints what --help
/// and --version ask for. Throws ArgumentError for wrong arguments.
void run(const CommandLine& line, int argc, char** argv);

/// Returns the command line without its actions, as JSON.
std::string describe(const CommandLine& line);

/// Does as much of run() as the description allows. Returns true if the arguments are right and the
/// command is still to be run. Values are not checked.
bool check_described(const std::string& description, int argc, char** argv);

}  // namespace lowrank::cli
