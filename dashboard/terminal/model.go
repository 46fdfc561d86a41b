package terminal

import (
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// The panels, in the order of the tab key.
const (
	nodesPanel = iota
	chainsPanel
	ratesPanel
	eventsPanel
	panels
)

// keptRates is for how many snapshots rates are remembered.
const keptRates = 240

// Arrived is the message that a snapshot is there.
type Arrived struct{ Snapshot Snapshot }

// Lost is the message that no snapshot could be got.
type Lost struct {
	Err error
	At  time.Time
}

// Model is the screen. Update and View are functions of it and of what they are given.
type Model struct {
	width, height int

	shown   Snapshot
	have    bool // a snapshot was there
	history []Rates
	lost    Lost
	paused  bool

	focus  int
	views  [panels]view
	typing bool // a filter
	detail bool
	help   bool
	scroll int // of details and help
}

var _ tea.Model = Model{}

// view is how a panel is looked at.
type view struct {
	filter   string
	sort     int    // as sorted takes it
	selected string // id of a row
	index    int    // where it was, if it is gone
}

// New is a screen before anything is known.
func New() Model { return Model{width: 80, height: 24} }

// Init asks for nothing: who runs the model sends it snapshots.
func (m Model) Init() tea.Cmd { return nil }

// Update applies a message.
func (m Model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := message.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case Arrived:
		return m.arrived(msg.Snapshot), nil
	case Lost:
		m.lost = msg
	case tea.PasteMsg:
		if m.typing {
			m.views[m.focus].filter += legible(strings.TrimSpace(msg.Content))
		}
	case tea.KeyPressMsg:
		return m.key(msg)
	}
	return m, nil
}

// arrived takes a snapshot in. A screen that is paused goes on to show the one before.
func (m Model) arrived(s Snapshot) Model {
	m.lost = Lost{}
	if m.paused {
		return m
	}
	s = s.legible()
	if m.have {
		if rates, ok := RateBetween(m.shown, s); ok {
			m.history = append(slices.Clone(m.history[max(0, len(m.history)+1-keptRates):]), rates)
		}
	}
	m.shown, m.have = s, true
	return m
}

func (m Model) key(k tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	if k.String() == "ctrl+c" {
		return m, tea.Quit
	}
	if m.typing {
		return m.typed(k), nil
	}
	switch k.String() {
	case "q":
		return m, tea.Quit
	case "esc":
		return m.back(), nil
	case "?":
		m.help, m.scroll = !m.help, 0
	case "p", "space":
		m.paused = !m.paused
	case "up", "k":
		return m.move(-1), nil
	case "down", "j":
		return m.move(1), nil
	case "pgup":
		return m.move(-10), nil
	case "pgdown":
		return m.move(10), nil
	case "home", "g":
		return m.move(-1 << 20), nil
	case "end", "G":
		return m.move(1 << 20), nil
	default:
		if !m.detail && !m.help {
			return m.onPanel(k.String()), nil
		}
	}
	return m, nil
}

// onPanel is a key that has a meaning while panels are shown.
func (m Model) onPanel(key string) Model {
	v := &m.views[m.focus]
	switch key {
	case "tab", "right", "l":
		m.focus = (m.focus + 1) % panels
	case "shift+tab", "left", "h":
		m.focus = (m.focus + panels - 1) % panels
	case "1", "2", "3", "4":
		m.focus = int(key[0] - '1')
	case "/":
		m.typing = m.focus != ratesPanel
	case "s":
		if columns := m.columns(); len(columns) > 0 {
			v.sort = (max(v.sort, -v.sort) + 1) % (len(columns) + 1)
		}
	case "S":
		v.sort = -v.sort
	case "enter":
		_, at := m.rows()
		m.detail, m.scroll = at >= 0, 0
	}
	return m
}

// typed is a key of a filter that is being typed.
func (m Model) typed(k tea.KeyPressMsg) Model {
	v := &m.views[m.focus]
	switch k.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, v.filter = false, ""
	case "backspace":
		if r := []rune(v.filter); len(r) > 0 {
			v.filter = string(r[:len(r)-1])
		}
	default:
		v.filter += k.Key().Text
	}
	return m
}

// back closes what is open, the innermost first.
func (m Model) back() Model {
	switch {
	case m.help:
		m.help = false
	case m.detail:
		m.detail = false
	default:
		m.views[m.focus].filter = ""
	}
	return m
}

// move moves what the arrows move: lines of details, or the selected row.
func (m Model) move(by int) Model {
	if m.detail || m.help {
		m.scroll = max(0, min(m.scroll+by, len(m.overlay())-1))
		return m
	}
	rows, at := m.rows()
	if at < 0 {
		return m
	}
	at = max(0, min(at+by, len(rows)-1))
	m.views[m.focus].selected, m.views[m.focus].index = rows[at].id, at
	return m
}

func (m Model) columns() []column {
	return [panels][]column{nodeColumns, chainColumns, nil, eventColumns}[m.focus]
}

// rows are the rows of the panel that has the focus, and which is selected; -1 if there is none.
func (m Model) rows() ([]row, int) { return m.rowsOf(m.focus) }

func (m Model) rowsOf(panel int) ([]row, int) {
	var rows []row
	switch panel {
	case nodesPanel:
		rows = nodeRows(m.shown)
	case chainsPanel:
		rows = chainRows(m.shown)
	case eventsPanel:
		rows = eventRows(m.shown)
	}
	v := m.views[panel]
	rows = sorted(matching(rows, v.filter), v.sort)
	at := slices.IndexFunc(rows, func(r row) bool { return r.id == v.selected })
	if at < 0 {
		at = min(v.index, len(rows)-1)
	}
	return rows, at
}
