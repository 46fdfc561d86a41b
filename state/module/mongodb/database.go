package mongodb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"orrery/internal/extsort"
	"orrery/state"
)

const (
	dialTimeout  = 10 * time.Second
	closeTimeout = 5 * time.Second
	moveTimeout  = 10 * time.Minute // a server that cannot rename copies
)

// database is one component's database during one operation.
type database struct {
	server    server
	name      string
	documents string // the file of the first documents; empty without one
	folder    string // the component's own
	memory    int    // bytes that are sorted at once
	secret    string
	client    *mongo.Client
	db        *mongo.Database
}

func open(ctx context.Context, t state.Target) (*database, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decodeComponent(t.Component)
	if err != nil {
		return nil, err
	}
	d := &database{server: s, name: p.Database, documents: p.Documents, folder: t.Directory, memory: extsort.Memory}
	if d.secret, err = s.password(); err != nil {
		return nil, err
	}
	settings, err := d.settings()
	if err != nil {
		return nil, err
	}
	if err := d.dial(ctx, settings.TLSConfig); err != nil {
		return nil, err
	}
	if d.client, err = mongo.Connect(settings); err != nil {
		return nil, err
	}
	d.db = d.client.Database(d.name)
	if err := d.client.Ping(ctx, nil); err != nil {
		d.close(ctx)
		return d, d.explain(ctx, err)
	}
	return d, nil
}

// dial finds at once that nobody listens, or that the certificate is another's: the driver waits for that to change.
func (d *database) dial(ctx context.Context, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.server.address())
	if err == nil && secure != nil {
		if err = tls.Client(c, d.named(secure)).HandshakeContext(ctx); err != nil {
			err = fmt.Errorf("it speaks no TLS that can be trusted: %w", errors.Join(err, c.Close()))
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: server %s (is it running, and is this its address?): %w", state.ErrUnreachable, d.server.address(), err)
	}
	return c.Close()
}

// named is the configuration for the one server.
func (d *database) named(secure *tls.Config) *tls.Config {
	secure = secure.Clone()
	secure.ServerName = d.server.Host
	return secure
}

func (d *database) settings() (*options.ClientOptions, error) {
	o := options.Client().SetHosts([]string{d.server.address()}).SetAppName("orrery").SetServerSelectionTimeout(dialTimeout).SetConnectTimeout(dialTimeout).
		SetWriteConcern(writeconcern.Majority())
	if d.server.ReplicaSet == "" {
		o.SetDirect(true)
	} else {
		o.SetReplicaSet(d.server.ReplicaSet).SetReadConcern(readconcern.Majority())
	}
	if d.server.User != "" {
		o.SetAuth(options.Credential{Username: d.server.User, Password: d.secret, PasswordSet: true, AuthSource: d.server.AuthSource})
	}
	if d.server.TLS {
		c := &tls.Config{MinVersion: tls.VersionTLS12}
		if d.server.CA != "" {
			pem, err := os.ReadFile(d.server.CA)
			if err != nil {
				return nil, fmt.Errorf("cannot read the server's authority: %w", err)
			}
			c.RootCAs = x509.NewCertPool()
			if !c.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%w: there is no certificate in %s", state.ErrBadProperty, d.server.CA)
			}
		}
		o.SetTLSConfig(c)
	}
	return o, o.Validate()
}

// explain says what a driver's error means for the user.
func (d *database) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.Contains(err.Error(), "auth error"), strings.Contains(err.Error(), "Unauthorized"):
		return fmt.Errorf("server %s refuses user %q (is the password right, and authSource %q where the user was made?): %w", d.server.address(), d.server.User, d.server.AuthSource, err)
	case mongo.IsNetworkError(err), mongo.IsTimeout(err):
		return fmt.Errorf("%w: server %s: %w", state.ErrUnreachable, d.server.address(), err)
	}
	return err
}

func (d *database) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = d.client.Disconnect(ctx) // it has nothing to lose
}

// with carries out do on the target's database and says in an error what could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*database) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := open(ctx, t)
	if err == nil {
		defer d.close(ctx)
		if err = do(d); err != nil && ctx.Err() == nil {
			err = d.explain(ctx, err)
		}
	}
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	if d != nil && d.secret != "" && strings.Contains(err.Error(), d.secret) {
		err = errors.New(strings.ReplaceAll(err.Error(), d.secret, "[secret]"))
	}
	return fmt.Errorf("cannot %s database %s: %w", what, t.Component.Ref(), err)
}

// part is a collection or a view, as the server describes it.
type part struct {
	name       string
	view       bool
	definition bson.Raw // name, options and indexes, in canonical order
	capped     bool     // its documents are in the order in which they were written
	collation  bool     // it has an order of its own for strings
}

// sidePrefix begins the names of the module's own collections.
const sidePrefix = "orrery-side-"

