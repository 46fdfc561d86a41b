package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"orrery/clip"
	"orrery/clip/mirror"
	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// host is a machine: a network namespace, an X server, and the folders of a user.
type host struct {
	*testing.T
	name string
	env  []string

	mu       sync.Mutex
	recorder *exec.Cmd
	log      bytes.Buffer
}

// hosts are machines on one link.
func hosts(t *testing.T, names ...string) []*host {
	t.Helper()
	testenv.Need(t, "ip", "apt-get install iproute2", "/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip")
	testenv.Need(t, "xclip", "apt-get install xclip")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, for network namespaces", "run the tests as root")
	}
	id := fmt.Sprintf("orc%d-%d-", os.Getpid(), len(t.Name()))
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	namespace := func(name string) {
		ip("netns", "add", name)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
		ip("-n", name, "link", "set", "lo", "up")
	}
	bridge := id + "switch"
	namespace(bridge)
	ip("-n", bridge, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
	ip("-n", bridge, "link", "set", "lan", "up")
	var all []*host
	for i, name := range names {
		h := &host{T: t, name: id + name}
		namespace(h.name)
		port := fmt.Sprint("p", i)
		ip("-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.name)
		ip("-n", bridge, "link", "set", port, "master", "lan", "up")
		ip("-n", h.name, "addr", "add", fmt.Sprintf("10.9.7.%d/24", i+1), "dev", "eth0")
		ip("-n", h.name, "link", "set", "eth0", "up")
		display, _ := testenv.XServer(t)
		dir := t.TempDir()
		for _, d := range []string{"run", "config/orrery-clip"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		h.env = append(os.Environ(), "DISPLAY="+display, "WAYLAND_DISPLAY=", "HOME="+dir, "XDG_RUNTIME_DIR="+dir+"/run", "XDG_DATA_HOME="+dir+"/data",
			"XDG_CONFIG_HOME="+dir+"/config", "LC_ALL=C.UTF-8", "GORACE="+script.Race())
		h.settings(fmt.Sprintf("[sync]\nname = %q\n", name))
		all = append(all, h)
	}
	return all
}

func (h *host) folder(below string) string {
	for _, e := range h.env {
		if dir, ok := strings.CutPrefix(e, "HOME="); ok && dir != os.Getenv("HOME") {
			return filepath.Join(dir, below)
		}
	}
	h.Fatal("no home")
	return ""
}

func (h *host) settings(text string) {
	h.Helper()
	if err := os.WriteFile(h.folder("config/orrery-clip/clip.toml"), []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
}

// program is a command on the host.
func (h *host) program(name string, args ...string) *exec.Cmd {
	h.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		h.Fatal(err)
	}
	cmd := exec.CommandContext(h.Context(), "ip", append([]string{"netns", "exec", h.name, path}, args...)...)
	cmd.Env = h.env
	return cmd
}

// clip runs a command of ours.
func (h *host) clip(args ...string) string {
	h.Helper()
	cmd := h.program("clip", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.Fatalf("%s on %s: %v: %s", strings.Join(args, " "), h.name, err, stderr.String())
	}
	return string(out)
}

// record starts the recorder.
func (h *host) record() {
	h.Helper()
	h.recorder = h.program("clip", "record", "-v")
	h.recorder.Stderr = lockedWriter{h}
	if err := h.recorder.Start(); err != nil {
		h.Fatal(err)
	}
	cmd := h.recorder
	h.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if h.Failed() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.Logf("%s:\n%s", h.name, h.log.String())
		}
	})
	testenv.Eventually(h, "a recorder", func() bool { return h.program("clip", "stats").Run() == nil })
}

type lockedWriter struct{ *host }

// Write keeps what the recorder logs.
func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

// kill ends the recorder as a power cut would.
func (h *host) kill() {
	h.Helper()
	if err := h.recorder.Process.Kill(); err != nil {
		h.Fatal(err)
	}
	_ = h.recorder.Wait()
}

// copies has a program copy a file's content.
func (h *host) copies(kind string, content []byte) {
	h.Helper()
	path := filepath.Join(h.TempDir(), "content")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		h.Fatal(err)
	}
	cmd := h.program("xclip", "-quiet", "-selection", "clipboard", "-t", kind, path)
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// clipboard is what a program that pastes gets.
func (h *host) clipboard(kind string) []byte {
	out, err := h.program("xclip", "-selection", "clipboard", "-t", kind, "-o").Output()
	if err != nil {
		return nil
	}
	return out
}

func (h *host) status() (s mirror.Status) {
	h.Helper()
	if err := json.Unmarshal([]byte(h.clip("sync", "status", "-o", "json")), &s); err != nil {
		h.Fatal(err)
	}
	return s
}

