package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"orrery/deploy"
	"orrery/session"
	"orrery/state"
)

// service is what the story reads of `orrery deploy status -o json`.
type service struct {
	Service    string         `json:"service"`
	Node       string         `json:"node"`
	Public     string         `json:"public"`
	Components []state.Status `json:"components"`
}

func (s *story) service(ctx context.Context, name string) (service, error) {
	var all []service
	if err := s.ask(ctx, s.nodes[0], &all, "deploy", "status"); err != nil {
		return service{}, err
	}
	for _, found := range all {
		if found.Service == name {
			return found, nil
		}
	}
	return service{}, claim(false, "service %s is not deployed", name)
}

func (s *story) plan(ctx context.Context) (string, error) {
	if _, err := s.orrery(ctx, s.nodes[0].dir, "deploy", "validate", s.manifest); err != nil {
		return "", err
	}
	var plan deploy.Plan
	if err := s.ask(ctx, s.nodes[0], &plan, "deploy", "plan", s.manifest); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d steps", len(plan.Steps)), claim(len(plan.Steps) == 3, "the plan has %d steps, not 3", len(plan.Steps))
}

func (s *story) deploy(ctx context.Context) (string, error) {
	var outcome deploy.Outcome
	if err := s.ask(ctx, s.nodes[0], &outcome, "deploy", "apply", s.manifest); err != nil {
		return "", err
	}
	sky, err := s.service(ctx, "sky")
	if err != nil {
		return "", err
	}
	if err := claim(sky.Public != "", "sky has no public address"); err != nil {
		return "", err
	}
	s.sky = newVisitor(sky.Public)
	page, err := s.sky.page(ctx)
	if err != nil {
		return "", err
	}
	for _, body := range []string{"Jupiter", "Neptune", "Pluto"} {
		if err := claim(strings.Contains(page, body), "sky's page does not show %s", body); err != nil {
			return "", err
		}
	}
	return "sky is at " + sky.Public, nil
}

// life writes a few hundred notes and reads them back.
func (s *story) life(ctx context.Context) (string, error) {
	const count = 300
	for i := range count {
		text := fmt.Sprintf("first light %d", i)
		if err := s.sky.write(ctx, text); err != nil {
			return "", err
		}
		s.acked[text] = true
	}
	return fmt.Sprintf("%d notes", count), s.complete(ctx)
}

// complete checks that every acknowledged note is there, once.
func (s *story) complete(ctx context.Context) error {
	found, err := s.sky.notes(ctx)
	if err != nil {
		return err
	}
	missing, double := 0, 0
	for text := range s.acked {
		switch found[text] {
		case 0:
			missing++
		case 1:
		default:
			double++
		}
	}
	return claim(missing == 0 && double == 0, "of %d acknowledged notes %d are missing and %d double", len(s.acked), missing, double)
}

var placedNotes = regexp.MustCompile(`(notes:\s*)"two"`)

// move changes the one line of the manifest and applies it under load.
func (s *story) move(ctx context.Context) (string, error) {
	text, err := os.ReadFile(s.manifest)
	if err != nil {
		return "", err
	}
	edited := placedNotes.ReplaceAll(text, []byte(`${1}"three"`))
	if err := claim(string(edited) != string(text), "the manifest does not place notes on node two"); err != nil {
		return "", err
	}
	if err := os.WriteFile(s.manifest, edited, 0o644); err != nil {
		return "", err
	}
	var plan deploy.Plan
	if err := s.ask(ctx, s.nodes[0], &plan, "deploy", "plan", s.manifest); err != nil {
		return "", err
	}
	if err := claim(len(plan.Steps) == 1 && plan.Steps[0].Kind == deploy.StepMove, "the plan is not one move: %+v", plan.Steps); err != nil {
		return "", err
	}
	w := s.sky.startWriter(ctx, "on the move")
	var outcome deploy.Outcome
	err = s.ask(ctx, s.nodes[0], &outcome, "deploy", "apply", s.manifest)
	w.stop()
	if err != nil {
		return "", err
	}
	for _, text := range w.acked {
		s.acked[text] = true
	}
	if err := claim(len(w.failed) == 0, "%d writes failed during the move, first: %v", len(w.failed), first(w.failed)); err != nil {
		return "", err
	}
	if err := s.complete(ctx); err != nil {
		return "", err
	}
	notes, err := s.service(ctx, "notes")
	if err != nil {
		return "", err
	}
	if err := claim(notes.Node == "three", "notes runs on %s, not three", notes.Node); err != nil {
		return "", err
	}
	s.fact("longest pause a writer saw during the move", w.pause.Round(time.Millisecond))
	s.fact("requests were held for", outcome.Pauses["notes"].Round(time.Millisecond))
	s.fact("bytes moved between nodes", human(outcome.Moved))
	return fmt.Sprintf("%d notes written meanwhile, none missing, none double; longest pause %s", len(w.acked), w.pause.Round(time.Millisecond)), nil
}

