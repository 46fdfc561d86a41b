package agent

import "orrery/state/store"

// OpenStore opens the store of a machine's folder beside whoever else uses it.
func OpenStore(dir string) (*store.Store, error) { return openStore(dir, nil) }
