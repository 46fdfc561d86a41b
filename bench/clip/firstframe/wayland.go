package main

import (
	"errors"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// wayland measures on the compositor: how long until the picture has been handed to it. The program connects to a socket of this one, which passes on what both say and sees the memory
// with the picture go by, and the end of what was said with it. nil: there is no compositor.
func (r *rig) wayland(words ...string) func(input string) (frame, error) {
	if r.socket == "" {
		return nil
	}
	return func(input string) (f frame, err error) {
		p := &proxy{to: r.socket}
		path := filepath.Join(r.folder, "proxy")
		if p.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return f, err
		}
		p.work.Go(p.serve)
		begun := time.Now()
		f, err = r.run(words, input, []string{"WAYLAND_DISPLAY=" + path, "DISPLAY="}, p.shown)
		p.mu.Lock()
		f.after = p.last.Sub(begun)
		p.mu.Unlock()
		err = errors.Join(err, p.listener.Close())
		p.work.Wait()
		return f, err
	}
}

// proxy passes a connection on.
type proxy struct {
	to       string
	listener *net.UnixListener
	work     sync.WaitGroup

	mu     sync.Mutex
	memory bool      // the program has shared some
	last   time.Time // when it said something after that
}

// still is how long a program has to be silent to have said all.
const still = 20 * time.Millisecond

func (p *proxy) shown() (bool, error) {
	time.Sleep(time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memory && time.Since(p.last) > still, nil
}

func (p *proxy) serve() {
	client, err := p.listener.AcceptUnix()
	if err != nil {
		return
	}
	server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.to, Net: "unix"})
	if err != nil {
		_ = client.Close()
		return
	}
	p.work.Go(func() { p.pass(server, client, nil) })
	p.pass(client, server, func(files bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.memory = p.memory || files; p.memory {
			p.last = time.Now()
		}
	})
}

// pass passes on what one says to the other, with files, until it ends.
func (p *proxy) pass(from, to *net.UnixConn, told func(files bool)) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer, rights := make([]byte, 64<<10), make([]byte, 4096)
	for {
		n, control, _, _, err := from.ReadMsgUnix(buffer, rights)
		if err != nil || n == 0 {
			return
		}
		if _, _, err := to.WriteMsgUnix(buffer[:n], rights[:control], nil); err != nil {
			return
		}
		if messages, err := syscall.ParseSocketControlMessage(rights[:control]); err == nil {
			for i := range messages {
				files, _ := syscall.ParseUnixRights(&messages[i])
				for _, fd := range files {
					_ = syscall.Close(fd)
				}
			}
		}
		if told != nil {
			told(control > 0)
		}
	}
}
