// sqpoll [SECONDS]: opens an io_uring with a kernel thread that polls its submission queue, as libuv 1.45 to 1.48 does at the
// start of an event loop, prints the ring's descriptor and stays. On kernels before 6.3 and 6.1.110 that thread carries
// PF_NO_SETAFFINITY.
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct io_uring_params params;
  memset(&params, 0, sizeof params);
  params.flags = IORING_SETUP_SQPOLL;
  params.sq_thread_idle = 10;
  int ring = syscall(__NR_io_uring_setup, 64, &params);
  if (ring < 0) {
    perror("io_uring_setup");
    return 1;
  }
  printf("ring %d\n", ring);
  fflush(stdout);
  sleep(argc > 1 ? atoi(argv[1]) : 1000000);
  return 0;
}
