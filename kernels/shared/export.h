// Functions that Python calls: C names, visible outside the library.
#pragma once
#include <cstdint>
#if defined(_WIN32)
#define NK_EXPORT extern "C" __declspec(dllexport)
#else
#define NK_EXPORT extern "C" __attribute__((visibility("default")))
#endif
