// Parts of a program that XLA cannot compile: it calls a TensorFlow session for them.
//
// The session runs on the calling thread and takes no lock of Python. Where an op fails, a flag that
// is otherwise zero is NaN.

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <vector>

#include "call.h"
#include "tensorflow/core/framework/graph.pb.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

namespace pymc3_tf {
namespace {

using tensorflow::Tensor;

// So many calls, or so many seconds, tell what one of them takes.
constexpr int kCalls = 20;
constexpr double kSeconds = 0.1;

struct Array {
  tensorflow::DataType dtype;
  tensorflow::TensorShape shape;
  std::string name;

  std::size_t bytes() const { return shape.num_elements() * tensorflow::DataTypeSize(dtype); }
};

class Island {
 public:
  // Returns an empty text, or why it cannot be.
  std::string Open(const tensorflow::GraphDef& graph, const std::string& description) {
    std::istringstream words(description);
    std::size_t inputs = 0, outputs = 0;
    words >> inputs >> outputs;
    inputs_ = Read(words, inputs);
    outputs_ = Read(words, outputs);
    tensorflow::SessionOptions options;
    options.config.set_inter_op_parallelism_threads(-1);
    tensorflow::CallableOptions callable;
    callable.mutable_run_options()->set_inter_op_thread_pool(-1);
    for (const Array& input : inputs_) callable.add_feed(input.name);
    for (const Array& output : outputs_) callable.add_fetch(output.name);
    tensorflow::Session* session = nullptr;
    auto status = tensorflow::NewSession(options, &session);
    session_.reset(session);
    if (status.ok()) status = session_->Create(graph);
    if (status.ok()) status = session_->MakeCallable(callable, &callable_);
    return status.ok() ? "" : status.ToString();
  }

  // The last result is the flag.
  void Call(void** results, const void** operands) {
    std::vector<Tensor> feeds, fetches;
    for (std::size_t i = 0; i < inputs_.size(); i++) {
      feeds.emplace_back(inputs_[i].dtype, inputs_[i].shape);
      std::memcpy(feeds[i].data(), operands[i], inputs_[i].bytes());
    }
    const auto status = session_->RunCallable(callable_, feeds, &fetches, nullptr);
    std::string failed = status.ok() ? "" : status.ToString();
    for (std::size_t i = 0; i < outputs_.size(); i++) {
      if (failed.empty() &&
          (fetches[i].dtype() != outputs_[i].dtype || fetches[i].shape() != outputs_[i].shape)) {
        failed = "the shape of a result has changed from " + outputs_[i].shape.DebugString() +
                 " to " + fetches[i].shape().DebugString();
      }
    }
    for (std::size_t i = 0; i < outputs_.size(); i++) {
      if (failed.empty()) {
        std::memcpy(results[i], fetches[i].data(), outputs_[i].bytes());
      } else {
        std::memset(results[i], 0, outputs_[i].bytes());
      }
    }
    *static_cast<double*>(results[outputs_.size()]) =
        failed.empty() ? 0.0 : std::numeric_limits<double>::quiet_NaN();
    if (!failed.empty()) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (failures_++ == 0) first_ = failed;
    }
  }

  // Returns the seconds of a call, the median of some. Failures do not count.
  double Time(const void** operands) {
    std::vector<std::vector<char>> memory;
    for (const Array& output : outputs_) memory.emplace_back(output.bytes());
    double flag, sum = 0;
    std::vector<double> times;
    std::vector<void*> results;
    for (auto& bytes : memory) results.push_back(bytes.data());
    results.push_back(&flag);
    // The first calls do what the others need not do again.
    for (int i = 0; i < kCalls && (i < 3 || sum < kSeconds); i++) {
      const auto begin = std::chrono::steady_clock::now();
      Call(results.data(), operands);
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
      times.push_back(spent.count());
      sum += spent.count();
    }
    std::string first;
    TakeFailures(&first);
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    return times[times.size() / 2];
  }

  // Returns how often it failed since the last time, and what was said first.
  long TakeFailures(std::string* first) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const long number = failures_;
    *first = first_;
    failures_ = 0;
    return number;
  }

 private:
  static std::vector<Array> Read(std::istringstream& words, std::size_t number) {
    std::vector<Array> arrays(number);
    for (Array& array : arrays) {
      int dtype = 0, rank = 0;
      words >> array.name >> dtype >> rank;
      array.dtype = static_cast<tensorflow::DataType>(dtype);
      for (int i = 0; i < rank; i++) {
        long size = 0;
        words >> size;
        array.shape.AddDim(size);
      }
    }
    return arrays;
  }

  std::vector<Array> inputs_, outputs_;
  std::unique_ptr<tensorflow::Session> session_;
  tensorflow::Session::CallableHandle callable_ = 0;
  std::mutex mutex_;
  long failures_ = 0;
  std::string first_;
};

// Never destroyed: threads may call them until the process ends.
std::mutex& islands_mutex = *new std::mutex;
auto& islands = *new std::map<long, std::shared_ptr<Island>>;

std::shared_ptr<Island> Find(long number) {
  const std::lock_guard<std::mutex> lock(islands_mutex);
  const auto found = islands.find(number);
  return found == islands.end() ? nullptr : found->second;
}

// (inputs) -> outputs, flag; numbers: that of the island.
void CallIsland(void* out, const void** in, const char* config, std::size_t length, void*) {
  const auto island = Find(Numbers(config, length).take());
  island->Call(static_cast<void**>(out), in);
}

void Copy(const std::string& text, char* to, std::size_t size) {
  to[text.copy(to, size - 1)] = 0;
}

}  // namespace
}  // namespace pymc3_tf

// Returns the number of a new island, or -1 and why.
PYMC3_TF_EXPORT long pymc3_tf_open(const char* graph, long length, const char* description,
                                   char* text, long size) {
  auto island = std::make_shared<pymc3_tf::Island>();
  tensorflow::GraphDef graph_def;
  if (!graph_def.ParseFromArray(graph, length)) {
    pymc3_tf::Copy("its graph cannot be read", text, size);
    return -1;
  }
  const std::string reason = island->Open(graph_def, description);
  if (!reason.empty()) {
    pymc3_tf::Copy(reason, text, size);
    return -1;
  }
  const std::lock_guard<std::mutex> lock(pymc3_tf::islands_mutex);
  static long number = 0;
  pymc3_tf::islands[number] = island;
  return number++;
}

PYMC3_TF_EXPORT long pymc3_tf_failures(long number, char* text, long size) {
  std::string first;
  const long failures = pymc3_tf::Find(number)->TakeFailures(&first);
  pymc3_tf::Copy(first, text, size);
  return failures;
}

PYMC3_TF_EXPORT double pymc3_tf_time(long number, const void** operands) {
  return pymc3_tf::Find(number)->Time(operands);
}

PYMC3_TF_EXPORT void pymc3_tf_close(long number) {
  const std::lock_guard<std::mutex> lock(pymc3_tf::islands_mutex);
  pymc3_tf::islands.erase(number);
}

PYMC3_TF_EXPORT void pymc3_tf_register() { pymc3_tf::Register("pymc3_tf.island", pymc3_tf::CallIsland); }
