package cow

import (
	"context"
	"fmt"
	"net"
)

// FreePort is a port of the loopback address that nobody listens on, for the server of a copy.
func FreePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }() // it listened for its number only
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("no port: %v", l.Addr())
	}
	return address.Port, nil
}
