package membership

import "time"

// Cut makes cut say whether nothing reaches an address by a network, udp or tcp.
func (c *Config) Cut(cut func(network, to string) bool) { c.cut = cut }

// Patience gives suspects another time to refute.
func (c *Config) Patience(d time.Duration) { c.patience = d }
