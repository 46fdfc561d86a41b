package store

import "orrery/matrix/table"

// Media is something that a user uploaded, or is about to.
type Media struct {
	ID      string `col:"id,key"`
	User    string `col:"user"`
	Type    string `col:"type"`
	Name    string `col:"name"`
	Size    int64  `col:"size"`
	Hash    string `col:"hash"` // of the content; "" while it was not uploaded
	Created int64  `col:"created"`
	Expires int64  `col:"expires"` // when an id without content is given up

	Quarantined bool `col:"quarantined"` // nobody gets it
}

// Medias are those of this server.
var (
	Medias = table.Define[Media]("media", table.Index{Name: "user", Columns: []string{"user"}}, table.Index{Name: "hash", Columns: []string{"hash"}})

	mediaSchemas = []*table.Schema{Medias.Schema()}
)
