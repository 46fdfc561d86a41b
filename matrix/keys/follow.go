package keys

import "orrery/matrix/table"

// Follower is told of what happens to devices' keys and messages, in the update that keeps it, for programs that are no clients.
type Follower interface {
	// Message is told of a message for a device.
	Message(tx table.Tx, user, device string, position int64, message []byte) error
	// Counted is told that a device has another number of keys.
	Counted(tx table.Tx, user, device string) error
	// Committed is told afterwards whose devices these were.
	Committed(users ...string)
}

// Follow lets somebody follow. It must be called before the first request.
func (k *Keys) Follow(f Follower) { k.follower = f }

func (k *Keys) message(tx table.Tx, user, device string, position int64, message []byte) error {
	if k.follower == nil {
		return nil
	}
	return k.follower.Message(tx, user, device, position, message)
}

func (k *Keys) counted(tx table.Tx, user, device string) error {
	if k.follower == nil {
		return nil
	}
	return k.follower.Counted(tx, user, device)
}

// committed wakes the follower, if an update succeeded.
func (k *Keys) committed(err error, users ...string) {
	if k.follower != nil && err == nil {
		k.follower.Committed(users...)
	}
}
