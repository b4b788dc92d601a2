#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/adam.h>

#include <cmath>
#include <optional>
#include <utility>

#include "adapter/acceleration.h"
#include "kernels/adam_step.h"
#include "kernels/products.h"

namespace lowrank {
namespace {

std::vector<at::Tensor> tensors_of(const std::vector<ParameterGroup>& groups) {
  std::vector<at::Tensor> tensors;
  for (const auto& group : groups) {
    tensors.insert(tensors.end(), group.parameters.begin(), group.parameters.end());
  }
  return tensors;
}

AdamOptions at_rate(AdamOptions options, double learning_rate) {
  options.learning_rate = learning_rate;
  return options;
}

void check(const AdamOptions& options) {
  const auto fraction = [](double value) { return value >= 0 && value < 1; };
  if (!fraction(options.beta1) || !fraction(options.beta2)) {
    fail<ArgumentError>("adam", "beta1 and beta2 must be at least 0 and below 1",
                        fmt::format("{} and {}", options.beta1, options.beta2));
  }
  if (!(options.learning_rate > 0) || !std::isfinite(options.learning_rate)) {
    fail<ArgumentError>("adam", "the learning rate must be finite and above 0",
                        fmt::format("{}", options.learning_rate));
  }
  if (!(options.epsilon >= 0) || !std::isfinite(options.epsilon)) {
    fail<ArgumentError>("adam", "epsilon must be finite and at least 0",
                        fmt::format("{}", options.epsilon));
  }
}

template <class number>
void step_in_one_pass(const at::Tensor& parameter, const at::Tensor& gradient,
                      const Adam::Moments& moments, const kernels::AdamStep& step) {
  kernels::adam_step(parameter.data_ptr<number>(), gradient.data_ptr<number>(),
                     moments.exp_avg.data_ptr<number>(), moments.exp_avg_sq.data_ptr<number>(),
                     parameter.numel(), step);
}

void step_of_product(const at::Tensor& parameter, const effective::GradientProduct& gradient,
                     const Adam::Moments& moments, const kernels::AdamStep& step) {
  const auto x = gradient.x.contiguous();
  kernels::adam_step(parameter.data_ptr<float>(), moments.exp_avg.data_ptr<float>(),
                     moments.exp_avg_sq.data_ptr<float>(),
                     kernels::thin_product({.x = kernels::Operand(gradient.dy).t(), .w = x}), step);
}

/// The same by LibTorch's operators, for any dtype, device and layout.
void step_by_operators(const at::Tensor& parameter, const at::Tensor& gradient,
                       const Adam::Moments& moments, const kernels::AdamStep& step) {
  auto m = moments.exp_avg, v = moments.exp_avg_sq;
  m.mul_(step.beta1).add_(gradient, 1 - step.beta1);
  v.mul_(step.beta2).addcmul_(gradient, gradient, 1 - step.beta2);
  const auto denominator = v.sqrt().div_(step.root_correction2).add_(step.epsilon);
  parameter.addcdiv_(m, denominator, -step.step_size);
}

kernels::AdamStep numbers_of_step(const AdamOptions& options, int64_t number) {
  const auto t = static_cast<double>(number);
  return {.beta1 = options.beta1,
          .beta2 = options.beta2,
          .epsilon = options.epsilon,
          .step_size = options.learning_rate / (1 - std::pow(options.beta1, t)),
          .root_correction2 = std::sqrt(1 - std::pow(options.beta2, t))};
}

bool fits_one_pass(const at::Tensor& parameter) {
  return parameter.device().is_cpu() && parameter.is_contiguous() &&
         (parameter.scalar_type() == at::kFloat || parameter.scalar_type() == at::kDouble);
}

using Deferred = std::shared_ptr<effective::DeferredGradient>;

std::vector<std::optional<effective::GradientProduct>> take_products(
    const std::vector<Deferred>& deferred) {
  std::vector<std::optional<effective::GradientProduct>> products(deferred.size());
  for (size_t i = 0; i < deferred.size(); ++i) {
    if (deferred[i] != nullptr) products[i] = deferred[i]->take();
  }
  return products;
}

void add_to_gradient(const at::Tensor& parameter, const effective::GradientProduct& product) {
  const auto formed = kernels::product({kernels::Operand(product.dy).t(), product.x});
  auto& gradient = parameter.mutable_grad();
  gradient = gradient.defined() ? gradient + formed : formed;
}

}  // namespace

Adam::Adam(std::vector<at::Tensor> parameters, const AdamOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  check(options_);
  if (parameters_.empty()) {
    fail<ArgumentError>("adam", "there must be a parameter to train", "none");
  }
  for (const auto& parameter : parameters_) {
    moments_.push_back({0, at::zeros_like(parameter), at::zeros_like(parameter)});
  }
  ratios_.assign(parameters_.size(), 1);
  deferred_.resize(parameters_.size());
}

Adam::Adam(const std::vector<ParameterGroup>& groups, const AdamOptions& options)
    : Adam(tensors_of(groups),
           groups.empty() ? options : at_rate(options, groups[0].learning_rate)) {
  ratios_.clear();
  for (const auto& group : groups) {
    check(at_rate(options_, group.learning_rate));
    ratios_.insert(ratios_.end(), group.parameters.size(),
                   group.learning_rate / options_.learning_rate);
  }
}

void Adam::zero_grad() {
  for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  for (const auto& deferred : deferred_) {
    if (deferred != nullptr) deferred->drop();
  }
}

void Adam::form_gradients() {
  const at::NoGradGuard no_grad;
  const auto products = take_products(deferred_);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (products[i]) add_to_gradient(parameters_[i], *products[i]);
  }
}

