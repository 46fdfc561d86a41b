package rpc

import (
	"net"
	"os/user"
	"strconv"
	"syscall"
)

// userOf is the name of the user whose process opened a Unix connection.
func userOf(c net.Conn) string {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return "local"
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "local"
	}
	var cred *syscall.Ucred
	err = raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || cred == nil {
		return "local"
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if known, err := user.LookupId(uid); err == nil {
		return known.Username
	}
	return "uid-" + uid
}
