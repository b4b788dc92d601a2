#include "train/log/event_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/crc.hpp>
#include <chrono>
#include <vector>

#include "train/log/wire.h"

namespace lowrank {
namespace {

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// TensorBoard reads the files of a folder in the order of their names.
std::filesystem::path new_file_in(const std::filesystem::path& folder) {
  static std::atomic<int> count{0};
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return folder / fmt::format("events.out.tfevents.{:.6f}.{}.{}.{}", wall_time(), host.data(),
                              ::getpid(), count++);
}

std::string little_endian(uint64_t value, size_t size) {
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xffU);
  return bytes;
}

/// Length, its checksum, data, its checksum.
std::string record(const Message& event) {
  const auto& data = event.encoded();
  const auto length = little_endian(data.size(), sizeof(uint64_t));
  return length + little_endian(masked_crc32c(length), sizeof(uint32_t)) + data +
         little_endian(masked_crc32c(data), sizeof(uint32_t));
}

Message event_at(int64_t step) {
  return Message().real(1, wall_time()).number(2, static_cast<uint64_t>(step));
}

/// An event with a Summary of these values.
std::string summary(int64_t step, const std::vector<Message>& values) {
  Message summary;
  for (const auto& value : values) summary.message(1, value);
  return record(event_at(step).message(5, summary));
}

/// HistogramProto: bucket i counts the values above limit i - 1 and up to limit i.
Message histogram_of(const at::Tensor& given) {
  constexpr int64_t kBuckets = 30;
  const auto flat = given.detach().to(at::kCPU, at::kDouble).flatten();
  const auto values = flat.masked_select(at::isfinite(flat));
  Message histogram;
  if (values.numel() == 0) return histogram;
  const double least = values.min().item<double>(), most = values.max().item<double>();
  std::vector<double> limits, counts;
  if (least == most) {
    limits = {most};
    counts = {static_cast<double>(values.numel())};
  } else {
    const auto in_buckets = values.histc(kBuckets, least, most);
    for (int64_t i = 0; i < kBuckets; ++i) {
      limits.push_back(i + 1 == kBuckets ? most
                                         : least + (most - least) * static_cast<double>(i + 1) /
                                                       static_cast<double>(kBuckets));
      counts.push_back(in_buckets[i].item<double>());
    }
  }
  return histogram.real(1, least)
      .real(2, most)
      .real(3, static_cast<double>(values.numel()))
      .real(4, values.sum().item<double>())
      .real(5, values.square().sum().item<double>())
      .reals(6, limits)
      .reals(7, counts);
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  const uint32_t sum = crc.checksum();
  return (sum >> 15U | sum << 17U) + 0xa282ead8U;
}

EventFile::EventFile(const std::filesystem::path& folder) : file_(new_file_in(folder)) {
  file_.append(record(Message().real(1, wall_time()).bytes(3, "brain.Event:2")));
}

void EventFile::start(int64_t step) {
  constexpr uint64_t kStart = 1;  // SessionLog.START
  file_.append(record(event_at(step).message(7, Message().number(1, kStart))));
}

void EventFile::scalars(int64_t step, const Metrics& values) {
  std::vector<Message> messages;
  for (const auto& [name, value] : values) {
    messages.push_back(Message().bytes(1, name).real(2, static_cast<float>(value)));
  }
  file_.append(summary(step, messages));
}

void EventFile::histogram(int64_t step, const std::string& tag, const at::Tensor& values) {
  file_.append(summary(step, {Message().bytes(1, tag).message(5, histogram_of(values))}));
}

void EventFile::image(int64_t step, const std::string& tag, const std::string& png, int64_t height,
                      int64_t width) {
  constexpr uint64_t kGray = 1;
  const auto image = Message()
                         .number(1, static_cast<uint64_t>(height))
                         .number(2, static_cast<uint64_t>(width))
                         .number(3, kGray)
                         .bytes(4, png);
  file_.append(summary(step, {Message().bytes(1, tag).message(4, image)}));
}

void EventFile::text(int64_t step, const std::string& tag, const std::string& markdown) {
  constexpr uint64_t kString = 7;  // DT_STRING
  const auto shape = Message().message(2, Message().number(1, 1));
  const auto tensor = Message().number(1, kString).message(2, shape).bytes(8, markdown);
  const auto metadata = Message().message(1, Message().bytes(1, "text"));
  file_.append(summary(step, {Message().bytes(1, tag).message(8, tensor).message(9, metadata)}));
}

}  // namespace lowrank
