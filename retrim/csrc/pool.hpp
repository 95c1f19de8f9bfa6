// A few persistent threads that share one job at a time.
#pragma once
#include <functional>

namespace retrim {

// Run task(0) ... task(count - 1), task 0 on the caller, each on a thread of its own where the system gives
// that many.  Calls from several threads wait for one another.  All tasks are run, and the first exception of one
// is thrown to the caller when they are done.  After a fork the child starts threads anew.
void run_parallel(int count, const std::function<void(int)>& task);

}  // namespace retrim
