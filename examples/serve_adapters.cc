// Keeps one model in memory and one adapter per user, and answers the requests of all users from a
// pool of threads; then answers the same requests as one batch, each row with its user's adapter:
//
//     serve_adapters
#include <lowrank/lowrank.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <atomic>
#include <iostream>
#include <thread>

// A server would call adapter.load(user, folder); here every user gets random factors.
void add_user(lowrank::Adapter& adapter, const std::string& user) {
  adapter.add(user, {.rank = 4});
  const at::NoGradGuard no_grad;
  for (const auto& factor : adapter.parameters(user)) factor.normal_(0, 0.1);
}

int main() try {
  torch::nn::Sequential model(torch::nn::Linear(64, 128), torch::nn::ReLU(),
                              torch::nn::Linear(128, 10));
  auto adapter = lowrank::attach(*model, {.rank = 4});
  const std::vector<std::string> users = {"ann", "ben", "cleo", "dan"};
  for (const auto& user : users) add_user(adapter, user);

  std::vector<std::string> asked_by;
  for (int i = 0; i < 64; ++i) asked_by.push_back(users[i % users.size()]);
  const auto requests = at::randn({64, 64});
  std::vector<at::Tensor> answers(asked_by.size());

  std::atomic<size_t> next = 0;
  const auto work = [&] {
    const at::NoGradGuard no_grad;
    for (size_t i = next++; i < answers.size(); i = next++) {
      const auto scope = adapter.use(asked_by[i]);  // this thread, until the end of the scope
      answers[i] = model->forward(requests.slice(0, i, i + 1));
    }
  };
  std::vector<std::thread> pool;
  for (int i = 0; i < 4; ++i) pool.emplace_back(work);
  for (auto& thread : pool) thread.join();

  const at::NoGradGuard no_grad;
  const auto rows = adapter.use_rows(asked_by);
  const bool same = at::allclose(model->forward(requests), at::cat(answers), 1e-4, 1e-5);
  std::cout << answers.size() << " answers to " << users.size() << " users; one mixed batch gives "
            << (same ? "the same" : "OTHER ANSWERS") << '\n';
  return same ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
