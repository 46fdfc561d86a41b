package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// firstPassed is the first descriptor that a service manager passes (sd_listen_fds(3)).
const firstPassed = 3

// passed is the listener that a service manager has opened and passed to this process; nil: none.
func passed() (net.Listener, error) {
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() {
		return nil, nil //nolint:nilerr // none was passed
	}
	n := os.Getenv("LISTEN_FDS")
	for _, variable := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} { // not for those that this process starts
		if err := os.Unsetenv(variable); err != nil {
			return nil, err
		}
	}
	if n != "1" {
		return nil, fmt.Errorf("the service manager passes %q sockets, where one is needed", n)
	}
	file := os.NewFile(firstPassed, "socket")
	l, err := net.FileListener(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("cannot use the socket of the service manager: %w", err)
	}
	if l.Addr().Network() != "unix" {
		return nil, errors.Join(fmt.Errorf("the service manager's socket is %s, and no Unix socket", l.Addr().Network()), l.Close())
	}
	return l, nil
}
