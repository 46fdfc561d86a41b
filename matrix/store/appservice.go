package store

import "orrery/matrix/table"

// Queued is something that an application service is to be sent: an event of a room, which is read when it is sent, or a message to a device.
type Queued struct {
	Service  string `col:"service,key"` // its id
	Position int64  `col:"position,key"`
	Part     int64  `col:"part,key"` // of those with the same position
	Room     int64  `col:"room"`     // of an event, whose order is the position; 0: it is a message to a device
	User     string `col:"user"`     // of the device
	Device   string `col:"device"`
	JSON     []byte `col:"json"` // of the message
}

// QueuedReceipt is a receipt that a service is to be sent; a newer one takes its place.
type QueuedReceipt struct {
	Service  string `col:"service,key"`
	Room     string `col:"room,key"`
	User     string `col:"user,key"`
	Type     string `col:"type,key"`
	Thread   string `col:"thread,key"`
	Position int64  `col:"position"`
}

// ChangedKeys says that a service is to be told how many keys a device has.
type ChangedKeys struct {
	Service string `col:"service,key"`
	User    string `col:"user,key"`
	Device  string `col:"device,key"`
	Times   int64  `col:"times"` // how often they changed
}

// ServiceTransaction is what is being sent to a service, until it has taken it: it is never changed.
type ServiceTransaction struct {
	Service string `col:"service,key"`
	ID      string `col:"id"`
	Events  int64  `col:"events"` // how many it has
	Created int64  `col:"created"`
	JSON    []byte `col:"json"`
}

// ServiceState is up to where a service was told of changed devices.
type ServiceState struct {
	Service string `col:"service,key"`
	Devices int64  `col:"devices"` // a position
}

// ServiceUser is an account that a service made.
type ServiceUser struct {
	User    string `col:"user,key"`
	Service string `col:"service"`
}

// NetworkRoom is a room in the directory that a service keeps of a network.
type NetworkRoom struct {
	Service string `col:"service,key"`
	Network string `col:"network,key"`
	Room    int64  `col:"room,key"`
}

// Tables of application services.
var (
	Queue               = table.Define[Queued]("service_queue")
	QueuedReceipts      = table.Define[QueuedReceipt]("service_receipts", table.Index{Name: "position", Columns: []string{"service", "position"}})
	AllChangedKeys      = table.Define[ChangedKeys]("service_keys")
	ServiceTransactions = table.Define[ServiceTransaction]("service_transactions")
	ServiceStates       = table.Define[ServiceState]("service_states")
	ServiceUsers        = table.Define[ServiceUser]("service_users")
	NetworkRooms        = table.Define[NetworkRoom]("service_rooms", table.Index{Name: "room", Columns: []string{"room"}})

	serviceSchemas = []*table.Schema{
		Queue.Schema(), QueuedReceipts.Schema(), AllChangedKeys.Schema(), ServiceTransactions.Schema(), ServiceStates.Schema(), ServiceUsers.Schema(), NetworkRooms.Schema(),
	}
)
