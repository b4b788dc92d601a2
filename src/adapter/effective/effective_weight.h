#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

/// How an adapter gets into an unmodified model: a *marked* weight means W + s·B·A to every
/// operator that reads it, while its storage holds W.
///
/// The mark is one dispatch key in the tensor's own key set (`kMark`, above Autograd and
/// Autocast), so models without an adapter never reach this code. What the weight means is found
/// through its storage: the storage's DataPtr carries a context of ours around the original one.
/// The lookup takes no lock, every view of the weight finds it, and it lives as long as the
/// storage does.
namespace lowrank::effective {

constexpr c10::DispatchKey kMark = c10::DispatchKey::TESTING_ONLY_GenericWrapper;

/// The switch of one adapter, shared by all its layers and read at each operator.
struct AdapterSwitch {
  std::atomic<bool> enabled{true};
  std::atomic<bool> merged{false};  ///< W already holds s·B·A: a marked weight means its storage

  /// Whether a marked weight means W + s·B·A on this thread now.
  bool active() const;
};

/// Turns an adapter off on this thread until the scope ends.
class ThreadDisable {
 public:
  explicit ThreadDisable(const AdapterSwitch* adapter);
  ~ThreadDisable();
  ThreadDisable(const ThreadDisable&) = delete;
  ThreadDisable& operator=(const ThreadDisable&) = delete;

 private:
  const AdapterSwitch* adapter_;
};

/// What a marked weight means beside W.
struct Factors {
  std::string layer;  ///< dotted module path, for messages
  at::Tensor a;       ///< (rank, in)
  at::Tensor b;       ///< (out, rank)
  double scaling = 1;
  std::shared_ptr<AdapterSwitch> adapter;
  mutable std::atomic<int64_t> fast_calls{0};     ///< operators answered in factored form
  mutable std::atomic<int64_t> general_calls{0};  ///< operators given the dense W + s·B·A
};

/// Where in its storage a weight lies.
struct Geometry {
  std::vector<int64_t> sizes, strides;
  int64_t offset;

  static Geometry of(const at::Tensor& tensor);
  bool is(const at::Tensor& tensor) const;
  bool is_transpose_of(const at::Tensor& tensor) const;  ///< 2-D only
  int64_t end() const;                                   ///< one past the last element it spans
};

struct Binding {
  Geometry geometry;
  std::shared_ptr<Factors> factors;
};

/// Marks `weight` and makes it mean W + s·B·A. Registers the operators on first use. Throws
/// TensorError where a bound weight of the same storage overlaps it.
void bind(const at::Tensor& weight, std::shared_ptr<Factors> factors);

/// Makes `weight` an ordinary tensor again, its storage as it was.
void unbind(const at::Tensor& weight);

bool is_marked(const at::Tensor& tensor);

/// What a marked tensor, W or any view of it, is bound to; null where it is bound to nothing.
const Binding* find(const at::Tensor& tensor);

/// The same tensor (storage, version counter, autograd history) without the mark.
at::Tensor without_mark(const at::Tensor& tensor);

/// W + s·B·A as a dense tensor, rounded once to W's dtype. `weight` is W without its mark.
at::Tensor dense(const at::Tensor& weight, const Factors& factors);

/// What `tensor` means: itself where it is not marked; without the mark where its adapter is off;
/// otherwise the dense W + s·B·A under autograd, or for a view of W the same view of that.
at::Tensor resolve(const at::Tensor& tensor);

/// Registers the fallback and the fast operators on kMark, once a process.
void register_operators();

}  // namespace lowrank::effective
