package server

import (
	"context"
	"fmt"
	"strings"

	"orrery/matrix"
	"orrery/matrix/notice"
	"orrery/matrix/store"
)

// Notices is a configuration's part about how the server itself speaks to its users.
type Notices struct {
	User     string `yaml:"user"`
	Name     string `yaml:"name"`
	Avatar   string `yaml:"avatar"`
	RoomName string `yaml:"room_name"`
}

const noticesDefaults = `
# The user by whom the server itself speaks to its users, as "homeserver notice send" has it do, in a room of each of them: notices, which nobody has as a name
# already; "" is none. Nobody logs in as that user. name and avatar (mxc://...) are how they are shown; avatar and room_name are those of the rooms.
server_notices:
  user: ""
  name: Server notices
  avatar: ""
  room_name: Server notices
`

func newNotices() Notices { return Notices{Name: "Server notices", RoomName: "Server notices"} }

func (c *Config) checkNotices() error {
	n := c.Notices
	if n.User == "" {
		return nil
	}
	if err := matrix.ValidUser(c.speaker()); err != nil || strings.ContainsAny(n.User, "@:") {
		return fmt.Errorf("server_notices.user %q is not the first part of a user's id, such as notices", n.User)
	}
	if n.Avatar != "" && !strings.HasPrefix(n.Avatar, "mxc://") {
		return fmt.Errorf("server_notices.avatar %q is not mxc://SERVER/ID, as the server gives it to what is uploaded", n.Avatar)
	}
	return nil
}

// speaker is the id of the user by whom the server speaks; "" if there is none.
func (c *Config) speaker() string {
	if c.Notices.User == "" {
		return ""
	}
	return "@" + c.Notices.User + ":" + c.ServerName
}

// openNotices opens the server's notices, if the configuration names somebody who speaks.
func (s *Server) openNotices(ctx context.Context, stream *store.Stream) error {
	c := s.config
	if c.Notices.User == "" {
		return nil
	}
	version, err := matrix.FindVersion(c.RoomVersion)
	if err != nil {
		return err
	}
	s.notices, err = notice.Open(ctx, notice.Config{
		User: c.speaker(), Name: c.Notices.Name, Avatar: c.Notices.Avatar, RoomName: c.Notices.RoomName, Version: version,
		Accounts: s.Accounts, Rooms: s.Rooms, Syncer: s.syncer, Stream: stream,
	})
	return err
}
