package pair

import "testing"

// FuzzHello: garbage is refused; a greeting that is taken has a name that can be shown.
func FuzzHello(f *testing.F) {
	f.Add(hello{"attic", 7948}.encode())
	f.Add(hello{"", 0}.encode())
	f.Add([]byte(magic + "\x02"))
	f.Add([]byte(magic + "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			return
		}
		if h.name == "" || len(h.name) > MaxName || CleanName(h.name) != h.name {
			t.Errorf("%q", h.name)
		}
		if again, err := decodeHello(h.encode()); err != nil || again != h {
			t.Errorf("%+v, %v", again, err)
		}
	})
}
