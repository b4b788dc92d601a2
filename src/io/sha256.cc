#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/sha256.h>
#include <openssl/evp.h>

#include <array>

#include "io/dense_bytes.h"

namespace lowrank {
namespace {

void require(bool done) {
  if (!done) {
    fail<Error>("sha256", "OpenSSL must provide SHA-256", "a failure of its EVP interface");
  }
}

}  // namespace

struct Sha256::State {
  struct Free {
    void operator()(EVP_MD_CTX* freed) const { EVP_MD_CTX_free(freed); }
  };
  using Context = std::unique_ptr<EVP_MD_CTX, Free>;
  Context context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr &&
          EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(const void* bytes, size_t count) {
  if (count > 0) require(EVP_DigestUpdate(state_->context.get(), bytes, count) == 1);
}

std::string Sha256::hex() const {
  // Finishing ends a context, so a copy of it is finished.
  const State::Context copy(EVP_MD_CTX_new());
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int length = 0;
  require(copy != nullptr && EVP_MD_CTX_copy_ex(copy.get(), state_->context.get()) == 1 &&
          EVP_DigestFinal_ex(copy.get(), digest.data(), &length) == 1);
  std::string text;
  for (unsigned int i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 sum;
  sum.update(bytes.data(), bytes.size());
  return sum.hex();
}

std::string sha256_hex(const at::Tensor& tensor) {
  return sha256_hex(io::bytes_of(io::to_contiguous_cpu(tensor, "sha256", "the input")));
}

}  // namespace lowrank
