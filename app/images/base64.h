#pragma once

#include <string>
#include <string_view>

namespace lowrank::app {

/// Returns bytes in base64 (RFC 4648, section 4).
std::string base64(std::string_view bytes);

}  // namespace lowrank::app
