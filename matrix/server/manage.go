package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"orrery/matrix/outside"
	"orrery/matrix/search"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// probeTimeout is how long a server has to answer that is looked for.
const probeTimeout = 5 * time.Second

// Served says whether something listens where the configuration says.
func (c *Config) Served(ctx context.Context) bool {
	network, address := "tcp", c.Listen
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", c.path(path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// Migrate brings a database to the form that this program has, and makes all messages searchable, which a server does while it runs otherwise. It tells what it
// does, and how much of it is done.
func Migrate(ctx context.Context, c *Config, logger *slog.Logger, tell func(what string, n int)) error {
	db, err := OpenDatabase(ctx, c, logger)
	if err != nil {
		return err
	}
	return errors.Join(migrate(ctx, db, tell), db.Close())
}

func migrate(ctx context.Context, db table.DB, tell func(what string, n int)) error {
	if err := store.Upgrade(ctx, db, tell); err != nil {
		return err
	}
	stream, err := store.NewStream(ctx, db)
	if err != nil {
		return err
	}
	return search.Build(ctx, stream, func(p search.Progress) {
		tell(fmt.Sprintf("messages made searchable (%d of %d rooms), events read", p.Rooms, p.Of), p.Events)
	})
}

// checkDatabase opens the database, and brings it to the form that this program has.
func (c *Config) checkDatabase(ctx context.Context, logger *slog.Logger) error {
	db, err := OpenDatabase(ctx, c, logger)
	if err != nil {
		return err
	}
	return errors.Join(store.Open(ctx, db), db.Close())
}

// Copy copies all that is in one database, as it is at one moment, into another one that is empty, and compares. What can be searched is made again by the
// server that runs on it.
func Copy(ctx context.Context, c *Config, from, to string, logger *slog.Logger, progress func(name string, rows int)) error {
	source, target := *c, *c
	source.Database, target.Database = from, to
	in, err := OpenDatabase(ctx, &source, logger)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := store.Open(ctx, in); err != nil {
		return err
	}
	out, err := OpenDatabase(ctx, &target, logger)
	if err != nil {
		return err
	}
	err = store.Own(ctx, out)
	if err == nil {
		err = store.Prepare(ctx, out)
	}
	if err == nil {
		err = table.Copy(ctx, in, out, store.Kept(), progress)
	}
	return errors.Join(err, out.Close())
}

// Backup writes a data folder with all that the server keeps, as it is at one moment, while it may run; the database is SQLite there. It returns the
// path of its configuration.
func Backup(ctx context.Context, c *Config, dir string, logger *slog.Logger) (string, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := Copy(ctx, c, c.Database, "sqlite:"+filepath.Join(dir, "homeserver.db"), logger, nil); err != nil {
		return "", err
	}
	if err := copyFile(c.path(c.SigningKey), filepath.Join(dir, keyFile)); err != nil {
		return "", err
	}
	if err := copyMedia(ctx, c.path(c.Media), filepath.Join(dir, "media")); err != nil {
		return "", err
	}
	copied := *c
	copied.Database, copied.SigningKey, copied.Media = "sqlite:homeserver.db", keyFile, "media"
	copied.SSO = slices.Clone(c.SSO)
	stay := []*string{
		&copied.RegistrationSecret, &copied.TLSCertificate, &copied.TLSKey, &copied.Federation.TLSCertificate, &copied.Federation.TLSKey, &copied.Mail.Password, &copied.Mail.CA,
		&copied.SMS.Secret, &copied.TurnSecret, &copied.OAuth.ClientSecret, &copied.OAuth.SharedSecret,
	}
	for i := range copied.SSO {
		stay = append(stay, &copied.SSO[i].ClientSecret)
	}
	for _, p := range stay { // where they are
		if *p != "" {
			if *p, err = filepath.Abs(c.path(*p)); err != nil {
				return "", err
			}
		}
	}
	copied.Services = slices.Clone(c.Services)
	for i := range copied.Services {
		if copied.Services[i], err = filepath.Abs(c.path(copied.Services[i])); err != nil {
			return "", err
		}
	}
	text, err := yaml.Marshal(&copied)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, ConfigFile)
	return path, os.WriteFile(path, text, 0o600)
}

