package mdns

import "golang.org/x/sys/unix"

// onlyJoined keeps out what comes for the group on interfaces that other programs joined it on.
func onlyJoined(fd int, six bool) error {
	if six {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
}
