// The op EccentricAnomaly: Kepler's equation E - e sin E = M, solved for E.

#include <cmath>
#include <limits>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

using namespace tensorflow;

REGISTER_OP("EccentricAnomaly")
    .Attr("T: {float, double}")
    .Input("mean_anomaly: T")
    .Input("eccentricity: T")
    .Output("eccentric_anomaly: T")
    .SetShapeFn([](shape_inference::InferenceContext* context) {
      shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 0, &scalar));
      context->set_output(0, context->input(0));
      return Status();
    });

// Newton's method from E = pi converges for any 0 <= M <= 2 pi and 0 <= e < 1: Charles & Tatum
// (1998), Celestial Mechanics and Dynamical Astronomy 69, 357.
template <typename T>
T Solve(T mean_anomaly, T e) {
  const T pi = 3.14159265358979323846;
  const T turns = 2 * pi * std::floor(mean_anomaly / (2 * pi));
  const T mean = mean_anomaly - turns;
  T anomaly = pi;
  for (int i = 0; i < 50; ++i) {
    const T step = (anomaly - e * std::sin(anomaly) - mean) / (1 - e * std::cos(anomaly));
    anomaly -= step;
    if (std::abs(step) <= 4 * std::numeric_limits<T>::epsilon()) break;
  }
  return anomaly + turns;
}

template <typename T>
class EccentricAnomaly : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& mean_anomaly = context->input(0);
    OP_REQUIRES(context, context->input(1).dims() == 0,
                errors::InvalidArgument("the eccentricity has to be a scalar"));
    const T e = context->input(1).scalar<T>()();
    OP_REQUIRES(context, e >= 0 && e < 1,
                errors::InvalidArgument("assertion failed: the eccentricity is ", e,
                                        ", and has to be in [0, 1)"));
    Tensor* result = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, mean_anomaly.shape(), &result));
    const auto given = mean_anomaly.flat<T>();
    auto found = result->flat<T>();
    for (int64_t i = 0; i < given.size(); ++i) found(i) = Solve(given(i), e);
  }
};

#define REGISTER(T)                                                            \
  REGISTER_KERNEL_BUILDER(                                                     \
      Name("EccentricAnomaly").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
      EccentricAnomaly<T>)
REGISTER(float);
REGISTER(double);
