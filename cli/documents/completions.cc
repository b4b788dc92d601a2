#include "cli/documents/completions.h"

#include <fmt/format.h>

#include <functional>
#include <vector>

namespace lowrank::cli {
namespace {

using Visit = std::function<void(const DescribedCommand&)>;

void visit_all(const DescribedCommand& command, const Visit& visit) {
  visit(command);
  for (const auto& below : command.commands) visit_all(below, visit);
}

/// The commands and flags of a command, with blanks between them.
std::string words_of(const DescribedCommand& command) {
  std::string words;
  for (const auto& below : command.commands) words += below.name() + " ";
  for (const auto& option : command.options) {
    for (const auto& name : option.names) {
      if (!option.is_positional) words += name + " ";
    }
  }
  return words + "--help";
}

/// A text between single quotes, as POSIX shells and fish take it.
std::string quoted(const std::string& text, const char* quote) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') {
      result += quote;
    } else {
      result += c;
    }
  }
  return result + "'";
}

bool takes_file(const DescribedOption& option) {
  for (const char* word : {"DIR", "FILE", "BASE", "ADAPTER", "TUNED", "MODEL", "PLACE"}) {
    if (option.type.find(word) != std::string::npos) return true;
  }
  return option.is_positional;
}

/// A text as a part of zsh's specification of an argument, where [ ] and : mean something.
std::string for_zsh(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

std::string zsh_function(const DescribedCommand& command) {
  auto name = "_" + command.path;
  for (auto& c : name) {
    if (c == ' ') c = '_';
  }
  return name;
}

}  // namespace

std::string bash_completion(const DescribedCommand& command) {
  std::string cases;
  visit_all(command, [&](const DescribedCommand& one) {
    cases += fmt::format("    {}) words={} ;;\n", quoted(one.path, "'\\''"),
                         quoted(words_of(one), "'\\''"));
  });
  return fmt::format(R"(# bash completion for lowrank
_lowrank() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} path=lowrank words= word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in
      -*) ;;
      *) case " $(_lowrank_words "$path") " in *" $word "*) path="$path $word" ;; esac ;;
    esac
  done
  words=$(_lowrank_words "$path")
  if [[ $current == -* || $path == lowrank ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "${{words%%--*}}" -- "$current"; compgen -f -- "$current")
  fi
}}
_lowrank_words() {{
  local words=
  case $1 in
{}  esac
  printf '%s' "$words"
}}
complete -o filenames -F _lowrank lowrank
)",
                     cases);
}

std::string zsh_completion(const DescribedCommand& command) {
  std::string text = "#compdef lowrank\n";
  visit_all(command, [&](const DescribedCommand& one) {
    text += fmt::format("{}() {{\n", zsh_function(one));
    if (!one.commands.empty()) {
      text += "  local -a commands=(\n";
      for (const auto& below : one.commands) {
        text += "    " + quoted(for_zsh(below.name()) + ":" + below.text, "'\\''") + "\n";
      }
      text += "  )\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n";
      text += "  local command=$words[2]\n  shift words; (( CURRENT-- ))\n";
      text +=
          fmt::format("  (( $+functions[{0}_$command] )) && {0}_$command\n}}\n", zsh_function(one));
      return;
    }
    text += "  _arguments";
    for (const auto& option : one.options) {
      for (const auto& name : option.names) {
        const auto action = takes_file(option) ? ":_files" : ": ";
        const auto spec =
            option.is_positional
                ? "*:" + for_zsh(option.text) + ":_files"
                : fmt::format("{}[{}]{}", name, for_zsh(option.text),
                              option.takes_value ? ":" + for_zsh(option.type) + action : "");
        if (option.is_positional && &option != &one.options.front()) continue;
        text += " \\\n    " + quoted(spec, "'\\''");
      }
    }
    text += " \\\n    '--help[Print help]'\n}\n";
  });
  return text + "_lowrank \"$@\"\n";
}

std::string fish_completion(const DescribedCommand& command) {
  std::string text = "# fish completion for lowrank\n";
  for (const auto& one : command.commands) {
    text += fmt::format("complete -c lowrank -n __fish_use_subcommand -a {} -d {}\n", one.name(),
                        quoted(one.text, "\\'"));
  }
  visit_all(command, [&](const DescribedCommand& one) {
    if (one.path == command.path) return;
    const auto seen = fmt::format("'__fish_seen_subcommand_from {}'", one.name());
    for (const auto& below : one.commands) {
      text += fmt::format("complete -c lowrank -n {} -a {} -d {}\n", seen, below.name(),
                          quoted(below.text, "\\'"));
    }
    for (const auto& option : one.options) {
      if (option.is_positional) continue;
      for (const auto& name : option.names) {
        const bool is_long = name.starts_with("--");
        text += fmt::format("complete -c lowrank -n {} {} {} {}-d {}\n", seen,
                            is_long ? "-l" : "-s", name.substr(is_long ? 2 : 1),
                            !option.takes_value  ? ""
                            : takes_file(option) ? "-r "
                                                 : "-x ",
                            quoted(option.text, "\\'"));
      }
    }
  });
  return text;
}

}  // namespace lowrank::cli
