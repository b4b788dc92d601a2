// Covers src/adapter/init/eva.cc, corda.cc and lora_ga.cc, through attach().

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>
#include <map>
#include <tuple>

#include "adapter/init/data_subjects.h"
#include "adapter/init/eva.h"
#include "adapter/init/eva_ranks.h"
#include "adapter/init/init_support.h"
#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "support/tolerances.h"

// EVA, CorDA and LoRA-GA through attach() are compared with float64 computations on each layer's
// inputs and gradients.
namespace lowrank {
namespace {

constexpr int64_t kRank = 2;
constexpr double kGap = 1.1;

class DataInit : public testing::TestWithParam<const char*> {
 protected:
  LoraConfig config(LoraInit init) const {
    return {.rank = kRank,
            .alpha = 3,
            .target_modules = ModuleSelector(subject_->targets()),
            .init = init};
  }

  Adapter attach_with(const LoraConfig& config) {
    return subject_->attach(config, [&] { subject_->run(config.init == LoraInit::kLoraGa); });
  }

  std::unique_ptr<Subject> subject_ = make_subject(GetParam());
};

/// Returns the right singular vectors of x (n, in) as columns, and its singular values.
std::pair<at::Tensor, at::Tensor> directions(const at::Tensor& x) {
  const auto [u, s, vt] = at::linalg_svd(x.to(at::kDouble), /*full_matrices=*/false);
  return {vt.t(), s};
}

bool has_gap(const at::Tensor& s, int64_t rank) {
  return rank == s.size(0) || s[rank - 1].item<double>() >= kGap * s[rank].item<double>();
}

TEST_P(DataInit, EvaStartsFromThePrincipalComponentsOfTheInputs) {
  const auto adapter = attach_with(config(LoraInit::kEva));
  int compared = 0;
  for (const auto& layer : adapter.layers()) {
    const auto x = at::cat(subject_->inputs_of(layer.name)).to(at::kDouble);
    const auto [v, s] = directions(x - x.mean(0));
    const auto rank = layer.a.size(0);
    EXPECT_FALSE(layer.b.ne(0).any().item<bool>()) << layer.name;
    if (!has_gap(s, rank)) continue;
    ++compared;
    EXPECT_LT(init::sine(layer.a.detach().t(), v.slice(1, 0, rank)), 1e-3) << layer.name;
  }
  EXPECT_GE(compared, 2);
}

/// The ranks follow from the reference's variances, and s stays the same.
TEST_P(DataInit, EvaSharesTheRanksOut) {
  auto wanted = config(LoraInit::kEva);
  const auto adapter = attach_with(wanted);
  std::vector<at::Tensor> ratios;
  std::vector<int64_t> ranks;
  for (const auto& name : subject_->targets()) {
    const auto x = at::cat(subject_->inputs_of(name)).to(at::kDouble);
    const auto variances = std::get<1>(directions(x - x.mean(0))).square();
    ratios.push_back((variances / variances.sum()).slice(0, 0, 2 * kRank));
    ranks.push_back(kRank);
  }
  const auto expected = init::eva_ranks(ratios, ranks, 2);
  std::map<std::string, int64_t> found;
  for (const auto& layer : adapter.layers()) {
    found[layer.name] = layer.a.size(0);
    EXPECT_DOUBLE_EQ(layer.scaling, wanted.scaling()) << layer.name;
  }
  for (size_t i = 0; i < ranks.size(); ++i) {
    EXPECT_EQ(found[subject_->targets()[i]], expected[i]) << subject_->targets()[i];
  }

  wanted.eva_config.rho = 1;
  subject_ = make_subject(GetParam());
  for (const auto& layer : attach_with(wanted).layers()) EXPECT_EQ(layer.a.size(0), kRank);
}

TEST_P(DataInit, CordaStartsFromTheWeightAndTheInputsCovariance) {
  for (const auto method : {CordaMethod::kIpm, CordaMethod::kKpm}) {
    subject_ = make_subject(GetParam());
    auto wanted = config(LoraInit::kCorda);
    wanted.corda_config.corda_method = method;
    const auto adapter = attach_with(wanted);
    int compared = 0;
    for (const auto& layer : adapter.layers()) {
      at::Tensor c;
      const auto batches = subject_->inputs_of(layer.name);
      for (const auto& batch : batches) {
        const auto x = batch.to(at::kDouble) / batch.abs().max().item<double>();
        c = c.defined() ? c + x.t().mm(x) : x.t().mm(x);
      }
      c = c / static_cast<double>(batches.size());
      c = c + 0.01 * c.diagonal().mean() * at::eye(c.size(0), c.options());
      const auto [v, s] = directions(layer.weight.detach().to(at::kDouble).mm(c));
      const auto most = s.size(0);
      const auto first = method == CordaMethod::kIpm ? 0 : most - kRank;
      if (!has_gap(s, first == 0 ? kRank : first)) continue;
      ++compared;
      const auto expected = at::linalg_solve(c, v.slice(1, first, first + kRank));
      EXPECT_LT(init::sine(layer.a.detach().t(), expected), 1e-3) << layer.name;
    }
    EXPECT_GE(compared, 1);
  }
}

TEST_P(DataInit, LoraGaStartsFromTheMeanGradient) {
  const auto gradients = subject_->mean_gradients();
  const auto adapter = attach_with(config(LoraInit::kLoraGa));
  int compared = 0;
  for (const auto& layer : adapter.layers()) {
    const auto [u, s, vt] = at::linalg_svd(gradients.at(layer.name).to(at::kDouble), false);
    if (!has_gap(s, kRank) || !has_gap(s, 2 * kRank)) continue;
    ++compared;
    EXPECT_LT(init::sine(layer.a.detach().t(), vt.slice(0, 0, kRank).t()), 1e-3) << layer.name;
    EXPECT_LT(init::sine(layer.b.detach(), u.slice(1, kRank, 2 * kRank)), 1e-3) << layer.name;
    // The norm of B follows from the mean gradient, not from the sum.
    const double scale = std::pow(static_cast<double>(layer.b.size(0)), 0.25) / 4;
    EXPECT_LE(init::difference(at::linalg_svdvals(layer.b.detach()),
                               scale * s.slice(0, kRank, 2 * kRank)),
              1e-3)
        << layer.name;
  }
  EXPECT_GE(compared, 1);
}

/// While an adapter is attached, only the marks are added to the model; after it is detached,
/// nothing is left.
TEST_P(DataInit, LeavesTheModelAsItWas) {
  const auto outputs = subject_->outputs();
  const auto before = subject_->snapshot();
  for (const auto init : {LoraInit::kEva, LoraInit::kCorda, LoraInit::kLoraGa}) {
    auto adapter = attach_with(config(init));
    EXPECT_LE(relative_error(subject_->outputs(), outputs), tolerance(at::kFloat, 16).product);
    EXPECT_TRUE(subject_->snapshot().equals(before, /*with_requires_grad=*/false));
    {
      const DisableAdapter off(adapter);
      EXPECT_TRUE(at::equal(subject_->outputs(), outputs));
    }
    adapter.detach();
    EXPECT_TRUE(subject_->snapshot().equals(before)) << static_cast<int>(init);
    EXPECT_TRUE(at::equal(subject_->outputs(), outputs));
  }
}

TEST_P(DataInit, LeavesTheModelAsItWasWhenTheRunThrows) {
  const auto before = subject_->snapshot();
  for (const auto init : {LoraInit::kEva, LoraInit::kCorda, LoraInit::kLoraGa}) {
    const auto run = [&] {
      subject_->run(init == LoraInit::kLoraGa);
      throw std::runtime_error("no more data");
    };
    LOWRANK_EXPECT_ERROR(subject_->attach(config(init), run), std::runtime_error, "no more data");
    EXPECT_TRUE(subject_->snapshot().equals(before)) << static_cast<int>(init);
  }
}

/// The adapter is trained like any other, saved, and loaded into a new model.
TEST_P(DataInit, ComesBackFromItsFile) {
  for (const auto init : {LoraInit::kEva, LoraInit::kCorda, LoraInit::kLoraGa}) {
    subject_ = make_subject(GetParam());
    const auto adapter = attach_with(config(init));
    {
      const at::NoGradGuard no_grad;
      for (const auto& parameter : adapter.parameters()) {
        parameter.add_(0.3 * at::randn(parameter.sizes()));
      }
    }
    const TemporaryFolder folder;
    adapter.save(folder / "own");
    const auto fresh = make_subject(GetParam());
    fresh->load(folder / "own");
    EXPECT_LE(relative_error(fresh->outputs(), subject_->outputs()),
              tolerance(at::kFloat, 16).decomposition)
        << static_cast<int>(init);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DataInit, testing::Values("mlp", "script"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace lowrank
