package embed_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"orrery/fabric/embed"
)

// Two processes, here in one, make a cluster and share keys: what one writes the other reads.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	local := func(name string) embed.Config {
		return embed.Config{Directory: filepath.Join(dir, name), Name: name, Loopback: true, NoBeacon: true, Listen: "127.0.0.1:0", Gossip: "127.0.0.1:0"}
	}

	ada, err := embed.Create(ctx, local("ada"))
	if err != nil {
		panic(err)
	}
	defer func() { _ = ada.Close() }()
	token, err := ada.Token(ctx, time.Minute)
	if err != nil {
		panic(err)
	}
	config := local("bob")
	config.Seeds = []string{ada.Address()} // or found on the network by itself
	bob, err := embed.Join(ctx, config, token)
	if err != nil {
		panic(err)
	}
	defer func() { _ = bob.Close() }()

	moons, err := ada.Bucket(ctx, "moons", 2)
	if err != nil {
		panic(err)
	}
	if _, err := moons.Put(ctx, []byte("jupiter"), []byte("Io")); err != nil {
		panic(err)
	}
	if moons, err = bob.Bucket(ctx, "moons", 2); err != nil {
		panic(err)
	}
	v, err := moons.Get(ctx, []byte("jupiter"))
	fmt.Println(string(v.Value), err)
	// Output: Io <nil>
}
