#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "adapter/state.h"
#include "effective/weight_reading.h"

// An adapter's file holds no buffers of the base. So while a model has an adapter, its running
// statistics (BatchNorm) stay as they are, and whatever else changes its buffers is found out.
namespace lowrank {
namespace {

at::Tensor stored(const BaseBuffer& buffer) {
  return effective::stored_weight(buffer.tensor).detach();
}

/// The values before attach in the buffer's dtype and on its device, which module.to() may have
/// changed since.
at::Tensor before_like(const BaseBuffer& buffer) {
  return buffer.before.to(buffer.tensor.options());
}

bool has_changed(const BaseBuffer& buffer) {
  if (!buffer.before.defined()) return false;
  const auto now = stored(buffer);
  const auto before = before_like(buffer);
  if (now.sizes() != before.sizes()) return true;
  if (!now.is_floating_point()) return !at::equal(now, before);
  // NaN is equal to itself here: what counts is whether anything was written.
  return !now.eq(before).logical_or(now.isnan().logical_and(before.isnan())).all().item<bool>();
}

}  // namespace

void freeze(Adapter::State& state) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : state.base) parameter.tensor.requires_grad_(false);
  for (auto& buffer : state.buffers) {
    buffer.before = stored(buffer).clone();
    if (buffer.is_statistic) state.site_for_statistic(buffer.name, buffer.tensor);
  }
}

std::vector<std::string> changed_buffers(const Adapter::State& state) {
  const at::NoGradGuard no_grad;
  std::vector<std::string> names;
  for (const auto& buffer : state.buffers) {
    if (has_changed(buffer)) names.push_back(buffer.name);
  }
  return names;
}

void restore_buffers(Adapter::State& state) {
  const at::NoGradGuard no_grad;
  for (auto& buffer : state.buffers) {
    if (has_changed(buffer)) {
      const auto before = before_like(buffer);
      stored(buffer).resize_(before.sizes()).copy_(before);
    }
    buffer.before.reset();
  }
}

std::vector<std::string> Adapter::changed_buffers() const {
  const StateLock lock(state_->mutex);
  return lowrank::changed_buffers(*state_);
}

void Adapter::freeze_statistics(bool frozen) {
  const StateLock lock(state_->mutex);
  state_->board->set_statistics_frozen(frozen);
}

bool Adapter::statistics_frozen() const { return state_->board->are_statistics_frozen(); }

}  // namespace lowrank
