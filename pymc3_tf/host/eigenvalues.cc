// Eigenvalues and eigenvectors of symmetric matrices for XLA on processors.
//
// Eigen is TensorFlow's own and works on the calling thread: chains in threads do not wait for each
// other, and give the same numbers whatever their number. What fails becomes NaN.

#include "call.h"

#include <limits>

#include "Eigen/Eigenvalues"

namespace pymc3_tf {
namespace {

// (matrix) -> eigenvalues, eigenvectors; numbers: batch, n.
void Eigenvalues(void* out, const void** in, const char* config, std::size_t length, void*) {
  Numbers numbers(config, length);
  const long batch = numbers.take(), n = numbers.take();
  void** results = static_cast<void**>(out);
  for (long i = 0; i < batch; i++) {
    Eigen::Map<Eigen::VectorXd> values(static_cast<double*>(results[0]) + i * n, n);
    Output vectors(static_cast<double*>(results[1]) + i * n * n, n, n);
    const Input matrix(static_cast<const double*>(in[0]) + i * n * n, n, n);
    const Eigen::SelfAdjointEigenSolver<Matrix> solver(matrix);
    if (matrix.allFinite() && solver.info() == Eigen::Success) {
      values = solver.eigenvalues();
      vectors = solver.eigenvectors();
    } else {
      values.setConstant(std::numeric_limits<double>::quiet_NaN());
      vectors.setConstant(std::numeric_limits<double>::quiet_NaN());
    }
  }
}

}  // namespace
}  // namespace pymc3_tf

PYMC3_TF_EXPORT void pymc3_tf_register() {
  pymc3_tf::Register("pymc3_tf.eigenvalues", pymc3_tf::Eigenvalues);
}
