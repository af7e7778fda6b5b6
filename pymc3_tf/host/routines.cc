// Cholesky factors, triangular systems and products for programs of XLA on processors.
//
// Eigen is TensorFlow's own and works on the calling thread: chains in threads do not wait for each
// other, and give the same numbers whatever their number. What fails becomes NaN.

#include "call.h"

#include <limits>

#include "Eigen/Cholesky"

namespace pymc3_tf {
namespace {

// (matrix) -> factor; numbers: batch, n.
void Cholesky(void* out, const void** in, const char* config, std::size_t length, void*) {
  Numbers numbers(config, length);
  const long batch = numbers.take(), n = numbers.take();
  for (long i = 0; i < batch; i++) {
    Output factor(static_cast<double*>(out) + i * n * n, n, n);
    factor = Input(static_cast<const double*>(in[0]) + i * n * n, n, n);
    Eigen::Ref<Matrix> in_place(factor);
    const Eigen::LLT<Eigen::Ref<Matrix>> llt(in_place);
    if (llt.info() == Eigen::Success) {
      factor.triangularView<Eigen::StrictlyUpper>().setZero();
    } else {
      factor.setConstant(std::numeric_limits<double>::quiet_NaN());
    }
  }
}

// (matrix, rhs) -> solution; numbers: batch, n, columns, lower, adjoint.
void TriangularSolve(void* out, const void** in, const char* config, std::size_t length, void*) {
  Numbers numbers(config, length);
  const long batch = numbers.take(), n = numbers.take(), columns = numbers.take();
  const bool lower = numbers.take(), adjoint = numbers.take();
  const auto solve = [&](const Input& matrix, auto x) {
    if (lower && adjoint) {
      matrix.transpose().triangularView<Eigen::Upper>().solveInPlace(x);
    } else if (adjoint) {
      matrix.transpose().triangularView<Eigen::Lower>().solveInPlace(x);
    } else if (lower) {
      matrix.triangularView<Eigen::Lower>().solveInPlace(x);
    } else {
      matrix.triangularView<Eigen::Upper>().solveInPlace(x);
    }
  };
  for (long i = 0; i < batch; i++) {
    const Input matrix(static_cast<const double*>(in[0]) + i * n * n, n, n);
    Output solution(static_cast<double*>(out) + i * n * columns, n, columns);
    solution = Input(static_cast<const double*>(in[1]) + i * n * columns, n, columns);
    if (columns == 1) {
      solve(matrix, solution.col(0));
    } else {
      solve(matrix, Eigen::Ref<Matrix>(solution));
    }
  }
}

// (left, right) -> product; numbers: batch, n, inner, m, transpose left, transpose right.
void Product(void* out, const void** in, const char* config, std::size_t length, void*) {
  Numbers numbers(config, length);
  const long batch = numbers.take(), n = numbers.take(), inner = numbers.take();
  const long m = numbers.take(), transpose_left = numbers.take(), transpose_right = numbers.take();
  for (long i = 0; i < batch; i++) {
    const double* const x = static_cast<const double*>(in[0]) + i * n * inner;
    const double* const y = static_cast<const double*>(in[1]) + i * inner * m;
    Output product(static_cast<double*>(out) + i * n * m, n, m);
    if (transpose_left && transpose_right) {
      product.noalias() = Input(x, inner, n).transpose() * Input(y, m, inner).transpose();
    } else if (transpose_left) {
      product.noalias() = Input(x, inner, n).transpose() * Input(y, inner, m);
    } else if (transpose_right) {
      product.noalias() = Input(x, n, inner) * Input(y, m, inner).transpose();
    } else {
      product.noalias() = Input(x, n, inner) * Input(y, inner, m);
    }
  }
}

}  // namespace
}  // namespace pymc3_tf

PYMC3_TF_EXPORT void pymc3_tf_register() {
  pymc3_tf::Register("pymc3_tf.cholesky", pymc3_tf::Cholesky);
  pymc3_tf::Register("pymc3_tf.triangular_solve", pymc3_tf::TriangularSolve);
  pymc3_tf::Register("pymc3_tf.product", pymc3_tf::Product);
}
