package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"orrery/clip"
	"orrery/clip/x11"
)

// owner is a process that copies on command.
type owner struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startOwner(env []string) (*owner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &owner{cmd: exec.Command(self, "owner")} //nolint:noctx // it ends with the benchmark
	o.cmd.Env, o.cmd.Stderr = env, os.Stderr
	if o.in, err = o.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o.out = bufio.NewReader(out)
	return o, o.cmd.Start()
}

// do has it copy, and returns when it owns the clipboard.
func (o *owner) do(words ...string) error {
	if _, err := fmt.Fprintln(o.in, strings.Join(words, " ")); err != nil {
		return err
	}
	_, err := o.out.ReadString('\n')
	return err
}

func (o *owner) kill() error {
	if err := o.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = o.cmd.Wait() // it was killed
	return nil
}

// own reads what to copy: text WORD, picture BYTES, burst COUNT MICROSECONDS.
func own([]string) error {
	d, err := x11.Open(x11.Config{})
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // it is killed
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "text":
			err = offer(d, "text/plain;charset=utf-8", []byte(strings.Join(words[1:], " ")))
		case "picture":
			n, _ := strconv.Atoi(words[1])
			err = offer(d, "image/png", picture(n))
		case "burst":
			n, _ := strconv.Atoi(words[1])
			every, _ := strconv.Atoi(words[2])
			err = burst(d, n, time.Duration(every)*time.Microsecond)
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
	return in.Err()
}

func offer(d *x11.Display, kind string, data []byte) error {
	return d.Offer(clip.Clipboard, []clip.Content{{Type: kind, Data: data}})
}

// burst copies distinct texts at a pace.
func burst(d *x11.Display, n int, every time.Duration) error {
	begun := time.Now()
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * every)))
		if err := offer(d, "text/plain;charset=utf-8", fmt.Appendf(nil, "burst %d of %d", i+1, n)); err != nil {
			return err
		}
	}
	return nil
}

// picture is what no compression makes smaller.
func picture(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	return data
}

// readBack waits until the clipboard offers the picture from another owner than before, and reads it.
func readBack(ctx context.Context, d *x11.Display, want []byte) (offered, complete time.Time, err error) {
	for {
		o, err := d.Next(ctx)
		if err != nil {
			return offered, complete, err
		}
		if len(o.Types()) == 0 {
			continue // nobody has it
		}
		offered = time.Now()
		got, err := o.Read(ctx, "image/png", 1<<30)
		if err != nil {
			return offered, complete, err
		}
		if sha256.Sum256(got) != sha256.Sum256(want) {
			return offered, complete, fmt.Errorf("%d bytes came back, and are not what was copied", len(got))
		}
		return offered, time.Now(), nil
	}
}
