package lan

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
)

// echoVariable makes the test binary, in another namespace, answer one connection at that address with what it gets.
const echoVariable = "ORRERY_TEST_ECHO"

func TestMain(m *testing.M) {
	if listen := os.Getenv(echoVariable); listen != "" {
		if err := echo(listen); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func echo(listen string) error {
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", listen)
	if err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("."); err != nil {
		return err
	}
	c, err := l.Accept()
	if err != nil {
		return err
	}
	if _, err := io.Copy(c, c); err != nil {
		return err
	}
	return c.Close()
}
