// Package terminal draws a picker in a terminal.
package terminal

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/find"
	"orrery/clip/picker"
)

// Source is where items come from, and what is done with them.
type Source interface {
	Search(ctx context.Context, query string, mode find.Mode, limit int) ([]clip.Summary, error)
	Show(ctx context.Context, id clip.ID) (clip.Item, error)
	// Give puts an item into the clipboard. paste also pastes it, once the picker has ended, into the window that then has the focus.
	Give(ctx context.Context, id clip.ID, plain, paste bool) error
	Pin(ctx context.Context, id clip.ID, pinned bool) error
	Delete(ctx context.Context, id clip.ID) error
	// Edit has somebody edit an item's text in this terminal; what comes of it is a new item, nil if nothing was changed.
	Edit(ctx context.Context, id clip.ID, in io.Reader, out, complaints io.Writer) (*clip.Summary, error)
	Open(ctx context.Context, address string) error
	// Run carries an action out, keeps what it printed where that is its output, and returns that.
	Run(ctx context.Context, id clip.ID, a action.Action) (printed string, err error)
}

// maxItems is how many matches are listed: nobody scrolls further.
const maxItems = 1000

// Run shows a picker until somebody has picked, or ended it. paste says that enter pastes, too; options are bubbletea's, for tests.
func Run(ctx context.Context, s Source, actions action.Set, paste bool, options ...tea.ProgramOption) error {
	m := &model{ctx: ctx, source: s}
	m.state, m.first = picker.Start(10, actions, paste)
	_, err := tea.NewProgram(m, append(options, tea.WithContext(ctx))...).Run()
	if m.cancel != nil {
		m.cancel()
	}
	if m.failed != nil {
		return m.failed
	}
	return err
}

// model is bubbletea's view of a picker.
type model struct {
	ctx           context.Context //nolint:containedctx // of the program: bubbletea's functions have none
	source        Source
	state         *picker.State
	first         []picker.Effect
	width, height int
	cancel        context.CancelFunc // ends the search before
	failed        error

	drawn                 []string // the picture that was drawn last, of an item, in this many rows and columns
	drawnID               clip.ID
	drawnRows, drawnWidth int
}

type (
	found struct {
		query picker.Search
		items []clip.Summary
		err   error
	}
	shown struct {
		item clip.Item
		err  error
	}
	done   struct{ err error }
	given  struct{ err error }
	opened struct{ err error }
	edited struct {
		made *clip.Summary
		err  error
	}
	ran struct {
		action  action.Action
		printed string
		err     error
	}
)

// Init is tea.Model's.
func (m *model) Init() tea.Cmd { return m.do(m.first) }

// Update is tea.Model's.
func (m *model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch e := message.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = e.Width, e.Height
		m.state.Resize(m.rows())
	case tea.KeyPressMsg:
		if e.Text != "" && !e.Mod.Contains(tea.ModAlt) {
			return m, m.do(m.state.Type(e.Text, 0))
		}
		return m, m.do(m.state.Key(e.String()))
	case tea.PasteMsg:
		return m, m.do(m.state.Type(strings.Join(strings.Fields(e.Content), " "), 0))
	case found:
		return m, m.do(m.state.Found(e.query, e.items, e.err))
	case shown:
		return m, m.do(m.state.Shown(e.item, e.err))
	case opened:
		return m, m.do(m.state.Opened(e.err))
	case edited:
		return m, m.do(m.state.Edited(e.made, e.err))
	case ran:
		return m, m.do(m.state.Ran(e.action, e.printed, e.err))
	case done:
		return m, m.do(m.state.Done(e.err))
	case given:
		m.failed = e.err
		return m, tea.Quit
	}
	return m, nil
}

// do carries effects out.
func (m *model) do(effects []picker.Effect) tea.Cmd {
	var commands []tea.Cmd
	for _, effect := range effects {
		commands = append(commands, m.command(effect))
	}
	return tea.Batch(commands...)
}

