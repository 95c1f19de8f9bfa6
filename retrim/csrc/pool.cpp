#include "pool.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace retrim {
namespace {

// Waking a sleeping thread takes some 25 microseconds, as long as a small layer on one thread.  So whoever
// waits looks for work a while before it sleeps: in a model the next layer comes soon.
constexpr std::chrono::microseconds kPatience{50};

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <typename Ready>
void wait_awake(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < 32; i++) {
      if (ready()) return;
      pause();
    }
    std::this_thread::yield();  // to the thread waited for, where both share a core
  } while (std::chrono::steady_clock::now() < end);
}

class Pool {
 public:
  void run(int count, const std::function<void(int)>& task) {
    std::lock_guard<std::mutex> turn(turn_);
    const int helpers = grow(count - 1);
    {
      std::lock_guard<std::mutex> hold(lock_);
      task_ = &task;
      wanted_ = helpers;
      pending_ = helpers;
      round_++;
    }
    wake_.notify_all();
    attempt(task, 0);
    for (int i = helpers + 1; i < count; i++) attempt(task, i);
    const auto done = [this] { return pending_ == 0; };
    wait_awake(done);
    std::unique_lock<std::mutex> hold(lock_);
    done_.wait(hold, done);
    if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
  }

 private:
  // How many threads there are to help, `wanted` at most: the system may refuse more.
  int grow(int wanted) {
    try {
      for (; size_ < wanted; size_++)
        std::thread([this, index = size_, seen = round_.load()] { work(index, seen); }).detach();
    } catch (const std::system_error&) {
      return size_;
    }
    return wanted;
  }

  // Keeps what a share throws, so that the others, which use the caller's memory, can be waited for.
  void attempt(const std::function<void(int)>& task, int share) {
    try {
      task(share);
    } catch (...) {
      std::lock_guard<std::mutex> hold(lock_);
      if (!failed_) failed_ = std::current_exception();
    }
  }

  void work(int index, long seen) {
    const auto called = [&] { return round_ != seen; };
    for (;;) {
      wait_awake(called);
      const std::function<void(int)>* task;
      {
        std::unique_lock<std::mutex> hold(lock_);
        wake_.wait(hold, called);
        seen = round_;
        if (index >= wanted_) continue;
        task = task_;
      }
      attempt(*task, index + 1);
      if (--pending_ == 0) {
        std::lock_guard<std::mutex> hold(lock_);
        done_.notify_one();
      }
    }
  }

  std::mutex turn_;  // held by the caller whose job runs
  int size_ = 0;     // threads started

  std::mutex lock_;  // guards the job: all below change under it
  std::condition_variable wake_, done_;
  const std::function<void(int)>* task_ = nullptr;
  int wanted_ = 0;
  std::exception_ptr failed_;    // the first that a share of this job threw
  std::atomic<long> round_{0};   // jobs given out so far
  std::atomic<int> pending_{0};  // helpers that have not finished this one; they count it down unlocked
};

// Never destroyed: its detached threads may outlive static destructors.
std::mutex birth;
Pool* pool = nullptr;

// A forked child has none of its parent's threads: it leaves the parent's pool behind.
[[maybe_unused]] const int registered = pthread_atfork([] { birth.lock(); }, [] { birth.unlock(); },
                                                       [] {
                                                         pool = nullptr;
                                                         birth.unlock();
                                                       });

Pool& shared_pool() {
  std::lock_guard<std::mutex> hold(birth);
  if (pool == nullptr) pool = new Pool;
  return *pool;
}

}  // namespace

void run_parallel(int count, const std::function<void(int)>& task) {
  if (count <= 1) return task(0);
  shared_pool().run(count, task);
}

}  // namespace retrim
