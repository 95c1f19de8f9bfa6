// Packs cut out of a stock against a plain loop.
#pragma once
#include <cstdint>

// One line, or false where some are wrong.
bool check_repack(int count, uint64_t seed);
