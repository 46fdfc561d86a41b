package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// Host is a network namespace on the switch.
type Host struct {
	Name       string
	Namespace  string
	IPv4, IPv6 string
}

// LAN is hosts on a switch. It ends with the test.
type LAN struct {
	*Switch
	tb    testing.TB
	hosts map[string]*Host
}

// lans counts them: the kernel takes its time to forget names.
var lans atomic.Int32

// New makes the hosts. The first one has the addresses 10.214.7.1 and fd00:214:7::1, and so on; all speak multicast and broadcast to each other.
func New(tb testing.TB, seed uint64, names ...string) *LAN {
	tb.Helper()
	testenv.Need(tb, "ip", "apt-get install iproute2", "/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip")
	if os.Geteuid() != 0 {
		testenv.Missing(tb, "root, for network namespaces", "run the tests as root")
	}
	if _, err := os.Stat(tun); err != nil {
		testenv.Missing(tb, tun+", for TAP devices", "modprobe tun")
	}
	l := &LAN{Switch: NewSwitch(context.WithoutCancel(tb.Context()), seed), tb: tb, hosts: map[string]*Host{}}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil { // before the devices go with their namespaces
			tb.Error(err)
		}
		for _, h := range l.hosts {
			l.ip("netns", "del", h.Namespace)
		}
	})
	id := fmt.Sprintf("ol%d%c", os.Getpid()%100000, 'a'+lans.Add(1)%26)
	for i, name := range names {
		l.add(&Host{name, fmt.Sprintf("%sn%d", id, i), fmt.Sprintf("10.214.7.%d", i+1), fmt.Sprintf("fd00:214:7::%x", i+1)}, fmt.Sprintf("%st%d", id, i), byte(i+1))
	}
	return l
}

// add makes a host, with a TAP device that is made outside and moved in.
func (l *LAN) add(h *Host, device string, number byte) {
	l.tb.Helper()
	l.ip("netns", "add", h.Namespace)
	l.hosts[h.Name] = h
	port, err := openTap(device)
	if err != nil {
		l.tb.Fatal(err)
	}
	at := address{2, 'o', 'r', 'r', 'y', number}
	l.attach(h.Name, at, port) // which closes it, and that removes the device
	l.ip("link", "set", device, "address", at.String(), "netns", h.Namespace, "name", "eth0")
	l.ip("-n", h.Namespace, "addr", "add", h.IPv4+"/24", "broadcast", "+", "dev", "eth0")
	l.ip("-n", h.Namespace, "addr", "add", h.IPv6+"/64", "dev", "eth0", "nodad")
	l.ip("-n", h.Namespace, "link", "set", "eth0", "up")
	l.ip("-n", h.Namespace, "link", "set", "lo", "up")
	l.ip("-n", h.Namespace, "route", "add", "default", "dev", "eth0")
}

func (l *LAN) ip(args ...string) {
	l.tb.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(l.tb.Context()), "ip", args...).CombinedOutput(); err != nil {
		l.tb.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Host is one of them.
func (l *LAN) Host(name string) *Host { return l.hosts[name] }

const tun = "/dev/net/tun"

// openTap makes a TAP device, which lasts as long as what is returned.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open(tun, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", tun, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the TAP device %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Command is a program on the host.
func (h *Host) Command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.Namespace, program}, args...)...) //nolint:noctx // whoever starts it ends it
}

// Dial connects to an address, of IP and port, from the host. The connection may be used anywhere.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Do runs f on a thread of the host: sockets that f itself makes, not in other goroutines, are the host's. The thread returns to where it was, and
// does not end: that would kill the processes that it has started (Pdeathsig).
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if err := errors.Join(unix.Setns(int(home.Fd()), unix.CLONE_NEWNET), home.Close()); err != nil {
			panic(err) // a thread in the wrong network would do whatever comes next there
		}
		runtime.UnlockOSThread()
	}()
	there, err := os.Open(filepath.Join("/var/run/netns", h.Namespace))
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Setns(int(there.Fd()), unix.CLONE_NEWNET), there.Close()); err != nil {
		return err
	}
	return f()
}
