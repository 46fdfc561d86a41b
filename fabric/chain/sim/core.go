package sim

import (
	"time"

	"orrery/fabric/chain/replica"
)

func setLease(r *replica.Replica, now time.Duration, l replica.Lease) (replica.Output, error) {
	return r.SetLease(now, l)
}

func (d *driver) copied(c replica.Copy) { d.core.Copied(c.To) }
