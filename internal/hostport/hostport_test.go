package hostport

import (
	"net"
	"testing"
)

// Addresses whose ports are chosen get different ones, which are free, and a port that was given stays.
func TestChoosePorts(t *testing.T) {
	for range 200 {
		addresses := []string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:7"}
		var all []*string
		for i := range addresses {
			all = append(all, &addresses[i])
		}
		if err := Choose(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, address := range addresses {
			if _, port, err := net.SplitHostPort(address); err != nil || port == "0" || seen[address] {
				t.Fatalf("%v: %v", addresses, err)
			}
			seen[address] = true
		}
		if addresses[3] != "127.0.0.1:7" {
			t.Fatal(addresses)
		}
	}
	wrong := "nowhere"
	if err := Choose(t.Context(), []*string{&wrong}); err == nil {
		t.Error("an address without a port passes")
	}
}
