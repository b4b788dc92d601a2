#pragma once

/// Marks what is part of the library's public interface; everything else is hidden.
#define LOWRANK_API __attribute__((visibility("default")))