void Adam::step() {
  const at::NoGradGuard no_grad;
  auto products = take_products(deferred_);  // all, before anything is moved
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& parameter = parameters_[i];
    auto& product = products[i];
    if (product && (parameter.grad().defined() || !fits_one_pass(parameter))) {
      add_to_gradient(parameter, *product);
      product.reset();
    }
    const auto& gradient = parameter.grad();
    if (!gradient.defined() && !product) continue;
    if (gradient.defined() && gradient.layout() != at::kStrided) {
      fail<TensorError>("adam", "gradients must be dense", "a sparse one");
    }
    const auto own = at_rate(options_, options_.learning_rate * ratios_[i]);
    const auto step = numbers_of_step(own, ++moments_[i].steps);
    if (product) {
      step_of_product(parameter, *product, moments_[i], step);
    } else if (!fits_one_pass(parameter)) {
      step_by_operators(parameter, gradient, moments_[i], step);
    } else if (parameter.scalar_type() == at::kFloat) {
      step_in_one_pass<float>(parameter, gradient.contiguous(), moments_[i], step);
    } else {
      step_in_one_pass<double>(parameter, gradient.contiguous(), moments_[i], step);
    }
  }
}

Acceleration accelerate(torch::nn::Module& model, Adam& optimizer) {
  return accelerate(model, [&](const at::Tensor& weight) {
    Deferred deferred;
    for (size_t i = 0; i < optimizer.parameters_.size(); ++i) {
      if (!optimizer.parameters_[i].is_same(weight)) continue;
      if (optimizer.deferred_[i] == nullptr) {
        optimizer.deferred_[i] = std::make_shared<effective::DeferredGradient>();
      }
      deferred = optimizer.deferred_[i];
    }
    return deferred;
  });
}

void Adam::restore(const std::vector<Moments>& moments) {
  bool fits = moments.size() == parameters_.size();
  for (size_t i = 0; fits && i < moments.size(); ++i) {
    for (const auto* moment : {&moments[i].exp_avg, &moments[i].exp_avg_sq}) {
      fits = fits && moment->defined() && moment->sizes() == parameters_[i].sizes() &&
             moment->scalar_type() == parameters_[i].scalar_type();
    }
  }
  if (!fits) {
    fail<TensorError>("adam", "restored moments must have the parameters' shapes and dtypes",
                      fmt::format("{} pairs of others", moments.size()));
  }
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < moments.size(); ++i) {
    moments_[i].steps = moments[i].steps;
    moments_[i].exp_avg.copy_(moments[i].exp_avg);
    moments_[i].exp_avg_sq.copy_(moments[i].exp_avg_sq);
  }
}

}  // namespace lowrank
