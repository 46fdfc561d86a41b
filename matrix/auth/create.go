package auth

import (
	"orrery/matrix"
	"orrery/matrix/canonical"
)

// createEvent is rule 1.
func (c *check) createEvent() {
	e, n := c.e, c.n
	content := e.Content()
	if len(e.Prev()) > 0 {
		c.reject(n.create, 1, "it has events before it")
		return
	}
	_, hasRoom := e.Value().Find("room_id")
	switch {
	case c.v.CreateIsRoom && hasRoom:
		c.reject(n.create, 2, "it has a room id, which is made of its own id")
		return
	case !c.v.CreateIsRoom && matrix.Domain(e.RoomID()) != matrix.Domain(e.Sender()):
		c.reject(n.create, 2, "its room's server is not its sender's")
		return
	}
	if version, ok := content.Find("room_version"); ok {
		if _, err := matrix.FindVersion(version.String()); err != nil {
			c.reject(n.create, 3, "%v", err)
			return
		}
	}
	if c.v.CreatorField {
		if _, ok := content.Find("creator"); !ok {
			c.reject(n.create, 4, "it names no creator")
			return
		}
	}
	more, ok := content.Find("additional_creators")
	if !c.v.CreateIsRoom || !ok {
		return
	}
	if more.Kind() != canonical.Array {
		c.reject(n.create, 4, "additional_creators is not a list")
	}
	for user := range more.Elements {
		if user.Kind() != canonical.String || matrix.ValidUser(user.String()) != nil {
			c.reject(n.create, 4, "additional_creators has something that is not a user id")
		}
	}
}