func first(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}

// human is an amount of bytes as the table shows it.
type human int64

func (n human) String() string { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }

func (s *story) backup(ctx context.Context) (string, error) {
	var b deploy.Backup
	if err := s.ask(ctx, s.nodes[0], &b, "deploy", "backup", "observatory"); err != nil {
		return "", err
	}
	var logical, stored int64
	for _, part := range b.Snapshots {
		logical += part.Size
		stored += part.Stored
		if err := claim(len(part.Nodes) >= 2, "%s is kept on %d node", part.Ref, len(part.Nodes)); err != nil {
			return "", err
		}
	}
	s.fact("state backed up", human(logical))
	s.fact("bytes that the backup added to the store", human(stored))
	return fmt.Sprintf("%d components, each on two nodes", len(b.Snapshots)), claim(len(b.Snapshots) == 2, "%d components were backed up, not 2", len(b.Snapshots))
}

// disaster overwrites the database file on node three, behind everyone's back.
func (s *story) disaster(ctx context.Context) (string, error) {
	notes, err := s.service(ctx, "notes")
	if err != nil {
		return "", err
	}
	for _, c := range notes.Components {
		if path := c.Exports["path"]; path != "" {
			s.garbage = path
		}
	}
	if err := claim(s.garbage != "", "no component of notes says where its database is"); err != nil {
		return "", err
	}
	for _, file := range []string{s.garbage, s.garbage + "-wal", s.garbage + "-shm"} {
		if err := overwrite(file); err != nil {
			return "", err
		}
	}
	_, err = s.sky.notes(ctx)
	return "reading the notes fails: " + firstLine(err), claim(err != nil, "the notes are still readable")
}

// overwrite fills a file with garbage, in place.
func overwrite(path string) error {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strings.Repeat("garbage ", int(info.Size()/8)+1))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (s *story) restore(ctx context.Context) (string, error) {
	began := time.Now()
	if _, err := s.orrery(ctx, s.nodes[0].dir, "deploy", "restore", "observatory", "notes"); err != nil {
		return "", err
	}
	s.fact("restore of the notes took", time.Since(began).Round(time.Millisecond))
	return fmt.Sprintf("all %d acknowledged notes", len(s.acked)), s.complete(ctx)
}

// session logs a developer in, runs their sky in session blue and checks both worlds.
func (s *story) session(ctx context.Context) (string, error) {
	token, err := s.orrery(ctx, s.nodes[0].dir, "node", "token", "--role", "developer")
	if err != nil {
		return "", err
	}
	laptop := filepath.Join(s.Dir, "laptop")
	if _, err := s.orrery(ctx, laptop, "login", strings.TrimSpace(string(token)), "--name", "dana", "--loopback"); err != nil {
		return "", err
	}
	develop, err := s.start(ctx, "develop.log", "--dir", laptop, "session", "develop", "sky",
		"--session", "blue", "--run", filepath.Join(filepath.Dir(s.manifest), "bin", "sky-blue"), "--fork", "notes")
	if err != nil {
		return "", err
	}
	checked := s.checkSession(ctx, develop)
	if err := develop.stop(20 * time.Second); checked == nil && err != nil {
		return "", fmt.Errorf("session develop: %w", err)
	}
	return "marked requests see blue and the fork; nobody else does", checked
}

