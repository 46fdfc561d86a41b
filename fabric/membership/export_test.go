package membership

import "time"

// Cut makes cut say whether nothing reaches an address.
func (c *Config) Cut(cut func(to string) bool) { c.cut = cut }

// Patience gives suspects another time to refute.
func (c *Config) Patience(d time.Duration) { c.patience = d }