func (m *model) command(effect picker.Effect) tea.Cmd {
	switch e := effect.(type) {
	case picker.Search:
		if m.cancel != nil {
			m.cancel()
		}
		ctx, cancel := context.WithCancel(m.ctx)
		m.cancel = cancel
		return func() tea.Msg {
			items, err := m.source.Search(ctx, e.Query, e.Mode, maxItems)
			if ctx.Err() != nil {
				return nil
			}
			return found{e, items, err}
		}
	case picker.Show:
		return func() tea.Msg {
			item, err := m.source.Show(m.ctx, e.ID)
			return shown{item, err}
		}
	case picker.Give:
		return func() tea.Msg { return given{m.source.Give(m.ctx, e.ID, e.Plain, e.Paste)} }
	case picker.Pin:
		return func() tea.Msg { return done{m.source.Pin(m.ctx, e.ID, e.Pinned)} }
	case picker.Delete:
		return func() tea.Msg { return done{m.source.Delete(m.ctx, e.ID)} }
	case picker.Edit:
		session := &editing{m: m, id: e.ID}
		return tea.Exec(session, func(err error) tea.Msg { return edited{session.made, err} })
	case picker.Open:
		return func() tea.Msg { return opened{m.source.Open(m.ctx, e.Address)} }
	case picker.Run:
		return func() tea.Msg {
			printed, err := m.source.Run(m.ctx, e.ID, e.Action)
			return ran{e.Action, printed, err}
		}
	}
	return tea.Quit
}

// rows is how many items are shown: a third of the screen is for the preview.
func (m *model) rows() int { return max(1, m.height-3-m.previewRows()) }

func (m *model) previewRows() int {
	if m.height < 12 {
		return 0
	}
	return m.height / 3
}

// The looks.
var (
	chosen = lipgloss.NewStyle().Reverse(true)            //nolint:gochecknoglobals // a style
	faint  = lipgloss.NewStyle().Faint(true)              //nolint:gochecknoglobals // a style
	strong = lipgloss.NewStyle().Bold(true)               //nolint:gochecknoglobals // a style
	wrong  = lipgloss.NewStyle().Foreground(lipgloss.Red) //nolint:gochecknoglobals // a style
)

// View is tea.Model's.
func (m *model) View() tea.View {
	v := tea.NewView(m.draw())
	v.AltScreen = true
	return v
}

func (m *model) draw() string {
	if m.width == 0 {
		return ""
	}
	if lines := m.overlay(); lines != nil {
		return strings.Join(lines, "\n")
	}
	lines := []string{m.query()}
	for i, item := range m.state.Visible() {
		lines = append(lines, m.row(&item, m.state.Top+i == m.state.Cursor))
	}
	for len(lines) < 1+m.state.Rows {
		lines = append(lines, "")
	}
	lines = append(lines, faint.Render(strings.Repeat("─", m.width)))
	lines = append(lines, m.preview(m.previewRows())...)
	return strings.Join(append(lines, m.footer()), "\n")
}

func (m *model) query() string {
	return strong.Render("› ") + ansi.Truncate(m.state.Query+"▏", m.width-2, "…")
}

// signs of the kinds.
var signs = map[clip.Kind]string{clip.Text: " ", clip.HTML: "<", clip.Image: "▣", clip.Files: "/", clip.Other: "?"} //nolint:gochecknoglobals // a table

func (m *model) row(item *clip.Summary, cursor bool) string {
	pin := " "
	if item.Pinned {
		pin = "*"
	}
	text := item.Preview
	if item.Note != "" {
		text = item.Note + " · " + text
	}
	if len(item.Tags) > 0 {
		text += " #" + strings.Join(item.Tags, " #")
	}
	line := ansi.Truncate(pin+signs[item.Kind]+" "+harmless(text), m.width, "…")
	if cursor {
		return chosen.Render(line + strings.Repeat(" ", max(0, m.width-ansi.StringWidth(line))))
	}
	return line
}

// enters says what the enter key does.
var enters = map[bool]string{false: "copies", true: "pastes"} //nolint:gochecknoglobals // a table

func (m *model) footer() string {
	if m.state.Note != "" {
		return wrong.Render(ansi.Truncate(harmless(m.state.Note), m.width, "…"))
	}
	return faint.Render(ansi.Truncate(fmt.Sprintf("%d items · %s · enter %s, f1 helps", len(m.state.Items), m.state.Mode, enters[m.state.Paste]), m.width, "…"))
}

// harmless replaces what could control the terminal.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\u200d' || r == '\ufe0f' {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
