package auth

import (
	"fmt"

	"orrery/matrix"
	"orrery/matrix/canonical"
)

// levelFields are the levels that stand at the top of a power levels event.
var levelFields = []string{"users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"}

// powerLevels is the rule about power levels events.
func (c *check) powerLevels() {
	rule := 1
	if c.v.IntegerLevels {
		c.integerLevels()
		rule = 3
	}
	content := c.e.Content()
	c.userLevels(rule, content)
	if c.v.CreateIsRoom {
		rule++
		for user := range content.Get("users").Members {
			if c.levels.isCreator(user) {
				c.reject(c.n.power, rule, "%s is a creator, whose level cannot be set", user)
			}
		}
	}
	was := c.state(matrix.Key{Type: matrix.TypePowerLevels})
	if c.why != nil || was == nil {
		return
	}
	c.levelChanges(rule+2, was.Content(), content)
}

// integerLevels is rules 1 and 2 from room version 10 on.
func (c *check) integerLevels() {
	content := c.e.Content()
	for _, name := range levelFields {
		if v, ok := content.Find(name); ok && !isInteger(v) {
			c.reject(c.n.power, 1, "%s is not an integer", name)
		}
	}
	for _, name := range []string{"events", "notifications"} {
		v, ok := content.Find(name)
		if ok && v.Kind() != canonical.Object {
			c.reject(c.n.power, 2, "%s is not an object", name)
		}
		for key, level := range v.Members {
			if !isInteger(level) {
				c.reject(c.n.power, 2, "the level of %s %.255q is not an integer", name, key)
			}
		}
	}
}

func isInteger(v canonical.Value) bool {
	_, ok := v.Int()
	return ok
}

func (c *check) userLevels(rule int, content canonical.Value) {
	users, ok := content.Find("users")
	if ok && users.Kind() != canonical.Object {
		c.reject(c.n.power, rule, "users is not an object")
	}
	for user, level := range users.Members {
		if matrix.ValidUser(user) != nil {
			c.reject(c.n.power, rule, "%.255q among users is not a user id", user)
		}
		if _, ok := c.levels.level(level); !ok {
			c.reject(c.n.power, rule, "the level of %s is not an integer", user)
		}
	}
}

// levelChanges tests what changes from one power levels event to the next; rule is the number of the first of these rules.
func (c *check) levelChanges(rule int, was, is canonical.Value) {
	own := c.levels.User(c.e.Sender())
	for _, name := range levelFields {
		d := c.difference(was.Get(name), is.Get(name))
		if d.changed && d.had && d.was > own {
			c.rejectAt(c.at(rule), 1, "%s was %d, above its sender's level %s", name, d.was, Level(own))
		}
		if d.changed && d.has && d.is > own {
			c.rejectAt(c.at(rule), 2, "%s becomes %d, above its sender's level %s", name, d.is, Level(own))
		}
	}
	groups := []string{"events"}
	if c.v.NotificationLevels {
		groups = append(groups, "notifications")
	}
	for _, group := range groups {
		c.entries(was.Get(group), is.Get(group), func(key string, d difference) {
			if d.had && d.was > own {
				c.rejectAt(c.at(rule+1), 1, "the level of %s %.255q was %d, above its sender's level %s", group, key, d.was, Level(own))
			}
			if d.has && d.is > own {
				c.rejectAt(c.at(rule+2), 1, "the level of %s %.255q becomes %d, above its sender's level %s", group, key, d.is, Level(own))
			}
		})
	}
	c.entries(was.Get("users"), is.Get("users"), func(user string, d difference) {
		if d.had && d.was >= own && user != c.e.Sender() {
			c.rejectAt(c.at(rule+3), 1, "the level of %s was %d, not below its sender's level %s", user, d.was, Level(own))
		}
		if d.has && d.is > own {
			c.rejectAt(c.at(rule+4), 1, "the level of %s becomes %d, above its sender's level %s", user, d.is, Level(own))
		}
	})
}

// at is the number of a rule about power levels.
func (c *check) at(rule int) string { return fmt.Sprintf("%d.%d", c.n.power, rule) }

// difference is a level before and after; had and has say whether there is one.
type difference struct {
	was, is  int64
	had, has bool
	changed  bool
}

func (c *check) difference(was, is canonical.Value) difference {
	var d difference
	d.was, d.had = c.levels.level(was)
	d.is, d.has = c.levels.level(is)
	d.changed = d.had != d.has || d.was != d.is
	return d
}

// entries calls a function with each entry of an object that was added, changed or removed.
func (c *check) entries(was, is canonical.Value, with func(name string, d difference)) {
	for name, v := range was.Members {
		if d := c.difference(v, is.Get(name)); d.changed {
			with(name, d)
		}
	}
	for name, v := range is.Members {
		if _, ok := was.Find(name); !ok {
			with(name, c.difference(canonical.Value{}, v))
		}
	}
}
