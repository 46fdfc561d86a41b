package delivery

import (
	"sync"

	"orrery/matrix"
	"orrery/matrix/appservice"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// crowds remember which services have a user in a room.
type crowds struct {
	mu    sync.Mutex
	rooms map[*room.Room]crowd
}

type crowd struct {
	services *appservice.Services
	census   int64
	in       []bool // by the services' order
}

// maxCrowds is how many rooms are remembered.
const maxCrowds = 10_000

// of says which services have a member in a room.
func (c *crowds) of(r *room.Room, services *appservice.Services) []bool {
	census := r.Census() // before the members: what comes between is looked at again
	c.mu.Lock()
	known, ok := c.rooms[r]
	c.mu.Unlock()
	if ok && known.services == services && known.census == census {
		return known.in
	}
	all := services.All()
	known = crowd{services, census, make([]bool, len(all))}
	for i, s := range all {
		known.in[i] = r.AnyJoined(s.HasUser)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms == nil || len(c.rooms) >= maxCrowds {
		c.rooms = map[*room.Room]crowd{}
	}
	c.rooms[r] = known
	return known.in
}

// tally says which of the events of one commit concern a service because of its users, whom it counts as they come and go.
type tally struct {
	service *appservice.Service
	room    *room.Room // as it is before the commit
	in      bool       // one of them is a member

	members map[string]bool // once one of them came or went
}

// concerns says whether the next event is about one of the service's users, or happens where one of them is a member.
func (t *tally) concerns(e *room.Entry) bool {
	who, isState := e.StateKey()
	if !isState || e.Type() != matrix.TypeMember || !t.service.HasUser(who) {
		return t.in
	}
	if t.members == nil {
		t.members = map[string]bool{}
		t.room.AnyJoined(func(user string) bool {
			if t.service.HasUser(user) {
				t.members[user] = true
			}
			return false
		})
	}
	if e.Membership() == matrix.Join {
		t.members[who] = true
	} else {
		delete(t.members, who)
	}
	t.in = len(t.members) > 0
	return true
}

// wholeRoom says whether all of a room is for a service, because of its id or an alias.
func wholeRoom(tx table.Tx, s *appservice.Service, id string, number int64) (bool, error) {
	if s.HasRoom(id, nil) || len(s.Aliases) == 0 {
		return s.HasRoom(id, nil), nil
	}
	rows, err := store.Aliases.All(tx, table.Range{Index: "room", Prefix: []any{number}})
	var aliases []string
	for _, a := range rows {
		aliases = append(aliases, a.Alias)
	}
	return s.HasRoom(id, aliases), err
}

// interested are the services that hear of what happens in a room, among those that a function wants.
func (d *Delivery) interested(tx table.Tx, r *room.Room, wanted func(*appservice.Service) bool) ([]*appservice.Service, error) {
	services := d.services.Load()
	var found []*appservice.Service
	for i, s := range services.All() {
		if s.URL == "" || !wanted(s) {
			continue
		}
		in := d.crowds.of(r, services)[i]
		if !in {
			var err error
			if in, err = wholeRoom(tx, s, r.ID(), r.Number()); err != nil {
				return nil, err
			}
		}
		if in {
			found = append(found, s)
		}
	}
	return found, nil
}
