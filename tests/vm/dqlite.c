// dqlite-node FOLDER: starts a node of dqlite, the database that MicroK8s' k8s-dqlite is built on,
// with its state in this folder, and stays. libuv 1.45 to 1.48 open an io_uring with a polling
// thread for its event loop, later versions do not.
#include <dqlite.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

int main(int argc, char **argv) {
  dqlite_node *node;
  if (argc != 2 || (mkdir(argv[1], 0700) != 0 && errno != EEXIST)) {
    perror("dqlite-node: FOLDER cannot be created");
    return 1;
  }
  if (dqlite_node_create(1, "127.0.0.1:19001", argv[1], &node) != 0 ||
      dqlite_node_set_bind_address(node, "127.0.0.1:19001") != 0 || dqlite_node_start(node) != 0) {
    fprintf(stderr, "dqlite-node: the node does not start: %s\n", dqlite_node_errmsg(node));
    return 1;
  }
  printf("dqlite %d with libuv %s is ready\n", dqlite_version_number(), uv_version_string());
  fflush(stdout);
  for (;;) pause();
}
