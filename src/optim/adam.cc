#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/optim/adam.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "kernels/adam_step.h"
#include "kernels/products.h"
#include "optim/acceleration.h"

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
  if (!(options.weight_decay >= 0) || !std::isfinite(options.weight_decay)) {
    fail<ArgumentError>("adam", "the weight decay must be finite and at least 0",
                        fmt::format("{}", options.weight_decay));
  }
}

template <class number>
void step_in_one_pass(const at::Tensor& parameter, const at::Tensor& gradient,
                      const Adam::Moments& moments, const kernels::AdamStep& step) {
  kernels::adam_step(parameter.data_ptr<number>(), gradient.data_ptr<number>(),
                     moments.exp_avg.data_ptr<number>(), moments.exp_avg_sq.data_ptr<number>(),
                     parameter.numel(), step);
  parameter.unsafeGetTensorImpl()->bump_version();  // LibTorch has not seen this write
}

void step_of_product(const at::Tensor& parameter, const effective::GradientProduct& gradient,
                     const Adam::Moments& moments, const kernels::AdamStep& step) {
  const kernels::MatmulOperands operands = {.x = kernels::Operand(gradient.dy).t(),
                                            .w = gradient.x};
  kernels::adam_step(parameter.data_ptr<float>(), moments.exp_avg.data_ptr<float>(),
                     moments.exp_avg_sq.data_ptr<float>(), kernels::thin_product(operands), step);
  parameter.unsafeGetTensorImpl()->bump_version();
}

/// The step by LibTorch's operators, for any dtype, device and layout.
void step_by_operators(const at::Tensor& parameter, const at::Tensor& gradient,
                       const Adam::Moments& moments, const kernels::AdamStep& step) {
  auto m = moments.exp_avg, v = moments.exp_avg_sq;
  m.mul_(step.beta1).add_(gradient, 1 - step.beta1);
  v.mul_(step.beta2).addcmul_(gradient, gradient, 1 - step.beta2);
  const auto denominator = v.sqrt().div_(step.root_correction2).add_(step.epsilon);
  if (step.decay != 1) parameter.mul_(step.decay);
  parameter.addcdiv_(m, denominator, -step.step_size);
}

kernels::AdamStep numbers_of_step(const AdamOptions& options, int64_t number) {
  const auto t = static_cast<double>(number);
  return {.beta1 = options.beta1,
          .beta2 = options.beta2,
          .epsilon = options.epsilon,
          .step_size = options.learning_rate / (1 - std::pow(options.beta1, t)),
          .root_correction2 = std::sqrt(1 - std::pow(options.beta2, t)),
          .decay = 1 - options.learning_rate * options.weight_decay};
}

bool is_contiguous_cpu(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.is_contiguous() && !tensor.is_neg() &&
         !tensor._is_zerotensor();
}

at::Tensor contiguous(const at::Tensor& tensor) {
  return is_contiguous_cpu(tensor) ? tensor : tensor.clone(at::MemoryFormat::Contiguous);
}

bool fits_one_pass(const at::Tensor& parameter, const Adam::Moments& moments) {
  return (parameter.scalar_type() == at::kFloat || parameter.scalar_type() == at::kDouble) &&
         is_contiguous_cpu(parameter) && is_contiguous_cpu(moments.exp_avg) &&
         is_contiguous_cpu(moments.exp_avg_sq);
}

using Deferred = std::shared_ptr<effective::DeferredGradient>;
using Products = std::vector<std::optional<effective::GradientProduct>>;

Products products_of(const std::vector<Deferred>& deferred) {
  Products products(deferred.size());
  for (size_t i = 0; i < deferred.size(); ++i) {
    if (deferred[i] != nullptr) products[i] = deferred[i]->held();
  }
  return products;
}

void drop(const std::vector<Deferred>& deferred) {
  for (const auto& place : deferred) {
    if (place != nullptr) place->drop();
  }
}

bool is_alike(const at::Tensor& one, const at::Tensor& other) {
  return one.sizes() == other.sizes() && one.scalar_type() == other.scalar_type() &&
         one.device() == other.device();
}

/// Checked for all parameters before any of them changes.
void require_fitting(const at::Tensor& parameter, const Adam::Moments& moments,
                     const std::optional<effective::GradientProduct>& product) {
  const auto& gradient = parameter.grad();
  if (gradient.defined() && gradient.layout() != at::kStrided) {
    fail<TensorError>("adam", "gradients must be dense", "a sparse one");
  }
  const bool fits =
      is_alike(parameter, moments.exp_avg) &&
      (!gradient.defined() || is_alike(parameter, gradient)) &&
      (!product || parameter.sizes() == at::IntArrayRef({product->dy.size(1), product->x.size(1)}));
  if (fits) return;
  fail<TensorError>("adam", "a parameter must keep the shape, dtype and device that it had",
                    fmt::format("{} {} on {}, with a gradient or moments of others",
                                c10::toString(parameter.scalar_type()),
                                fmt::join(parameter.sizes(), " x "), parameter.device().str()),
                    "Make the optimizer after module.to() and set_data(), and call zero_grad().");
}

/// Returns whether the product can be formed while the parameters change: it must not read any of
/// them, and it must have the layout in which kernels::product() reads x, so that the step is the
/// same bit for bit.
bool can_be_folded(const effective::GradientProduct& product,
                   const std::vector<at::Tensor>& parameters) {
  if (product.x.size(1) > 1 && product.x.stride(1) != 1) return false;
  return std::none_of(parameters.begin(), parameters.end(), [&](const auto& parameter) {
    return product.x.is_alias_of(parameter) || product.dy.is_alias_of(parameter);
  });
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
  const auto can_move = [](const at::Tensor& parameter) {
    return parameter.requires_grad() || parameter.grad().defined();
  };
  if (std::none_of(parameters_.begin(), parameters_.end(), can_move)) {
    fail<ArgumentError>("adam", "a parameter to train must require a gradient",
                        fmt::format("{} that are all frozen", parameters_.size()),
                        "The model's own parameters are frozen while it has an adapter: pass "
                        "adapter.parameters().");
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
  drop(deferred_);
}

void Adam::form_gradients() {
  const at::NoGradGuard no_grad;
  const auto products = products_of(deferred_);
  drop(deferred_);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (products[i]) add_to_gradient(parameters_[i], *products[i]);
  }
}

void Adam::step() {
  const at::NoGradGuard no_grad;
  auto products = products_of(deferred_);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].grad().defined() && !products[i]) continue;
    require_fitting(parameters_[i], moments_[i], products[i]);
  }
  drop(deferred_);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& parameter = parameters_[i];
    auto& product = products[i];
    if (!product || (!parameter.grad().defined() && fits_one_pass(parameter, moments_[i]) &&
                     can_be_folded(*product, parameters_))) {
      continue;
    }
    add_to_gradient(parameter, *product);
    product.reset();
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& parameter = parameters_[i];
    const auto& product = products[i];
    const auto& gradient = parameter.grad();
    if (!gradient.defined() && !product) continue;
    const auto own = at_rate(options_, options_.learning_rate * ratios_[i]);
    const auto step = numbers_of_step(own, ++moments_[i].steps);
    if (product) {
      step_of_product(parameter, *product, moments_[i], step);
    } else if (!fits_one_pass(parameter, moments_[i])) {
      step_by_operators(parameter, gradient, moments_[i], step);
    } else if (parameter.scalar_type() == at::kFloat) {
      step_in_one_pass<float>(parameter, contiguous(gradient), moments_[i], step);
    } else {
      step_in_one_pass<double>(parameter, contiguous(gradient), moments_[i], step);
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
