// Trains an LSTM to predict a time series, adapts it to another series with LoRA, and goes on where
// it was interrupted:
//   time_series run/
// Stop it with Ctrl-C (or kill it) and call it again: it ends with the same numbers.
#include <lowrank/lowrank.h>
#include <torch/torch.h>

#include <cstdio>
#include <filesystem>

struct Forecaster : torch::nn::Module {
  torch::nn::LSTM lstm{torch::nn::LSTMOptions(1, 32).batch_first(true)};
  torch::nn::Linear head{32, 1};
  Forecaster() {
    register_module("lstm", lstm);
    register_module("head", head);
  }
  torch::Tensor forward(const torch::Tensor& x) { return head(std::get<0>(lstm(x)).select(1, -1)); }
};

/// Each window of 24 values of a series, and the value after it.
struct Windows {
  torch::Tensor x, y;
  explicit Windows(const torch::Tensor& series)
      : x(series.unfold(0, 24, 1).slice(0, 0, -1).unsqueeze(2)),
        y(series.slice(0, 24).unsqueeze(1)) {}
};

lowrank::TrainResult train(Forecaster& model, const Windows& data,
                           const std::vector<lowrank::NamedParameter>& parameters,
                           const std::filesystem::path& checkpoint) {
  const auto examples = data.x.size(0);
  lowrank::TrainTask task;
  task.examples = examples;
  task.loss = [&](const torch::Tensor& i) {
    return torch::mse_loss(model.forward(data.x.index({i})), data.y.index({i}));
  };
  task.parameters = parameters;
  task.held_back = torch::arange(examples * 4 / 5, examples);  // the end of the series
  lowrank::RunOptions run;
  run.checkpoint = checkpoint;
  run.resume = std::filesystem::exists(checkpoint);
  run.on_validation = [](const lowrank::TrainProgress& now) {
    std::printf("step %3d: validation loss %.5f%s\n", static_cast<int>(now.step), now.loss,
                now.is_best ? ", the best so far" : "");
    return true;
  };
  return lowrank::train(
      task,
      {.epochs = 30, .batch_size = 32, .learning_rate = 5e-3, .weight_decay = 1e-4, .patience = 3},
      run);
}

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: time_series FOLDER");
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  torch::manual_seed(0);
  const auto t = torch::arange(600) / 10.0;
  const Windows common(torch::sin(t) + 0.1 * torch::randn(600));
  const Windows own(torch::sin(1.5 * t) * 0.5 + 0.1 * torch::randn(600));  // of one user

  Forecaster model;
  train(model, common, lowrank::trained_parameters(model), folder / "base.state");
  auto adapter = lowrank::attach(model, {.rank = 2, .target_modules = {"lstm", "head"}});
  const auto result =
      train(model, own, lowrank::trained_parameters(adapter), folder / "adapter.state");
  adapter.save(folder / "adapter", {.force = true});
  std::printf("validation loss %.5f at step %d, kept in %s\n", result.best_validation_loss,
              static_cast<int>(result.best_step), (folder / "adapter").c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
