//go:build !linux

package rpc

import (
	"net"
	"os/user"
)

// userOf is the name of the node's own user, who alone may open its socket.
func userOf(net.Conn) string {
	if known, err := user.Current(); err == nil {
		return known.Username
	}
	return "local"
}
