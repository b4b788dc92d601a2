#include "effective/switchboard.h"

#include <c10/util/ThreadLocalDebugInfo.h>

#include <array>
#include <thread>
#include <typeinfo>
#include <utility>

namespace lowrank::effective {

using DebugInfo = c10::ThreadLocalDebugInfo;

struct ScopeInfo final : c10::DebugInfoBase {
  std::shared_ptr<const Switchboard> board;
  std::shared_ptr<const Selection> selection;
  const ScopeInfo* outer = nullptr;   // kept alive by LibTorch's chain of debug information
  const DebugInfo* place = nullptr;   // in that chain
  std::shared_ptr<DebugInfo> before;  // the chain without this scope
  const std::thread::id thread = std::this_thread::get_id();
  std::atomic<bool> ended{false};

  /// What its thread started still uses a scope that has ended.
  bool has_ended_here() const { return ended && thread == std::this_thread::get_id(); }
};

namespace {

// LibTorch passes its thread-local debug information on to the threads of at::launch and of
// backward passes. This kind of it is used only by LibTorch's own tests.
constexpr auto kKind = c10::DebugInfoKind::TEST_INFO_2;

const ScopeInfo* current_scope() {
  const auto* info = DebugInfo::get(kKind);
  return info != nullptr && typeid(*info) == typeid(ScopeInfo) ? static_cast<const ScopeInfo*>(info)
                                                               : nullptr;
}

/// This thread's innermost scope of this model, or null.
const ScopeInfo* scope_of(const Switchboard& board) {
  const auto* scope = current_scope();
  while (scope != nullptr && (scope->board.get() != &board || scope->has_ended_here())) {
    scope = scope->outer;
  }
  return scope;
}

/// Takes the scopes that have ended off the end of this thread's chain. One that ended before a
/// scope inside it leaves with that one.
void drop_ended_scopes() {
  while (const auto* scope = current_scope()) {
    if (!scope->has_ended_here() || scope->place != DebugInfo::current().get()) return;
    DebugInfo::_forceCurrentDebugInfo(std::shared_ptr<DebugInfo>(scope->before));
  }
}

/// What this thread read last, for a few models. Reading a model that is not among them takes a
/// lock.
struct Cached {
  uint64_t board = 0;
  uint64_t version = 0;
  std::shared_ptr<const Selection> selection;
};
constexpr size_t kCachedBoards = 8;
thread_local std::array<Cached, kCachedBoards> cache;

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

const Meaning& Selection::of_base() {
  static const Meaning base;
  return base;
}

Switchboard::Switchboard() : id_(next_id()), current_(std::make_shared<Selection>()) {}

void Switchboard::publish(std::shared_ptr<const Selection> selection) {
  const std::lock_guard lock(mutex_);
  current_.swap(selection);
  version_.fetch_add(1, std::memory_order_release);
}

void Switchboard::set_owner(std::weak_ptr<void> state) {
  const std::lock_guard lock(mutex_);
  owner_ = std::move(state);
}

std::shared_ptr<void> Switchboard::owner() const {
  const std::lock_guard lock(mutex_);
  return owner_.lock();
}

void Switchboard::park(std::shared_ptr<void> state) {
  const std::lock_guard lock(mutex_);
  parked_ = std::move(state);
}

std::shared_ptr<void> Switchboard::take_parked() {
  const std::lock_guard lock(mutex_);
  return std::exchange(parked_, nullptr);
}

const std::shared_ptr<const Selection>& Switchboard::published() const {
  auto& cached = cache[id_ % kCachedBoards];
  if (cached.board != id_ || cached.version != version_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(mutex_);
    cached = {id_, version_.load(std::memory_order_relaxed), current_};
  }
  return cached.selection;
}

const std::shared_ptr<const Selection>& Switchboard::selection() const {
  const auto* scope = scope_of(*this);
  return scope != nullptr ? scope->selection : published();
}

bool Switchboard::has_scope() const { return scope_of(*this) != nullptr; }

Scope::Scope(std::shared_ptr<const Switchboard> board, std::shared_ptr<const Selection> selection)
    : info_(std::make_shared<ScopeInfo>()) {
  info_->board = std::move(board);
  info_->selection = std::move(selection);
  info_->outer = current_scope();
  info_->before = DebugInfo::current();
  DebugInfo::_push(kKind, info_);
  info_->place = DebugInfo::current().get();
}

Scope::Scope(Scope&& other) noexcept = default;

Scope::~Scope() {
  if (info_ == nullptr) return;
  info_->ended = true;
  drop_ended_scopes();
}

}  // namespace lowrank::effective
