#include "adapter/init/olora.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <array>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::init {
namespace {

// B spans the first columns of W, and A holds W's coordinates in that span. So B·A is the truncated
// Q·R.
TEST(Olora, IsTheTruncatedQrProduct) {
  at::manual_seed(0);
  constexpr std::array<std::array<int64_t, 2>, 3> kShapes = {{{20, 33}, {40, 15}, {16, 16}}};
  for (const auto& [out, in] : kShapes) {
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      const auto w = at::randn({out, in}, dtype);
      const auto [a, b] = olora(w, 4);
      const double allowed = tolerance(dtype, std::max(out, in)).decomposition;
      ASSERT_EQ(a.sizes(), (std::vector<int64_t>{4, in}));
      ASSERT_EQ(b.sizes(), (std::vector<int64_t>{out, 4}));
      EXPECT_EQ(a.scalar_type(), dtype);
      EXPECT_LE(distance_from_identity(b.t().mm(b)), allowed);
      EXPECT_LE(difference(a, b.t().mm(w)), allowed);
      EXPECT_LE(difference(b.mm(a).slice(1, 0, 4), w.slice(1, 0, 4)), allowed);
      EXPECT_EQ(length(a.tril(-1)), 0) << "R is upper triangular";
    }
  }
}

TEST(Olora, EqualsPefts) {
  const PeftFactors peft;
  EXPECT_LE(difference(product(olora(peft.weight(), 3)), product(peft.of("olora"))), 1e-5);
}

TEST(Olora, RefusesWhatCannotBe) {
  LOWRANK_EXPECT_ERROR(olora(at::ones({5, 8}), 6), ArgumentError,
                       "[olora] the rank must be at least 1 and at most the smaller of out and in, "
                       "5. Got 6.");
  LOWRANK_EXPECT_ERROR(olora(at::ones({5}), 1), TensorError,
                       "[olora] W must be a matrix of 2 dimensions. Got 1 dimension, (5).");
}

}  // namespace
}  // namespace lowrank::init
