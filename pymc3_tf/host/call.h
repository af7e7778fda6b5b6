// What all routines share: how XLA finds them, and how they are told sizes.

#ifndef PYMC3_TF_HOST_CALL_H_
#define PYMC3_TF_HOST_CALL_H_

#if __has_include("xla/service/custom_call_target_registry.h")
#include "xla/service/custom_call_target_registry.h"
#else
#include "tensorflow/compiler/xla/service/custom_call_target_registry.h"
#endif

#include <cstdlib>
#include <string>

#include "Eigen/Core"

#define PYMC3_TF_EXPORT extern "C" __attribute__((visibility("default")))

namespace pymc3_tf {

// What XLA calls: results, operands, the text that a call was compiled with, its length, a status.
// Several results come as an array of pointers.
using Routine = void(void*, const void**, const char*, std::size_t, void*);

inline void Register(const char* name, Routine* routine) {
  auto* registry = xla::CustomCallTargetRegistry::Global();
  // Another routine of the same name would end the process.
  if (registry->Lookup(name, "Host") == nullptr) {
    registry->Register(name, reinterpret_cast<void*>(routine), "Host");
  }
}

// The numbers that a call was compiled with: it gets them as text, in decimals.
class Numbers {
 public:
  Numbers(const char* text, std::size_t length)
      : text_(text, length), next_(text_.c_str()) {}
  long take() { return std::strtol(next_, const_cast<char**>(&next_), 10); }

 private:
  const std::string text_;
  const char* next_;
};

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Input = Eigen::Map<const Matrix>;
using Output = Eigen::Map<Matrix>;

}  // namespace pymc3_tf

#endif  // PYMC3_TF_HOST_CALL_H_
