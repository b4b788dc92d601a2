#pragma once

#include <lowrank/weights/merge.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "weights/untied_base.h"

/// The files around the tensors of a merged checkpoint.
namespace lowrank {

struct SmallFile {
  std::string name;
  std::string content;
};

/// Returns the small files of a model's folder that are no weights (config, tokenizer, README) as
/// the merged model has them: links are resolved, and the index and, if the head `unties` from the
/// embeddings, the config are written anew. None for a model in one file.
std::vector<SmallFile> other_files(const UntiedBase& base, bool unties);

/// Throws FileError if a shard has the name of a file that is written beside the shards.
void require_own_names(const Checkpoint& base);

/// Throws FileError if one of the files is there already.
void require_free(const std::filesystem::path& out, bool is_folder,
                  const std::set<std::string>& names);

/// Returns the files of weights in a folder, and their index, as far as they can be told; none if
/// it holds no checkpoint.
std::set<std::string> weights_in(const std::filesystem::path& folder);

/// Says what a merge is about: a digest of the adapters, of the names, sizes and times of the
/// base's files, and of the options.
std::string identity_of(const Checkpoint& base, const std::vector<std::filesystem::path>& adapters,
                        const CheckpointMergeOptions& options);

}  // namespace lowrank
