package store

import "orrery/matrix/table"

// NoticeRoom is the room in which the server itself speaks to a user.
type NoticeRoom struct {
	User string `col:"user,key"`
	Room int64  `col:"room"`
}

// Speaker is an account that the server made to speak by it: nobody's.
type Speaker struct {
	User string `col:"user,key"`
}

// Tables of server notices.
var (
	NoticeRooms = table.Define[NoticeRoom]("notice_rooms", table.Index{Name: "room", Columns: []string{"room"}})
	Speakers    = table.Define[Speaker]("speakers")

	noticeSchemas = []*table.Schema{NoticeRooms.Schema(), Speakers.Schema()}
)
