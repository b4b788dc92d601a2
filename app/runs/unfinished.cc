#include "app/runs/unfinished.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/train/trainer.h>

#include <nlohmann/json.hpp>
#include <system_error>

#include "app/terminal/message.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

void require_checkpoint(const std::filesystem::path& folder) {
  std::error_code none;
  const auto checkpoint = checkpoint_of(folder);
  if (std::filesystem::exists(checkpoint, none)) return;
  if (!std::filesystem::is_directory(folder, none)) {
    fail<FileError>("resume", "--resume must name the folder of an interrupted run",
                    fmt::format("\"{}\", {}", folder.string(),
                                std::filesystem::exists(folder, none) ? "which is no folder"
                                                                      : "where there is nothing"));
  }
  const bool finished = std::filesystem::exists(folder / "adapter_config.json", none);
  fail<FileError>(
      "resume", fmt::format("\"{}\" must exist", checkpoint.string()), "no such file",
      "A finished run keeps no checkpoint, so there is nothing to resume." +
          (finished ? fmt::format(" Go on from its adapter with lowrank finetune BASE --adapter {} "
                                  "--out NEW.",
                                  folder.string())
                    : std::string()));
}

bool is_identity_of_finetune(const Json& identity) {
  return identity.is_object() && identity.contains("lora");
}

/// Returns whether the checkpoint in a folder is one of finetune, as far as it can be read.
bool is_of_finetune(const std::filesystem::path& folder) {
  try {
    return is_identity_of_finetune(parse_ordered_json(checkpoint_identity(checkpoint_of(folder)),
                                                      "the identity of a checkpoint", "resume"));
  } catch (const FileError&) {
    return false;
  }
}

}  // namespace

std::filesystem::path checkpoint_of(const std::filesystem::path& folder) {
  return folder / "checkpoint.safetensors";
}

void require_no_other(const std::filesystem::path& folder, FolderKind kind) {
  const bool is_model = kind == FolderKind::kModel;
  const auto other = folder / (is_model ? "adapter_config.json" : "model.safetensors");
  if (std::error_code none; !std::filesystem::exists(other, none)) return;
  fail<FileError>(
      "output",
      fmt::format("\"{}\" must not hold {}", folder.string(),
                  is_model ? "an adapter beside the model" : "a model beside the adapter"),
      fmt::format("\"{}\"", other.string()), "Name another folder.");
}

void require_new_run_folder(const std::filesystem::path& folder, bool force, FolderKind kind) {
  const auto checkpoint = checkpoint_of(folder);
  if (std::error_code none; !force && std::filesystem::exists(checkpoint, none)) {
    fail<FileError>(
        "output", fmt::format("\"{}\" must not exist yet, or be empty", folder.string()),
        "an interrupted run",
        fmt::format("Go on with --resume \"{}\", or pass --force to start over.", folder.string()));
  }
  require_writable_output(folder, force);
  require_no_other(folder, kind);
}

void require_new_log(const std::filesystem::path& folder, bool force) {
  const auto metrics = folder / "metrics.jsonl";
  std::error_code none;
  if (folder.empty() || force || !std::filesystem::exists(metrics, none)) return;
  fail<FileError>("log", fmt::format("\"{}\" must not exist yet", metrics.string()),
                  "the log of another run", "Name another folder, or pass --force to replace it.");
}

void require_finished(const std::filesystem::path& folder) {
  std::error_code none, error;
  if (const auto status = std::filesystem::status(folder, error);
      !std::filesystem::exists(status)) {
    const bool is_missing = status.type() == std::filesystem::file_type::not_found;
    const bool is_file = folder.has_extension();
    fail<FileError>(
        "load",
        fmt::format("there must be a {} \"{}\"", is_file ? "file" : "folder", folder.string()),
        is_missing ? "none" : fmt::format("\"{}\"", error.message()));
  }
  const bool is_finished = std::filesystem::exists(folder / "config.json", none) ||
                           std::filesystem::exists(folder / "adapter_config.json", none);
  if (is_finished || !std::filesystem::exists(checkpoint_of(folder), none)) return;
  const auto* command = is_of_finetune(folder) ? "finetune" : "train";
  fail<FileError>(
      "load", fmt::format("\"{}\" must hold a finished run", folder.string()),
      "one that was interrupted",
      fmt::format("Finish it with: {} {} --resume {}", program_name(), command, folder.string()));
}

void with_checkpoint_identity(const std::filesystem::path& folder, const std::string& command,
                              const std::function<void(const nlohmann::ordered_json&)>& take) {
  const auto file = checkpoint_of(folder).string();
  require_checkpoint(folder);
  const auto identity = parse_ordered_json(checkpoint_identity(file),
                                           fmt::format("the identity in \"{}\"", file), "resume");
  try {
    take(identity);
  } catch (const nlohmann::json::exception&) {
    const std::string own = is_identity_of_finetune(identity) ? "finetune" : "train";
    if (own == command) {
      fail<FileError>("resume", fmt::format("\"{}\" must hold all options of its run", file),
                      "one that lacks some, or holds them in another form",
                      "It was edited or damaged: start anew with --force.");
    }
    fail<FileError>(
        "resume", fmt::format("\"{}\" must be a checkpoint of this command", file),
        fmt::format("one of {} {}", program_name(), own),
        fmt::format("Go on with: {} {} --resume {}", program_name(), own, folder.string()));
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file));
  }
}

void require_found_again(const std::filesystem::path& place) {
  std::error_code none;
  if (place.empty() || place == "mnist" || std::filesystem::exists(place, none)) return;
  fail<FileError>(
      "resume", fmt::format("what the run was started with must exist: \"{}\"", place.string()),
      "nothing there",
      place.is_relative() ? "The name is relative to the folder in which the run was started: "
                            "resume it from there."
                          : std::string());
}

void require_checkpoint_size(const std::filesystem::path& checkpoint, double numbers) {
  const auto bytes = static_cast<double>(std::filesystem::file_size(checkpoint));
  if (numbers * sizeof(float) <= bytes) return;
  fail<FileError>("resume",
                  fmt::format("\"{}\" must hold the parameters of its run", checkpoint.string()),
                  fmt::format("{:.0f} bytes for {:.0f} numbers", bytes, numbers));
}

}  // namespace lowrank::app
