package waylandwindow_test

import (
	"errors"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"orrery/clip/wayland/wire"
	"orrery/clip/window/windowtest"
	"orrery/internal/testenv"
)

// screenshot is what a compositor's screen shows in an area.
func screenshot(t *testing.T, address string, area image.Rectangle) *image.RGBA {
	t.Helper()
	cmd := program(t, address, "grim", "-t", "ppm", "-")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("grim: %v", err)
	}
	var width, height, most int
	if n, err := fmt.Sscanf(string(out[:min(len(out), 40)]), "P6\n%d %d\n%d\n", &width, &height, &most); err != nil || n != 3 || len(out) < 3*width*height {
		t.Fatalf("a picture of %d bytes, %v", len(out), err)
	}
	pixels := out[len(out)-3*width*height:]
	part := image.NewRGBA(image.Rectangle{Max: area.Size()})
	for y := range area.Dy() {
		for x := range area.Dx() {
			copy(part.Pix[y*part.Stride+4*x:], pixels[3*((area.Min.Y+y)*width+area.Min.X+x):][:3])
			part.Pix[y*part.Stride+4*x+3] = 0xff
		}
	}
	return part
}

func program(t *testing.T, address, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "WAYLAND_DISPLAY="+address, "XDG_RUNTIME_DIR="+filepath.Dir(address))
	return cmd
}

// plug gives the compositor a keyboard that stays: without one nobody has the focus.
func plug(t *testing.T, address string) {
	t.Helper()
	keyboard := program(t, address, "wtype", "-s", "10000000")
	if err := keyboard.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = keyboard.Process.Kill()
		_ = keyboard.Wait()
	})
	testenv.Eventually(t, "there is a keyboard", func() bool {
		client, err := wire.Dial(address, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		has := false
		for _, g := range client.Globals() {
			if g.Interface == "wl_seat" {
				_, err = client.Bind(g, 1, func(m *wire.Message) error { has = has || m.Opcode == 0 && m.Uint()&2 != 0; return nil })
			}
		}
		answered, syncErr := client.Sync()
		if err := errors.Join(err, syncErr); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- client.Run() }()
		<-answered
		_ = client.Close()
		<-ended
		return has
	})
}

// TestSway: on a compositor that people use, driven by wtype and photographed by grim.
func TestSway(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"wtype", "grim"} {
		testenv.Need(t, name, "apt-get install "+name)
	}
	for name, c := range map[string]struct {
		config []string
		scale  int
	}{"plain": {[]string{"output HEADLESS-1 resolution 480x400"}, 1}, "scaled": {[]string{"output HEADLESS-1 resolution 720x600 scale 2"}, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, _ := testenv.Sway(t, append(c.config, "input * repeat_delay 10000")...) // on a busy machine any key is held for long
			plug(t, address)
			s := windowtest.Texts(fruits...)
			ended := run(t, address, s)
			size := map[int]image.Point{1: {480, 400}, 2: {720, 600}}[c.scale] // the whole screen, which is smaller than the window wants to be
			want := windowtest.Expect(t, s, size.X, size.Y, float64(c.scale))
			shows := func(name string) {
				t.Helper()
				want.Shows(name, func() *image.RGBA { return screenshot(t, address, image.Rectangle{Max: size}) })
			}
			keys := func(args ...string) {
				t.Helper()
				if out, err := program(t, address, "wtype", append(args, "-s", "200")...).CombinedOutput(); err != nil { // it must not end before its keymap has been used
					t.Fatalf("wtype: %v: %s", err, out)
				}
			}
			shows("all")
			keys("gr")
			want.Type("gr")
			shows("narrowed")
			keys("-k", "Down")
			want.Key("down")
			shows("second")
			keys("-M", "ctrl", "-k", "u", "-m", "ctrl", "яг")
			want.Key("ctrl+u")
			want.Type("яг")
			shows("Russian")
			keys("-k", "Return")
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
			case <-t.Context().Done():
			}
			if got := s.Given(); len(got) != 1 || got[0] != (windowtest.Given{ID: 2}) {
				t.Errorf("%v", got)
			}
		})
	}
}
