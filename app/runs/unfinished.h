#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

/// Runs that have not ended: their checkpoints, and what their folders may be used for.
namespace lowrank::app {

enum class FolderKind { kModel, kAdapter };

/// Returns the file in which a run keeps its state until it ends.
std::filesystem::path checkpoint_of(const std::filesystem::path& folder);

/// Passes the identity in a folder's checkpoint to `take`. Throws FileError if there is no
/// checkpoint, if it is one of another command than `command`, or if `take` does not find what it
/// needs. An ArgumentError of `take` becomes a FileError that names the checkpoint, because the
/// value came from there.
void with_checkpoint_identity(const std::filesystem::path& folder, const std::string& command,
                              const std::function<void(const nlohmann::ordered_json&)>& take);

/// Throws FileError if what an interrupted run was started with, a file or a folder, is not found
/// by the name that the run gave to it.
void require_found_again(const std::filesystem::path& place);

/// Throws FileError if the checkpoint is too small to hold this many parameters of its run. Called
/// before memory is allocated for them.
void require_checkpoint_size(const std::filesystem::path& checkpoint, double numbers);

/// Throws FileError if there is no such folder, or if it holds nothing but the checkpoint of a run
/// that was interrupted.
void require_finished(const std::filesystem::path& folder);

/// Does what require_writable_output() does. For the folder of an interrupted run, the message
/// names --resume.
void require_new_run_folder(const std::filesystem::path& folder, bool force, FolderKind kind);

/// Throws FileError if a folder holds what is of another kind: --force replaces files by name, so
/// that both would lie in it.
void require_no_other(const std::filesystem::path& folder, FolderKind kind);

/// Throws FileError if `folder` holds the log of another run, unless `force` says to replace it. An
/// empty name means no log.
void require_new_log(const std::filesystem::path& folder, bool force);

}  // namespace lowrank::app
