#include "train/processes/route.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <stdexcept>

namespace lowrank {

std::string address_towards(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), "9", &hints, &found) != 0) {
    throw std::runtime_error("the host \"" + host + "\" is not known");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> freed(found, &::freeaddrinfo);
  for (const auto* address = found; address != nullptr; address = address->ai_next) {
    // Connecting a datagram socket sends nothing; it only chooses the route.
    const int socket = ::socket(address->ai_family, address->ai_socktype, address->ai_protocol);
    if (socket < 0) continue;
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    std::array<char, NI_MAXHOST> text{};
    const bool known = ::connect(socket, address->ai_addr, address->ai_addrlen) == 0 &&
                       ::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                       ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text.data(),
                                     text.size(), nullptr, 0, NI_NUMERICHOST) == 0;
    ::close(socket);
    if (known) return text.data();
  }
  throw std::runtime_error("there is no route to \"" + host + "\"");
}

}  // namespace lowrank