// inventory lists the database's collections and then its views, each sorted by name, and the module's own collections.
func (d *database) inventory(ctx context.Context) (parts []part, side []string, err error) {
	cursor, err := d.db.ListCollections(ctx, bson.D{})
	if err != nil {
		return nil, nil, err
	}
	var all []struct {
		Name    string   `bson:"name"`
		Type    string   `bson:"type"`
		Options bson.Raw `bson:"options"`
	}
	if err := cursor.All(ctx, &all); err != nil {
		return nil, nil, err
	}
	for _, c := range all {
		switch {
		case strings.HasPrefix(c.Name, "system."): // the server's own: buckets, profiles, definitions of views
			continue
		case strings.HasPrefix(c.Name, sidePrefix):
			side = append(side, c.Name)
			continue
		case c.Type != "" && c.Type != "collection" && c.Type != "view":
			return nil, nil, fmt.Errorf("%q is a %s, which can be neither renamed nor put beside: %w keep it (drop it, or keep it in another database)", c.Name, c.Type, state.ErrNotAble)
		}
		p, err := d.describe(ctx, c.Name, c.Name, c.Type == "view", c.Options)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b part) int { return a.compare(b) })
	return parts, side, nil
}

// compare has collections before views, and both by name.
func (p part) compare(other part) int {
	if p.view != other.view {
		if other.view {
			return -1
		}
		return 1
	}
	return strings.Compare(p.name, other.name)
}

// describeAs describes a collection under another name.
func (d *database) describeAs(ctx context.Context, name, as string) (part, error) {
	cursor, err := d.db.ListCollections(ctx, bson.D{{Key: "name", Value: name}})
	if err != nil {
		return part{}, err
	}
	var all []struct {
		Options bson.Raw `bson:"options"`
	}
	if err := cursor.All(ctx, &all); err != nil {
		return part{}, err
	}
	if len(all) != 1 {
		return part{}, fmt.Errorf("collection %q: %w", name, state.ErrNotFound)
	}
	return d.describe(ctx, name, as, false, all[0].Options)
}

// describe asks for a collection's indexes.
func (d *database) describe(ctx context.Context, name, as string, view bool, about bson.Raw) (part, error) {
	var indexes []bson.Raw
	if !view {
		cursor, err := d.db.Collection(name).Indexes().List(ctx)
		if err != nil {
			return part{}, fmt.Errorf("cannot list the indexes of %q: %w", name, err)
		}
		if err := cursor.All(ctx, &indexes); err != nil {
			return part{}, fmt.Errorf("cannot list the indexes of %q: %w", name, err)
		}
	}
	return newPart(as, view, about, indexes)
}

// exists says whether the component has anything.
func (d *database) exists(ctx context.Context) (bool, error) {
	parts, _, err := d.inventory(ctx)
	return len(parts) > 0, err
}

// scan visits a collection's documents by _id, or with ids only those; a capped collection's as they were written. The
// bytes are valid during the call.
func (d *database) scan(ctx context.Context, p part, ids bool, visit func(bson.Raw) error) error {
	const firstBatch, maxBatch, batchBytes = 16, 2000, 4 << 20
	o := options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetBatchSize(firstBatch).SetAllowDiskUse(true)
	if p.capped {
		o.SetSort(bson.D{{Key: "$natural", Value: 1}})
	}
	if p.collation {
		o.SetCollation(&options.Collation{Locale: "simple"})
	}
	if ids {
		o.SetProjection(bson.D{{Key: "_id", Value: 1}})
	}
	cursor, err := d.db.Collection(p.name).Find(ctx, bson.D{}, o)
	if err != nil {
		return fmt.Errorf("cannot read collection %q: %w", p.name, err)
	}
	defer cursor.Close(context.WithoutCancel(ctx)) //nolint:errcheck // cursor.Err says what was wrong
	count, size := 0, 0
	for cursor.Next(ctx) {
		if err := visit(cursor.Current); err != nil {
			return err
		}
		count, size = count+1, size+len(cursor.Current)
		if cursor.RemainingBatchLength() == 0 { // the next batch follows the size of documents
			cursor.SetBatchSize(int32(min(max(batchBytes/(size/count+1), 1), maxBatch)))
			count, size = 0, 0
		}
	}
	if err := cursor.Err(); err != nil {
		return fmt.Errorf("cannot read collection %q: %w", p.name, err)
	}
	return nil
}

// command runs a command whose reply is of no interest.
func (d *database) command(ctx context.Context, c bson.D) error { return d.db.RunCommand(ctx, c).Err() }

func (d *database) rename(ctx context.Context, from, to string) error {
	return d.client.Database("admin").RunCommand(ctx, bson.D{{Key: "renameCollection", Value: d.name + "." + from}, {Key: "to", Value: d.name + "." + to}}).Err()
}
