package store

import "orrery/matrix/table"

// Pusher is where a user's notifications are sent.
type Pusher struct {
	User       string `col:"user,key"`
	App        string `col:"app,key"`
	Key        string `col:"key,key"`
	Device     string `col:"device"` // that set it; it goes with the device
	Kind       string `col:"kind"`
	AppName    string `col:"app_name"`
	DeviceName string `col:"device_name"`
	Tag        string `col:"tag"` // profile_tag
	Lang       string `col:"lang"`
	Data       []byte `col:"data"`    // JSON
	Created    int64  `col:"created"` // its time
	Pushed     int64  `col:"pushed"`  // up to which position the user was notified
}

// Pushers are all of them.
var (
	Pushers = table.Define[Pusher]("pushers", table.Index{Name: "key", Columns: []string{"app", "key"}}, table.Index{Name: "device", Columns: []string{"user", "device"}})

	pusherSchemas = []*table.Schema{Pushers.Schema()}
)

func dropPushers(tx table.Tx, user, device string) error {
	all, err := Pushers.All(tx, table.Range{Index: "device", Prefix: []any{user, device}})
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := Pushers.Delete(tx, p.User, p.App, p.Key); err != nil {
			return err
		}
	}
	return nil
}