func (h *host) items() (all []clip.Summary) {
	h.Helper()
	for line := range strings.Lines(h.clip("list", "-o", "json")) {
		var s clip.Summary
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			h.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// pairing is clip pair on a host.
type pairing struct {
	*host
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
}

func (h *host) pair(args ...string) *pairing {
	h.Helper()
	p := &pairing{host: h, cmd: h.program("clip", append([]string{"pair", "-o", "json"}, args...)...)}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		h.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// next is the next step.
func (p *pairing) next(event string) (e pairEvent) {
	p.Helper()
	if !p.out.Scan() {
		_ = p.cmd.Wait()
		p.Fatalf("%s: no %s: %v: %s", p.name, event, p.out.Err(), p.stderr.String())
	}
	if err := json.Unmarshal(p.out.Bytes(), &e); err != nil || e.Event != event {
		p.Fatalf("%s: %s, not %s: %v", p.name, p.out.Text(), event, err)
	}
	return e
}

func (p *pairing) say(answer string) {
	p.Helper()
	if _, err := fmt.Fprintln(p.in, answer); err != nil {
		p.Fatal(err)
	}
}

// joined pairs two hosts.
func joined(t *testing.T, a, b *pairing) {
	t.Helper()
	x, y := a.next("compare"), b.next("compare")
	if len(x.Words) != 6 || !slices.Equal(x.Words, y.Words) || x.Device == y.Device {
		t.Fatalf("%+v and %+v", x, y)
	}
	a.say("yes")
	b.say("yes")
	for _, p := range []*pairing{a, b} {
		p.next("paired")
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, p.stderr.String())
		}
	}
}

func connected(t *testing.T, all ...*host) {
	t.Helper()
	for _, h := range all {
		testenv.Eventually(t, "connection", func() bool {
			s := h.status()
			return len(s.Machines) > 0 && !slices.ContainsFunc(s.Machines, func(m mirror.Peer) bool { return m.State != mirror.Connected })
		})
	}
}

// TestMachinesFindEachOther: two machines on a network pair by what they hear of each other, what is copied on one can be pasted on the other, a kill in the middle of a transfer
// costs nothing, and who is removed notices.
func TestMachinesFindEachOther(t *testing.T) {
	t.Parallel()
	h := hosts(t, "attic", "bureau")
	a, b := h[0], h[1]
	b.settings("[sync]\nname = \"bureau\"\nlive = false\n") // or what comes could replace what is copied there
	a.record()
	b.record()
	if s := a.status(); s.Port != 0 {
		t.Errorf("it listens before there is a machine: %+v", s)
	}
	a.copies("UTF8_STRING", []byte("from before"))
	testenv.Eventually(t, "record", func() bool { return len(a.items()) == 1 })
	pa, pb := a.pair(), b.pair()
	pa.next("waiting")
	pb.next("waiting")
	joined(t, pa, pb)
	connected(t, a, b)
	testenv.Eventually(t, "history", func() bool { return len(b.items()) == 1 })
	b.copies("UTF8_STRING", []byte("hello"))
	testenv.Eventually(t, "paste", func() bool { return string(a.clipboard("UTF8_STRING")) == "hello" })

	// 12 MB, and the one who gets it is killed in the middle, several times.
	picture := bytes.Repeat([]byte("0123456789abcdef"), 12<<16)
	a.copies("image/png", picture)
	for i := range 3 {
		testenv.Eventually(t, "a part of it", func() bool {
			s := b.status()
			return len(b.items()) == 3 || i == 0 && s.Missing > 0 || i > 0 && slices.ContainsFunc(s.Machines, func(m mirror.Peer) bool { return m.BytesReceived > 0 })
		})
		b.kill()
		b.record()
	}
	testenv.Eventually(t, "the picture", func() bool { return len(b.items()) == 3 })
	if got := b.clip("show", "--type", "image/png", fmt.Sprint(b.items()[0].ID)); got != string(picture) {
		t.Errorf("%d bytes, not %d", len(got), len(picture))
	}
	b.clip("delete", fmt.Sprint(b.items()[1].ID))
	testenv.Eventually(t, "deletion", func() bool { return len(a.items()) == 2 })
	a.clip("pair", "remove", "bureau")
	testenv.Eventually(t, "notice", func() bool {
		s := b.status()
		return len(s.Machines) == 1 && s.Machines[0].State == mirror.Left && s.Port == 0
	})
	if list := b.clip("pair", "list"); !strings.Contains(list, "it removed this machine") {
		t.Errorf("%s", list)
	}
}

// TestMachinesByAddress: without discovery one waits, and the other is told where.
func TestMachinesByAddress(t *testing.T) {
	t.Parallel()
	h := hosts(t, "cellar", "den", "entry")
	for _, m := range h {
		m.settings(fmt.Sprintf("[sync]\nname = %q\nfind = false\n", m.name[strings.LastIndex(m.name, "-")+1:]))
		m.record()
	}
	for _, other := range h[1:] {
		waits := h[0].pair()
		at := waits.next("waiting")
		joined(t, waits, other.pair("--address", at.Address))
	}
	connected(t, h...)
	h[1].copies("UTF8_STRING", []byte("by way of the cellar"))
	testenv.Eventually(t, "paste", func() bool { return string(h[2].clipboard("UTF8_STRING")) == "by way of the cellar" })

	// No is no, on both sides.
	waits := h[1].pair()
	other := h[2].pair("--address", waits.next("waiting").Address)
	waits.next("compare")
	other.next("compare")
	waits.say("no")
	other.say("yes")
	for _, p := range []*pairing{waits, other} {
		if err := p.cmd.Wait(); err == nil {
			t.Error("it paired")
		}
	}
	if s := h[1].status(); len(s.Machines) != 1 {
		t.Errorf("%+v", s.Machines)
	}
}
