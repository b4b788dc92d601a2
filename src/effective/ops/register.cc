#include <lowrank/error.h>
#include <torch/library.h>

#include <mutex>

#include "effective/mark.h"
#include "effective/ops/embedding.h"
#include "effective/ops/fallback.h"
#include "effective/ops/linear.h"

// Which function handles which operator for a marked tensor: one for each operator that can take
// the factors themselves, the fallback for all others. (Convolutions have many overloads, so the
// fallback handles them.)
namespace lowrank::effective {
namespace {

/// Local, so that its address is a constant under the undefined-behaviour sanitizer too.
void call_fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                   torch::jit::Stack* stack) {
  fallback(op, keys, stack);
}

/// Owns the registrations for the life of the process.
struct Registrations {
  torch::Library everything{torch::Library::IMPL, "_", kMark, __FILE__, __LINE__};
  torch::Library layers{torch::Library::IMPL, "aten", kMark, __FILE__, __LINE__};

  Registrations() {
    everything.fallback(torch::CppFunction::makeFromBoxedFunction<&call_fallback>());
    layers.impl("t", t);
    layers.impl("linear", linear);
    layers.impl("matmul", matmul);
    layers.impl("mm", mm);
    layers.impl("addmm", addmm);
    layers.impl("embedding", embedding);
  }
};

}  // namespace

void register_operators() {
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      static Registrations registrations;
    } catch (const c10::Error& error) {
      fail<Error>("attach", "LibTorch's dispatch key TESTING_ONLY_GenericWrapper must be free",
                  "another library of this process that has registered a fallback for it",
                  "Only one copy of lowrank can be loaded in a process.");
    }
  });
}

}  // namespace lowrank::effective
