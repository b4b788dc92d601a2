#include "cli/documents/write_documents.h"

#include <lowrank/io/atomic_file.h>

#include <nlohmann/json.hpp>

#include "cli/documents/completions.h"
#include "cli/documents/described_command.h"
#include "cli/documents/manual.h"

namespace lowrank::cli {
namespace {

namespace fs = std::filesystem;

void write_pages(const DescribedCommand& command, const std::string& version,
                 const fs::path& folder) {
  write_file_atomically(folder / (page_name(command) + ".1"), manual_page(command, version));
  for (const auto& below : command.commands) write_pages(below, version, folder);
}

}  // namespace

void write_documents(const std::string& description, const fs::path& share) {
  const auto json = nlohmann::ordered_json::parse(description);
  const auto command = described_command(json);
  // Without LibTorch's version, which differs between builds of the same sources.
  const auto version = json.at("version").get<std::string>();
  write_pages(command, version.substr(0, version.find(" (")), share / "man/man1");
  write_file_atomically(share / "bash-completion/completions/lowrank", bash_completion(command));
  write_file_atomically(share / "zsh/site-functions/_lowrank", zsh_completion(command));
  write_file_atomically(share / "fish/vendor_completions.d/lowrank.fish", fish_completion(command));
}

}  // namespace lowrank::cli