// checkSession makes the claims about a running session.
func (s *story) checkSession(ctx context.Context, develop *child) error {
	began := time.Now()
	if err := s.awaitSession(ctx, develop); err != nil {
		return err
	}
	s.fact("session ready, fork included, after", time.Since(began).Round(time.Millisecond))
	marked := s.sky.with(session.Header, "blue")
	preview := s.sky.at("blue--sky.localhost")
	for name, v := range map[string]*visitor{"header": marked, "baggage": s.sky.with("baggage", "a=b, "+session.BaggageMember+"=blue"), "preview host": preview} {
		page, err := v.page(ctx)
		if err != nil {
			return fmt.Errorf("request by %s: %w", name, err)
		}
		if err := claim(isBlue(page), "a request by %s does not see the blue sky", name); err != nil {
			return err
		}
	}
	page, err := s.sky.page(ctx)
	if err != nil {
		return err
	}
	if err := claim(!isBlue(page), "a request without a mark sees the blue sky"); err != nil {
		return err
	}
	return s.checkFork(ctx, marked, preview)
}

func isBlue(page string) bool { return strings.Contains(strings.ToLower(page), "blue sky") }

// checkFork writes in both worlds and looks from both.
func (s *story) checkFork(ctx context.Context, marked, preview *visitor) error {
	const theirs, ours = "seen in blue only", "seen in production only"
	if err := marked.write(ctx, theirs); err != nil {
		return err
	}
	if err := s.sky.write(ctx, ours); err != nil {
		return err
	}
	s.acked[ours] = true
	blue, err := preview.notes(ctx)
	if err != nil {
		return err
	}
	production, err := s.sky.notes(ctx)
	if err != nil {
		return err
	}
	if err := claim(blue[theirs] == 1 && blue[ours] == 0, "the fork has the wrong notes"); err != nil {
		return err
	}
	if err := claim(production[ours] == 1 && production[theirs] == 0, "production has the wrong notes"); err != nil {
		return err
	}
	return claim(blue["first light 0"] == 1, "the fork does not begin with production's notes")
}

func (s *story) awaitSession(ctx context.Context, develop *child) error {
	return until(ctx, 30*time.Second, func() error {
		select {
		case <-develop.done:
			return fmt.Errorf("session develop ended: %w (see develop.log)", develop.err)
		default:
		}
		all, err := s.sessions(ctx)
		if err != nil {
			return err
		}
		return claim(len(all) == 1 && all[0].Ready, "session blue is not ready")
	})
}

func (s *story) sessions(ctx context.Context) ([]session.Session, error) {
	var all []session.Session
	err := s.ask(ctx, s.nodes[0], &all, "session", "list")
	return all, err
}

// afterSession checks that nothing of the session is left.
func (s *story) afterSession(ctx context.Context) (string, error) {
	err := until(ctx, 20*time.Second, func() error {
		all, err := s.sessions(ctx)
		if err != nil {
			return err
		}
		return claim(len(all) == 0, "session blue is still there")
	})
	if err != nil {
		return "", err
	}
	for _, n := range s.nodes {
		var all []state.Status
		if err := s.ask(ctx, n, &all, "component", "list"); err != nil {
			return "", err
		}
		for _, c := range all {
			if err := claim(c.Component.Session == "", "component %s of the session is still on node %s", c.Component.Ref(), n.name); err != nil {
				return "", err
			}
		}
	}
	if err := s.complete(ctx); err != nil {
		return "", err
	}
	var link struct {
		Link string `json:"link"`
	}
	out, err := s.orrery(ctx, s.nodes[0].dir, "dashboard", "-o", "json")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(out, &link); err != nil {
		return "", err
	}
	s.link = link.Link
	return fmt.Sprintf("all %d notes", len(s.acked)), nil
}
