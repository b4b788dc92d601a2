#pragma once

#include <string>

namespace lowrank {

/// Returns the address of this machine from which it reaches `host`, as text: a name would be
/// resolved to loopback on many machines. Throws std::runtime_error if there is no way.
std::string address_towards(const std::string& host);

}  // namespace lowrank
