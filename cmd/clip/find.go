package main

import (
	"context"
	"log/slog"
	"net"
	"strconv"

	"orrery/clip/pair"
	"orrery/fabric"
	"orrery/fabric/discovery"
	"orrery/fabric/discovery/mdns"
	"orrery/internal/hostport"
)

const (
	clipService = "_orrery-clip._udp.local."
	// clipPort is where beacons of clipboards are, and where clip pair waits; sync is at the port before.
	clipPort = 7949
)

// finder finds machines by the fabric's discovery, among clipboards only.
func finder(log *slog.Logger) pair.Finder {
	return func(ctx context.Context, group string, own pair.Sighting, found func(pair.Sighting)) error {
		beacon := fabric.Beacon{Cluster: group, ID: fabric.NodeID(own.ID), Name: own.Name, RPC: own.Address, Gossip: own.Address}
		config := discovery.Config{Port: clipPort, Ways: []discovery.Way{&mdns.Way{Logger: log, Service: clipService}}, Logger: log}
		s, err := discovery.New(config, beacon, func(b fabric.Beacon) { found(pair.Sighting{ID: string(b.ID), Name: b.Name, Address: b.RPC}) })
		if err != nil {
			return err
		}
		return s.Run(ctx)
	}
}

// ownAddress is where others probably reach a port of this machine that listens at an address.
func ownAddress(listen string, port uint16) string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		host = ""
	}
	return hostport.Reachable(net.JoinHostPort(host, strconv.Itoa(int(port))), hostport.Own(false))
}
