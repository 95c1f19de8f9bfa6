// Kernels for packs of row groups against a plain double loop.
#pragma once
#include <cstdint>
#include <vector>

#include "../linear.hpp"

// One line per instruction set that agrees, or the first faults of each.
bool check_lists(const std::vector<retrim::Isa>&, int count, uint64_t seed);
