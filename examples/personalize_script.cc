// Personalises a TorchScript classifier of token ids (N, T), trained and exported elsewhere, on a
// few examples of one user, and writes a file that torch::jit::load can run without lowrank:
//
//     personalize_script MODEL.pt PERSONAL.pt
#include <lowrank/lowrank.h>
#include <torch/script.h>

#include <iostream>

// Stands in for the examples that a product would get from its user.
std::pair<at::Tensor, at::Tensor> examples_of_user() {
  const auto ids = torch::randint(0, 20, {16, 4});
  return {ids, (ids.sum(1) > 38).to(torch::kLong)};
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: personalize_script MODEL.pt PERSONAL.pt");
  at::manual_seed(0);
  auto model = torch::jit::load(argv[1]);
  for (const auto& layer : lowrank::plan_adapter(model, {.rank = 4}).layers) {
    std::cout << "adapts " << layer.name << ", a " << layer.kind << '\n';
  }
  auto adapter = lowrank::attach(model, {.rank = 4});

  const auto [ids, labels] = examples_of_user();
  const auto loss_now = [&, ids = ids, labels = labels] {
    return at::cross_entropy_loss(model.forward({ids}).toTensor(), labels);
  };
  const double before = loss_now().item<double>();
  lowrank::Adam optimizer(adapter.parameters(), {.learning_rate = 1e-2});
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    loss_now().backward();
    optimizer.step();
  }
  const double after = loss_now().item<double>();
  std::cout << "loss " << before << " before, " << after << " after\n";
  for (const auto& name : adapter.unreached_layers()) std::cout << name << " was never used\n";

  adapter.merge();  // writes W + s·B·A to W, so the saved file needs no adapter
  model.save(argv[2]);
  auto personal = torch::jit::load(argv[2]);
  const bool same =
      at::allclose(personal.forward({ids}).toTensor(), model.forward({ids}).toTensor());
  return same && after < before ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
