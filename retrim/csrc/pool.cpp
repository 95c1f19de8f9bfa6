#include "pool.hpp"

#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace retrim {
namespace {

class Pool {
 public:
  void run(int count, const std::function<void(int)>& task) {
    std::unique_lock<std::mutex> turn(turn_);
    grow(count - 1);
    {
      std::lock_guard<std::mutex> hold(lock_);
      task_ = &task;
      wanted_ = count - 1;
      pending_ = count - 1;
      round_++;
    }
    wake_.notify_all();
    task(0);
    std::unique_lock<std::mutex> hold(lock_);
    done_.wait(hold, [this] { return pending_ == 0; });
    task_ = nullptr;
  }

 private:
  void grow(int workers) {
    for (int i = int(size_); i < workers; i++, size_++)
      std::thread([this, i] { work(i); }).detach();
  }

  void work(int index) {
    long seen = 0;
    for (;;) {
      const std::function<void(int)>* task;
      {
        std::unique_lock<std::mutex> hold(lock_);
        wake_.wait(hold, [&] { return round_ != seen; });
        seen = round_;
        if (index >= wanted_) continue;
        task = task_;
      }
      (*task)(index + 1);
      std::lock_guard<std::mutex> hold(lock_);
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_, lock_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* task_ = nullptr;
  int wanted_ = 0, pending_ = 0;
  long round_ = 0;
  std::size_t size_ = 0;
};

}  // namespace

void run_parallel(int count, const std::function<void(int)>& task) {
  if (count <= 1) return task(0);
  static std::mutex birth;
  static Pool* pool = nullptr;
  static pid_t owner = 0;
  {
    std::lock_guard<std::mutex> hold(birth);
    // never destroyed: its detached threads may outlive static destructors; a forked child leaves
    // its parent's pool, whose threads it does not have, behind
    if (pool == nullptr || owner != getpid()) {
      pool = new Pool;
      owner = getpid();
    }
  }
  pool->run(count, task);
}

}  // namespace retrim
