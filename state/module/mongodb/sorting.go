package mongodb

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/internal/extsort"
)

// sorted visits documents in the order of a snapshot, which is that of their _id.
func sorted(ctx context.Context, folder string, memory int, each func(visit func(doc []byte) error) error, visit func(doc []byte) error) error {
	s := extsort.New(memory, extsort.File(folder), before)
	err := each(func(doc []byte) error {
		if _, err := identity(doc); err != nil {
			return err
		}
		return s.Add(doc)
	})
	if err == nil {
		err = s.Each(ctx, visit)
	}
	return errors.Join(err, s.Close())
}

// before orders documents that have an _id.
func before(a, b []byte) int {
	x, _ := identity(bson.Raw(a))
	y, _ := identity(bson.Raw(b))
	return compare(x, y)
}
