#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/process_group.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "train/processes/route.h"

namespace lowrank {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Gloo = c10d::ProcessGroupGloo;

/// The first line of what Gloo or c10d says, without what is for their developers.
std::string first_line(const std::exception& error) {
  std::string text = error.what();
  if (const auto place = text.rfind("] ", text.find('\n')); place != std::string::npos) {
    text.erase(0, place + 2);
  }
  text.resize(std::min(text.find('\n'), text.size()));
  while (text.ends_with('.') || text.ends_with(' ')) text.pop_back();
  return text;
}

/// c10d appends to the file, so it has a name of its own beside the one that was given, which may
/// be anything. Where it cannot be opened, c10d would end the process.
std::string meeting_file(const std::filesystem::path& given) {
  auto file = given;
  file += ".lowrank-meeting";
  std::error_code none;
  const bool is_other =
      std::filesystem::exists(file, none) && !std::filesystem::is_regular_file(file, none);
  const int opened = is_other ? -1 : ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (opened < 0) {
    fail<FileError>("train",
                    fmt::format("\"{}\" must be a file that can be written", file.string()),
                    is_other ? "something else"
                             : fmt::format("\"{}\"", std::generic_category().message(errno)));
  }
  ::close(opened);
  return file.string();
}

c10::intrusive_ptr<c10d::Store> store_of(const ProcessGroupOptions& options, Milliseconds timeout) {
  c10::intrusive_ptr<c10d::Store> store;
  if (!options.file.empty()) {
    store = c10::make_intrusive<c10d::FileStore>(meeting_file(options.file),
                                                 static_cast<int>(options.size));
  } else {
    c10d::TCPStoreOptions tcp;
    tcp.port = static_cast<uint16_t>(options.port);
    tcp.isServer = options.rank == 0 && !options.has_agent;
    tcp.numWorkers = static_cast<size_t>(options.size);
    tcp.waitWorkers = !options.has_agent;
    tcp.timeout = timeout;
    store = c10::make_intrusive<c10d::TCPStore>(options.address, tcp);
  }
  store->setTimeout(timeout);
  return c10::make_intrusive<c10d::PrefixStore>(options.prefix, store);
}

class GlooGroup final : public ProcessGroup {
 public:
  explicit GlooGroup(const ProcessGroupOptions& options) : options_(options) {
    const auto timeout = Milliseconds(static_cast<int64_t>(1000 * options.timeout_seconds));
    const auto meet = [&] {
      auto gloo = Gloo::Options::create();
      gloo->timeout = timeout;
      gloo->devices.push_back(device());
      group_ = std::make_unique<Gloo>(store_of(options, timeout), static_cast<int>(options.rank),
                                      static_cast<int>(options.size), gloo);
    };
    guarded("find each other", meet, hint_on_meeting());
  }

  int64_t rank() const override { return options_.rank; }
  int64_t size() const override { return options_.size; }

  std::vector<at::Tensor> all_gather(const at::Tensor& own) override {
    std::vector<at::Tensor> inputs = {own.cpu().contiguous()};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int64_t i = 0; i < size(); ++i) outputs[0].push_back(at::empty_like(inputs[0]));
    guarded("go on", [&] { group_->allgather(outputs, inputs)->wait(); });
    return outputs[0];
  }

  void broadcast(at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors = {tensor};
    guarded("go on", [&] { group_->broadcast(tensors)->wait(); });
  }

 private:
  std::shared_ptr<::gloo::transport::Device> device() const {
    if (const char* name = std::getenv("GLOO_SOCKET_IFNAME"); name != nullptr && *name != '\0') {
      return Gloo::createDeviceForInterface(name);
    }
    const bool is_one_machine = !options_.file.empty();
    return Gloo::createDeviceForHostname(is_one_machine ? "127.0.0.1"
                                                        : address_towards(options_.address));
  }

  template <class Work>
  void guarded(const char* what, const Work& work, const char* hint = "") const {
    try {
      work();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      const auto reason = first_line(error);
      if (reason.find("Address already in use") != std::string::npos) {
        fail<ProcessGroupError>("train", fmt::format("port {} must be free", options_.port),
                                "one that another program uses", "Choose another MASTER_PORT.");
      }
      fail<ProcessGroupError>("train", fmt::format("all {} processes must {}", size(), what),
                              fmt::format("in process {} \"{}\"", rank(), reason), hint);
    }
  }

  /// The store that torchrun holds is of its own version of PyTorch.
  const char* hint_on_meeting() const {
    return options_.has_agent ? "If this torchrun belongs to another version of PyTorch than "
                                "lowrank's LibTorch, pass --rendezvous FILE."
                              : "";
  }

  ProcessGroupOptions options_;
  std::unique_ptr<Gloo> group_;
};

}  // namespace

std::shared_ptr<ProcessGroup> join_processes(const ProcessGroupOptions& options) {
  constexpr int64_t kMostProcesses = 4096, kMostPort = 65535;
  constexpr double kLongest = 1e6;
  if (options.size < 1 || options.size > kMostProcesses || options.rank < 0 ||
      options.rank >= options.size) {
    fail<ArgumentError>("train",
                        fmt::format("the rank must be below the number of processes, which must be "
                                    "1 to {}",
                                    kMostProcesses),
                        fmt::format("rank {} of {}", options.rank, options.size));
  }
  if (options.file.empty() && (options.port < 1 || options.port > kMostPort)) {
    fail<ArgumentError>("train", fmt::format("the port must be 1 to {}", kMostPort),
                        fmt::format("{}", options.port));
  }
  if (!(options.timeout_seconds > 0 && options.timeout_seconds <= kLongest)) {
    fail<ArgumentError>("train",
                        fmt::format("the timeout must be above 0 and at most {}", kLongest),
                        fmt::format("{}", options.timeout_seconds));
  }
  return std::make_shared<GlooGroup>(options);
}

}  // namespace lowrank
