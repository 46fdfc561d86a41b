package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"orrery/fabric"
)

const (
	version     = 1
	maxDatagram = 1200 // fits into one frame of any link
	maxField    = 255
)

// kind is what a datagram says.
type kind string

const (
	kindAsk    kind = "ask"    // who is there of Cluster?
	kindBeacon kind = "beacon" // I am
)

// message is a datagram.
type message struct {
	Version int            `json:"orrery"`
	Kind    kind           `json:"kind"`
	Cluster string         `json:"cluster,omitempty"` // of an ask
	Beacon  *fabric.Beacon `json:"beacon,omitempty"`
	Via     string         `json:"via,omitempty"` // of an answer: how the ask came
}

func encode(m message) ([]byte, error) {
	m.Version = version
	content, err := json.Marshal(m)
	if err == nil && len(content) > maxDatagram {
		err = fmt.Errorf("datagram of %d bytes, and at most %d are sent", len(content), maxDatagram)
	}
	return content, err
}

var errMalformed = errors.New("malformed datagram")

func decode(content []byte) (message, error) {
	var m message
	if len(content) > maxDatagram {
		return m, errMalformed
	}
	if err := json.Unmarshal(content, &m); err != nil || m.Version != version {
		return m, errMalformed
	}
	switch {
	case m.Kind == kindAsk && m.Cluster != "" && len(m.Cluster) <= maxField:
		return m, nil
	case m.Kind == kindBeacon && m.Beacon != nil && valid(*m.Beacon) && knownVia(m.Via):
		return m, nil
	}
	return m, errMalformed
}

func knownVia(via string) bool {
	return via == "" || via == ViaMulticast || via == ViaBroadcast || via == ViaLoopback
}

// valid says whether a beacon is one: everything in it is short and its addresses can be dialled.
func valid(b fabric.Beacon) bool {
	for _, field := range []string{b.Cluster, string(b.ID), b.Name} {
		if field == "" || len(field) > maxField {
			return false
		}
	}
	return validAddress(b.RPC) && (b.Gossip == "" || validAddress(b.Gossip))
}

func validAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n != 0 && host != "" && len(address) <= maxField
}
