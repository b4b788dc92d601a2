#include "app/train/run_figures.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/io/json.h>

#include <algorithm>

#include "app/images/image_file.h"

namespace lowrank::app {

void log_options(RunLog& log, const nlohmann::ordered_json& identity) {
  log.text(0, "options", "```json\n" + to_text(identity) + "\n```");
}

std::optional<at::Tensor> singular_values_of_update(const AdaptedLayer& layer) {
  if (layer.a.dim() < 2 || layer.b.dim() < 2 || layer.a.size(0) != layer.b.size(1)) return {};
  const auto a = layer.a.detach().flatten(1), b = layer.b.detach().flatten(1);
  if (b.size(1) != a.size(0)) return {};
  // B·A has the singular values of R_B·R_Aᵀ, where B = Q_B·R_B and Aᵀ = Q_A·R_A.
  const auto r_b = std::get<1>(at::linalg_qr(b.to(at::kDouble)));
  const auto r_a = std::get<1>(at::linalg_qr(a.to(at::kDouble).t()));
  return at::linalg_svdvals(r_b.mm(r_a.t())) * std::abs(layer.scaling);
}

void log_spectra(RunLog& log, int64_t step, const Adapter& adapter) {
  for (const auto& layer : adapter.layers()) {
    const auto values = singular_values_of_update(layer);
    if (values) log.histogram(step, "singular_values/" + layer.name, *values);
  }
}

void log_mistakes(RunLog& log, int64_t step, const ExampleTask& task, const at::Tensor& indices) {
  constexpr int64_t kMostTried = 1000, kMostShown = 8;
  if (!task.data->holds_images() || task.data->classes == 0) return;
  const auto tried = indices.slice(0, 0, kMostTried);
  const auto found = outputs_at(task, tried).argmax(1).cpu();
  const auto wrong = found.ne(batch_labels(*task.data, tried)).nonzero().flatten();
  for (int64_t i = 0; i < std::min(kMostShown, wrong.numel()); ++i) {
    const auto place = wrong[i].item<int64_t>();
    const auto index = tried[place].item<int64_t>();
    const auto image = task.data->inputs[index];
    log.image(step,
              fmt::format("mistakes/{} ({} taken for {})", index,
                          class_name(*task.data, task.data->labels[index].item<int64_t>()),
                          class_name(*task.data, found[place].item<int64_t>())),
              png_bytes(image), image.size(-2), image.size(-1));
  }
}

}  // namespace lowrank::app
