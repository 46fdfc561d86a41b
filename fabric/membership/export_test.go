package membership

import "github.com/hashicorp/memberlist"

// Cut makes cut say whether nothing reaches an address.
func (c *Config) Cut(cut func(to string) bool) { c.cut = cut }

// Tune changes memberlist's settings.
func (c *Config) Tune(tune func(*memberlist.Config)) { c.tune = tune }
