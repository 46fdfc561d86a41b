package admin

import (
	"context"
	"errors"
	"regexp"

	"orrery/matrix/media"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// address is one of a media, anywhere in an event. Those in encrypted events are not seen.
var address = regexp.MustCompile(`mxc://([^/"]+)/([A-Za-z0-9_-]+)`)

// Media are those of this server that the events of a room name.
func (a *Admin) Media(ctx context.Context, id string) (all []store.Media, err error) {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var ids []string
	if err := a.Stream.DB().View(ctx, func(tx table.Tx) error {
		for e, err := range store.Events.Scan(tx, table.Range{Prefix: []any{r.Number()}}) {
			if err != nil {
				return err
			}
			for _, found := range address.FindAllSubmatch(e.JSON, -1) {
				if id := string(found[2]); a.Accounts.Local("@:"+string(found[1])) && !seen[id] {
					seen[id] = true
					ids = append(ids, id)
				}
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		m, err := a.Uploads.Info(ctx, id)
		if errors.Is(err, media.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
