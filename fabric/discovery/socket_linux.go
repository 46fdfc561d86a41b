package discovery

import "syscall"

const ipMulticastAll = 49 // IP_MULTICAST_ALL, which syscall does not name

// shareAddress lets other nodes of this machine, of whatever user, bind the same address; each gets every datagram.
func shareAddress(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
}

// onlyJoined keeps out what comes for the group on interfaces that other programs joined it on.
func onlyJoined(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipMulticastAll, 0)
}
