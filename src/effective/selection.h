#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "effective/meaning.h"

/// Which adapters of a model are on, for all threads and for one.
namespace lowrank::effective {

/// What the tensors of one model mean; never changed once it is published.
struct Selection {
  std::vector<Meaning> meanings;  ///< by Site::index; beyond its end: the base

  /// For a mixed batch: which rows (dimension 0 of each layer's input) mean what. Empty elsewhere.
  struct Part {
    std::vector<int64_t> rows;
    std::shared_ptr<const Selection> selection;
  };
  std::vector<Part> parts;
  int64_t batch_rows = 0;

  bool is_mixed() const { return !parts.empty(); }
  /// A tensor that was adapted after this selection was made means itself; all do under the base.
  const Meaning& of(const Site& site) const {
    static const Meaning base;
    return site.index < meanings.size() ? meanings[site.index] : base;
  }
};

/// One model's selection. Readers take no lock: each thread keeps what it read last, and looks at a
/// version number.
class Switchboard {
 public:
  Switchboard();
  Switchboard(const Switchboard&) = delete;
  Switchboard& operator=(const Switchboard&) = delete;

  /// For all threads, from their next operator on.
  void publish(std::shared_ptr<const Selection> selection);

  /// What holds on this thread now: that of the innermost Scope, else what was published last. The
  /// reference is good until this thread asks again; a copy is good for as long as it is kept.
  const std::shared_ptr<const Selection>& selection() const;
  /// Whether a Scope of this model is open on this thread.
  bool has_scope() const;

 private:
  const std::shared_ptr<const Selection>& published() const;

  const uint64_t id_;
  std::atomic<uint64_t> version_{1};
  mutable std::mutex mutex_;  // of `current_` while the version changes
  std::shared_ptr<const Selection> current_;
};

/// Until its end `selection` holds for a model on this thread and in what it begins: see
/// AdapterScope.
class Scope {
 public:
  Scope(std::shared_ptr<const Switchboard> board, std::shared_ptr<const Selection> selection);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  struct Guard;
  std::unique_ptr<Guard> guard_;
};

}  // namespace lowrank::effective