// copyMedia copies contents, which never change; what is made of them is made again.
func copyMedia(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Join(to, "content"), 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(from, "content"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		err = copyFile(path, filepath.Join(to, "content", d.Name()))
		if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// Finding is what a check found.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"`
}

// lines are ends of lines in errors, each of which is one line of a table.
var lines = regexp.MustCompile(`:?\s*\n\s*`)

// Check looks at what a server needs: its configuration, key, database, certificate, name, and where clients reach it.
func Check(ctx context.Context, c *Config, logger *slog.Logger) []Finding {
	return c.inspect(ctx, func() error { return c.checkDatabase(ctx, logger) })
}

// inspect looks at what a server needs; its database is looked at by a function.
func (c *Config) inspect(ctx context.Context, database func() error) (all []Finding) {
	add := func(check, good string, err error) {
		f := Finding{check, err == nil, good}
		if err != nil {
			f.Text = lines.ReplaceAllString(err.Error(), "; ")
		}
		all = append(all, f)
	}
	key, err := c.key()
	add("signing key", key.ID, err)
	_, err = c.secret()
	add("registration secret", "as the configuration says", err)
	services, err := c.ReadServices()
	add("application services", fmt.Sprintf("%d registrations can be used", len(services.All())), err)
	add("database", "can be opened", database())
	add("media", c.path(c.Media), c.checkMedia())
	for _, f := range []certificateFiles{c.clientCertificate(), c.serverCertificate()} {
		if f.cert != "" {
			text, err := c.checkCertificate(f)
			add(f.check, text, err)
		}
	}
	if c.Mail.Server != "" {
		add("mail", c.Mail.Server+" lets this server in", c.checkSender(ctx))
	}
	if issuer := c.OAuth.Issuer; issuer != "" && issuer != here {
		add("oauth", issuer+" answers, and knows this server", c.checkIssuer(ctx))
	}
	if c.SMS.Gateway != "" {
		add("sms", "the gateway answers", c.checkGateway(ctx))
	}
	host, _, err := net.SplitHostPort(c.ServerName)
	if err != nil {
		host = c.ServerName
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	add("dns", host+" is "+strings.Join(addresses, ", "), err)
	if c.BaseURL != "" {
		drift, err := c.checkClients(ctx)
		add("base url", c.BaseURL+" answers", err)
		if err == nil {
			if drift.Abs() > time.Minute {
				err = fmt.Errorf("it differs by %s from that of %s", drift.Round(time.Second), c.BaseURL)
			}
			add("clock", "agrees with that of "+c.BaseURL, err)
		}
	}
	return all
}

func (c *Config) checkMedia() error {
	err := os.MkdirAll(c.path(c.Media), 0o700)
	if err != nil {
		return fmt.Errorf("cannot make the folder of uploads: %w (set media to one that this user can write)", err)
	}
	f, err := os.CreateTemp(c.path(c.Media), "check-")
	if err != nil {
		return fmt.Errorf("cannot write into the folder of uploads: %w (give it to this user, or make room on its disk)", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkClients asks for what clients ask first, where they ask, and is how much later it is there.
func (c *Config) checkClients(ctx context.Context) (time.Duration, error) {
	at, err := url.JoinPath(c.BaseURL, "/_matrix/client/versions")
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, outside.Explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s (have the proxy pass on what is below /_matrix/, or set base_url to where it does)", at, resp.Status)
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("%s does not say how late it is: %w", at, err)
	}
	return time.Until(date), nil
}

// Doctor reads all that is kept, and says what is damaged.
func (s *Server) Doctor(ctx context.Context) (all []Finding) {
	ids, err := s.Admin.IDs(ctx)
	damaged := 0
	for _, id := range ids {
		if _, e := s.Admin.Room(ctx, id); e != nil {
			damaged++
			err = errors.Join(err, fmt.Errorf("room %s: %w", id, e))
		}
	}
	all = append(all, finding("rooms", fmt.Sprintf("%d rooms can be read", len(ids)-damaged), err))
	all = append(all, s.checkSearch(ctx))
	rows, err := s.Media.Of(ctx, "", time.Time{})
	for _, row := range rows {
		if row.Hash == "" {
			continue
		}
		f, e := s.Media.Content(row)
		if e == nil {
			var info os.FileInfo
			if info, e = f.Stat(); e == nil && info.Size() != row.Size {
				e = fmt.Errorf("media %s has %d bytes, not %d", row.ID, info.Size(), row.Size)
			}
			e = errors.Join(e, f.Close())
		}
		err = errors.Join(err, e)
	}
	return append(all, finding("media", fmt.Sprintf("%d contents are there", len(rows)), err))
}

func (s *Server) checkSearch(ctx context.Context) Finding {
	const check = "search"
	if err := s.search.Wait(ctx); err != nil {
		return finding(check, "", err)
	}
	n, built, err := search.Check(ctx, s.api.Stream)
	if err == nil && !built {
		return finding(check, "messages are being made searchable (homeserver migrate does only that)", nil)
	}
	return finding(check, fmt.Sprintf("%d messages, names and topics can be searched", n), err)
}

func finding(check, good string, err error) Finding {
	if err != nil {
		return Finding{check, false, err.Error()}
	}
	return Finding{check, true, good}
}
