#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "effective/meaning.h"

/// Which adapters of a model are on: for all threads, or for one thread while a scope is open.
namespace lowrank::effective {

/// What the tensors of one model mean; never changed once it is published.
struct Selection {
  std::vector<Meaning> meanings;  ///< by Site::index; a site beyond the end means its base

  /// In a mixed batch: these rows (of dimension 0 of each layer's input) use this selection.
  struct Part {
    std::vector<int64_t> rows;
    std::shared_ptr<const Selection> selection;
  };
  std::vector<Part> parts;  ///< empty unless this is for a mixed batch
  int64_t batch_rows = 0;   ///< rows of the whole mixed batch

  bool is_mixed() const { return !parts.empty(); }
  /// The meaning of a site. A site that is newer than this selection means its base.
  const Meaning& of(const Site& site) const {
    return site.index < meanings.size() ? meanings[site.index] : of_base();
  }
  static const Meaning& of_base();
};

/// Holds one model's current selection. Readers take no lock: each thread caches what it read last,
/// and compares a version number.
class Switchboard {
 public:
  Switchboard();
  Switchboard(const Switchboard&) = delete;
  Switchboard& operator=(const Switchboard&) = delete;

  /// Makes `selection` hold for all threads, from their next operator on.
  void publish(std::shared_ptr<const Selection> selection);

  /// The selection that holds on this thread now: that of the innermost Scope, else the one
  /// published last. The reference is valid until this thread calls this again; a copy is valid for
  /// as long as it is kept.
  const std::shared_ptr<const Selection>& selection() const;
  /// Returns whether a Scope of this model is open on this thread.
  bool has_scope() const;

  /// The state of the adapters, which is behind the handles of them. While there are handles, it
  /// belongs to them; the last one parks it here, so that a later handle can take it. A parked
  /// state must not own the model's tensors, which own this.
  void set_owner(std::weak_ptr<void> state);
  std::shared_ptr<void> owner() const;
  void park(std::shared_ptr<void> state);
  std::shared_ptr<void> take_parked();

  /// Whether forward passes in training leave the base's running statistics as they are.
  void set_statistics_frozen(bool frozen) { statistics_frozen_ = frozen; }
  bool are_statistics_frozen() const { return statistics_frozen_; }

 private:
  const std::shared_ptr<const Selection>& published() const;

  const uint64_t id_;
  std::atomic<uint64_t> version_{1};
  std::atomic<bool> statistics_frozen_{true};
  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const Selection> current_;
  std::weak_ptr<void> owner_;
  std::shared_ptr<void> parked_;
};

struct ScopeInfo;

/// While it lives, `selection` holds for one model on this thread and in the work that this thread
/// starts; see AdapterScope.
class Scope {
 public:
  Scope(std::shared_ptr<const Switchboard> board, std::shared_ptr<const Selection> selection);
  Scope(Scope&& other) noexcept;
  ~Scope();
  Scope& operator=(Scope&&) = delete;

 private:
  std::shared_ptr<ScopeInfo> info_;
};

}  // namespace lowrank::effective
