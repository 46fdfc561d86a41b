package postgresql

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/postgresql/layered"
	"orrery/state/module/postgresql/script"
)

// copyLimit is up to which size, in bytes, a layer copies a table that has no primary key.
const copyLimit = 16 << 20

// layerRoles are the roles of a layer: one that reads the source, and one that the layer's clients are.
func layerRoles(database string) (reader, user string) {
	return "orrery_reader_" + digest(database), "orrery_fork_" + digest(database)
}

// layer makes the database a layer over source. Its clients are a role of its own with the container's password.
func (d *database) layer(ctx context.Context, source *database, into state.Target) error {
	if !d.sameServer(source) {
		return fmt.Errorf("a layer lies on the server of what is under it: %w do it across servers (give the fork the source's container)", state.ErrNotAble)
	}
	if d.major < 14 {
		return fmt.Errorf("the server is PostgreSQL %d: %w layer databases before 14", d.major, state.ErrNotAble)
	}
	origin, err := source.connect(ctx, source.name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, origin)
	if err := layered.Refuse(ctx, origin, copyLimit); err != nil {
		return fmt.Errorf("%w: %w", state.ErrNotAble, err)
	}
	like, err := source.traits(ctx, source.name)
	if err != nil {
		return err
	}
	reader, user := layerRoles(d.name)
	password := rand.Text()
	if err := d.makeRoles(ctx, reader, password, user); err != nil {
		return errors.Join(err, d.dropRoles(ctx))
	}
	options := layered.Options{
		Host: source.server.Host, Port: source.server.Port, Database: source.name, Reader: reader, Password: password, User: user, CopyLimit: copyLimit,
	}
	err = d.build(ctx, &traits{owner: d.server.User, encoding: like.encoding, provider: like.provider, collate: like.collate, ctype: like.ctype, locale: like.locale, limit: -1},
		func() error { return d.fillLayer(ctx, source, origin, options) })
	if err == nil {
		err = mark.Write(into, forkMark{Method: state.ForkLayered, User: user})
	}
	if err != nil {
		return errors.Join(err, d.drop(ctx, d.name), d.dropRoles(ctx))
	}
	return nil
}

// makeRoles gives the reader nothing but reading, and the user nothing at all.
func (d *database) makeRoles(ctx context.Context, reader, password, user string) error {
	if err := d.dropRoles(ctx); err != nil {
		return err
	}
	for _, statement := range []string{
		"create role " + quote(reader) + " login password " + verifier(password),
		"grant pg_read_all_data to " + quote(reader),
		"alter role " + quote(reader) + " set default_transaction_read_only = on",
		"create role " + quote(user) + " login" + passwordClause(d.secret),
	} {
		if _, err := d.admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("cannot make the roles of a layer (the container's user must be a superuser): %w", err)
		}
	}
	return nil
}

func (d *database) dropRoles(ctx context.Context) error {
	reader, user := layerRoles(d.name)
	roles, err := names(ctx, d.admin, "select rolname from pg_roles where rolname in ($1, $2)", reader, user)
	for _, role := range roles {
		err = errors.Join(err, d.exec(ctx, "drop role %s", role))
	}
	return err
}

func passwordClause(secret string) string {
	if secret == "" {
		return ""
	}
	return " password " + verifier(secret)
}

// verifier is what a server keeps of a password, quoted (RFC 5803), so that no password is in a statement that the server may log.
func verifier(password string) string {
	const rounds = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		panic(err) // the parameters are fixed
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b := base64.StdEncoding.EncodeToString
	return literal(fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b(salt), b(stored[:]), b(mac("Server Key"))))
}

// fillLayer loads the source's schema into the side database and makes its tables views.
func (d *database) fillLayer(ctx context.Context, source *database, origin *pgx.Conn, o layered.Options) error {
	d.role = ""
	r, w := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := source.dumpSchema(ctx, w)
		w.CloseWithError(err)
		dumped <- err
	}()
	var b strings.Builder
	err := schemaOnly(r, &b)
	r.CloseWithError(errors.New("the layer stopped reading"))
	if dumpErr := <-dumped; dumpErr != nil {
		return dumpErr
	}
	if err != nil {
		return err
	}
	if err := d.psql(ctx, strings.NewReader(b.String()), "-"); err != nil {
		return err
	}
	side, err := d.connect(ctx, d.next)
	if err != nil {
		return err
	}
	defer closeConn(ctx, side)
	return layered.Build(ctx, side, origin, o)
}

// dumpSchema writes what is in the database except rows.
func (d *database) dumpSchema(ctx context.Context, w io.Writer) error {
	return d.dumpWhole(ctx, w, "--schema-only", "--no-privileges", "--no-publications", "--no-security-labels")
}

// schemaOnly leaves out what a layer has another form for: foreign keys, triggers, and ways to other servers.
func schemaOnly(r io.Reader, w *strings.Builder) error {
	body, err := openDump(r)
	if err != nil {
		return err
	}
	s := script.NewReader(body)
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return dumpError(body, err)
		}
		text := string(e.Text)
		if e.Kind == script.Statement && !notInLayer(text) {
			w.WriteString(text + "\n")
		}
	}
}

func notInLayer(text string) bool {
	for _, begin := range []string{
		"CREATE TRIGGER ", "CREATE CONSTRAINT TRIGGER ", "CREATE EVENT TRIGGER ", "ALTER EVENT TRIGGER ", "CREATE EXTENSION IF NOT EXISTS dblink", "CREATE EXTENSION IF NOT EXISTS postgres_fdw",
		"COMMENT ON EXTENSION ", "COMMENT ON TRIGGER ", "COMMENT ON EVENT TRIGGER ", "COMMENT ON CONSTRAINT ", "CREATE SERVER ", "CREATE USER MAPPING ", "CREATE RULE ",
	} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return strings.HasPrefix(text, "ALTER TABLE ") && (strings.Contains(text, " FOREIGN KEY (") || strings.Contains(text, " TRIGGER "))
}
