package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"orrery/state"
)

// Health implements state.Doctor: the server answers, and the database's collections can be listed.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(d *database) error {
		if _, err := d.there(ctx); err != nil {
			return err
		}
		if !there(d.active()) {
			return state.ErrInactive
		}
		return nil
	})
}

// Size implements state.Sizer, by the server's statistics.
func (m *Module) Size(ctx context.Context, t state.Target) (int64, error) {
	var size int64
	err := m.with(ctx, t, "measure", func(d *database) error {
		reply, err := d.db.RunCommand(ctx, bson.D{{Key: "dbStats", Value: 1}}).Raw()
		if err != nil {
			return err
		}
		data, ok := reply.Lookup("dataSize").AsInt64OK()
		indexes, _ := reply.Lookup("indexSize").AsInt64OK()
		if !ok {
			return errors.New("the server does not say its size")
		}
		size = data + indexes
		return nil
	})
	return size, err
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(d *database) error {
		var reply struct {
			Version string `bson:"version"`
			Ferret  string `bson:"ferretdbVersion"`
		}
		if err := d.ask(ctx, "buildInfo", &reply); err != nil {
			return err
		}
		if version = "MongoDB " + reply.Version; reply.Ferret != "" {
			version = "FerretDB " + strings.TrimPrefix(reply.Ferret, "v") + " (as MongoDB " + reply.Version + ")"
		}
		return nil
	})
	return version, err
}

func (d *database) ask(ctx context.Context, name string, into any) error {
	return d.client.Database("admin").RunCommand(ctx, bson.D{{Key: name, Value: 1}}).Decode(into)
}

// Integrity implements state.Integrity by the command validate.
func (m *Module) Integrity(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "check", func(d *database) error {
		parts, _, err := d.inventory(ctx)
		if err != nil {
			return err
		}
		var damage []error
		for _, p := range parts {
			if err := d.validate(ctx, p); errors.Is(err, state.ErrCorrupt) {
				damage = append(damage, err)
			} else if err != nil {
				return err
			}
		}
		return errors.Join(damage...)
	})
}

func (d *database) validate(ctx context.Context, p part) error {
	if p.view {
		return nil
	}
	var reply struct {
		Valid  bool     `bson:"valid"`
		Errors []string `bson:"errors"`
	}
	err := d.db.RunCommand(ctx, bson.D{{Key: "validate", Value: p.name}}).Decode(&reply)
	const noSuchCommand = 59
	if refused, ok := errors.AsType[mongo.CommandError](err); ok && refused.Code == noSuchCommand {
		return fmt.Errorf("the server is %w validate its collections", state.ErrNotAble)
	}
	if err != nil {
		return err
	}
	if !reply.Valid {
		return fmt.Errorf("collection %q: %w: %s", p.name, state.ErrCorrupt, strings.Join(reply.Errors, "; "))
	}
	return nil
}

// Items implements state.Itemizer: a document is an item of its collection, with its _id in extended JSON as key.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	return read(snapshot, &items{ctx: ctx, visit: visit})
}

type items struct {
	ctx   context.Context //nolint:containedctx // of the one call
	visit func(state.Item) error
	name  string
}

func (i *items) part(p part) error {
	if i.name = p.name; p.view {
		return i.visit(state.Item{Part: p.name, Key: []byte("view"), Content: bytes.Clone(p.definition)})
	}
	return i.visit(state.Item{Part: p.name})
}

func (i *items) document(doc []byte) error {
	if err := i.ctx.Err(); err != nil {
		return err
	}
	id, err := identity(doc)
	if err != nil {
		return err
	}
	return i.visit(state.Item{Part: i.name, Key: []byte(id.String()), Content: doc})
}

func (*items) closeCollection() error { return nil }

// Shell implements state.Sheller by mongosh. The connection is made inside of it, by a URL in its environment: an
// argument could be seen by everybody.
func (*Module) Shell(_ context.Context, t state.Target, script string) (state.Command, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return state.Command{}, err
	}
	p, err := decodeComponent(t.Component)
	if err != nil {
		return state.Command{}, err
	}
	path, err := exec.LookPath("mongosh")
	if err != nil {
		return state.Command{}, fmt.Errorf("cannot open a shell on database %s: mongosh: %w (install MongoDB Shell; it comes from MongoDB, not from Debian)", t.Component.Ref(), state.ErrNotFound)
	}
	password, err := s.password()
	if err != nil {
		return state.Command{}, err
	}
	c := state.Command{Path: path, Env: []string{"ORRERY_MONGODB_URL=" + s.url(p.Database, password)}}
	c.Args = []string{"--nodb", "--quiet", "--eval", "db = connect(process.env.ORRERY_MONGODB_URL)"}
	if script == "" {
		c.Args = append(c.Args, "--shell")
	} else {
		c.Args = append(c.Args, "--eval", script)
	}
	return c, nil
}
