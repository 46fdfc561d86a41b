package discovery

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// shareAddress lets other nodes of this machine, of whatever user, bind the same address; each gets every datagram.
func shareAddress(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
}

// onlyJoined keeps out what comes for the group on interfaces that other programs joined it on.
func onlyJoined(fd int, six bool) error {
	if six {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
}
