#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "io/files/system_file.h"

namespace lowrank {

/// A hidden folder beside an output, in which the output is made and from which it takes its place
/// in one step. A killed process leaves it, for the next one to go on with or to remove.
///
/// A folder that must stay where it is (the working folder, a mount, one with folders in it, one in
/// a folder that we may not write to) has the hidden folder in it. Then its files take their places
/// one after the other, JSON last.
class StagedOutput {
 public:
  /// Makes the folder, or with `resume` takes the one that is there; without it, what an old one
  /// holds is removed. Throws FileError with `operation` if the name is taken by something else, or
  /// if another process is making the same output.
  StagedOutput(const std::filesystem::path& out, bool resume, const char* operation);
  /// Removes the folder and the parents that it made, unless the output has taken its place, or the
  /// folder was there and taken with `resume`.
  ~StagedOutput();
  StagedOutput(const StagedOutput&) = delete;
  StagedOutput& operator=(const StagedOutput&) = delete;

  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  /// For the journal: its presence shows that the folder is ours.
  std::filesystem::path journal() const;

  /// Throws FileError if one of these files could not take its place in `out`, or `out` itself if
  /// there is no name.
  void require_places(const std::set<std::string>& names) const;

  /// Puts the files `names` in their places. What else is in `out` stays, except for the files
  /// `dropped`; what else is in the hidden folder goes.
  void publish_folder(const std::set<std::string>& names, const std::set<std::string>& dropped);
  /// Puts one file of it in the place of `out`.
  void publish_file(const std::string& name);

 private:
  void finish_interrupted() const;
  void remove_folder();
  void keep_others(const std::set<std::string>& dropped) const;
  void publish_files(const std::set<std::string>& dropped);
  void drop_all_but(const std::set<std::string>& names) const;
  void keep_modes() const;

  std::filesystem::path out_, folder_;  // the latter is empty once it has its place
  io::Descriptor lock_;                 // on the folder
  bool is_inside_ = false, is_resumed_ = false;
  std::filesystem::path made_;  // the outermost parent that was made; empty for none
};

}  // namespace lowrank
