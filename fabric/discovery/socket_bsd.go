//go:build unix && !linux

package discovery

import "syscall"

// shareAddress lets other nodes of this machine bind the same address; each gets every datagram.
func shareAddress(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEPORT, 1)
}

// onlyJoined is how these systems behave anyway.
func onlyJoined(int, bool) error { return nil }
