// Attaches an adapter to a module of your own, trains it, saves it in PEFT's format, and loads it
// into a second copy of the base:
//
//     train_adapter FOLDER
#include <lowrank/lowrank.h>
#include <torch/torch.h>

#include <iostream>

// An ordinary module, which knows nothing about adapters.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    register_module("hidden", hidden);
    register_module("output", output);
  }
  at::Tensor forward(const at::Tensor& x) { return output(hidden(x).relu()); }

  torch::nn::Linear hidden{8, 32};
  torch::nn::Linear output{32, 2};
};
TORCH_MODULE(Net);

double train(Net net, const lowrank::Adapter& adapter, const at::Tensor& x, const at::Tensor& y) {
  torch::optim::Adam optimizer(adapter.parameters(), 1e-2);  // the base is frozen
  at::Tensor loss;
  for (int step = 0; step < 200; ++step) {
    optimizer.zero_grad();
    loss = torch::nn::functional::cross_entropy(net(x), y);
    loss.backward();
    optimizer.step();
  }
  return loss.item<double>();
}

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: train_adapter FOLDER");
  torch::manual_seed(0);
  Net net;
  torch::save(net, std::string(argv[1]) + ".base.pt");
  const auto x = torch::randn({256, 8});
  const auto y = (x.sum(1) > 0).to(torch::kLong);

  auto adapter = lowrank::attach(*net, {.rank = 2, .alpha = 4});  // all Linear layers
  std::cout << "loss " << train(net, adapter, x, y) << " with " << adapter.parameter_count()
            << " parameters\n";
  adapter.save(argv[1], {.force = true});

  Net other;
  torch::load(other, std::string(argv[1]) + ".base.pt");
  const auto loaded = lowrank::load_adapter(*other, argv[1]);
  const bool same = loaded.report.base_matches() && torch::equal(other(x), net(x));
  std::cout << "loaded into another copy of the base: " << (same ? "the same" : "NOT the same")
            << " outputs\n";
  return same ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
