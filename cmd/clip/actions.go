package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/picker"
	"orrery/clip/terminal"
	"orrery/internal/commandline"
)

// configured is an action in the file of settings.
type configured struct {
	Name    string   `toml:"name"`
	Off     bool     `toml:"off"`     // takes the one with this name away
	Text    string   `toml:"text"`    // a regular expression
	Types   []string `toml:"types"`   // patterns
	Builtin string   `toml:"builtin"` // or
	Run     []string `toml:"run"`     // or
	Shell   string   `toml:"shell"`
	Output  string   `toml:"output"`
	Timeout string   `toml:"timeout"`
}

// actions are those that are offered: those of the settings, and then those that are there by default.
func (s *settings) actions() (action.Set, error) {
	var own action.Set
	var off []string
	for i := range s.Actions {
		if s.Actions[i].Off {
			off = append(off, s.Actions[i].Name)
			continue
		}
		a, err := s.Actions[i].action()
		if err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
		own = append(own, a)
	}
	return action.Defaults().With(own...).Without(off...), nil
}

func (c *configured) action() (action.Action, error) {
	a := action.Action{Name: c.Name, Types: c.Types, Builtin: action.Builtin(c.Builtin), Run: c.Run, Shell: c.Shell, Output: action.Output(c.Output)}
	var err error
	if c.Text != "" {
		if a.Text, err = regexp.Compile(c.Text); err != nil {
			return a, fmt.Errorf("action %q: text: %w", c.Name, err)
		}
	}
	if c.Timeout != "" {
		if a.Timeout, err = time.ParseDuration(c.Timeout); err != nil {
			return a, fmt.Errorf("action %q: timeout %q is no duration such as 10s", c.Name, c.Timeout)
		}
	}
	return a, a.Check()
}

func (c *cli) actionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "action",
		Short: "Do something with an item besides copying it",
		Long: `Do something with an item besides copying it: what the picker offers for it. Some are there by default, others are in the file of settings, under [[actions]];
docs/clip.md has the fields.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.actionListCommand(), c.actionRunCommand())
	return cmd
}

func (c *cli) loadActions() (action.Set, error) {
	s, err := load(c.settings)
	if err != nil {
		return nil, err
	}
	return s.actions()
}

func (c *cli) actionListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [ID]", Short: "Print all actions, or those for an item", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := c.loadActions()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				item, err := c.item(cmd, args)
				if err != nil {
					return err
				}
				set = set.For(&item)
			}
			if c.output == "json" {
				return c.json(describe(set))
			}
			for _, a := range set {
				fmt.Fprintln(c.stdout, a.Name)
			}
			return nil
		},
	}
}

// described is an action as -o json has it.
type described struct {
	Name    string   `json:"name"`
	Text    string   `json:"text,omitempty"`
	Types   []string `json:"types,omitempty"`
	Builtin string   `json:"builtin,omitempty"`
	Run     []string `json:"run,omitempty"`
	Shell   string   `json:"shell,omitempty"`
	Output  string   `json:"output,omitempty"`
}

func describe(set action.Set) []described {
	all := make([]described, 0, len(set))
	for _, a := range set {
		d := described{Name: a.Name, Types: a.Types, Builtin: string(a.Builtin), Run: a.Run, Shell: a.Shell, Output: string(a.Output)}
		if a.Text != nil {
			d.Text = a.Text.String()
		}
		all = append(all, d)
	}
	return all
}

// item is the whole item that an argument names.
func (c *cli) item(cmd *cobra.Command, args []string) (clip.Item, error) {
	id, err := c.one(args)
	if err != nil {
		return clip.Item{}, err
	}
	return c.source().Show(cmd.Context(), id)
}

func (c *cli) actionRunCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "run ID NAME", Short: "Carry out an action for an item; what it makes is printed, and kept where that is its output", Args: commandline.Exactly("ID", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := c.loadActions()
			if err != nil {
				return err
			}
			a, ok := set.Find(args[1])
			if !ok {
				return commandline.Usage(fmt.Errorf("action %q is unknown (clip action list prints them)", args[1]))
			}
			item, err := c.item(cmd, args[:1])
			if err != nil {
				return err
			}
			if len((action.Set{a}).For(&item)) == 0 {
				return fmt.Errorf("action %q is not for item %d (clip action list %d prints those that are)", a.Name, item.ID, item.ID)
			}
			if dry {
				return c.sayAction(&a, &item)
			}
			return c.runAction(cmd, a, &item)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be run, and run nothing")
	return cmd
}

// sayAction says what an action would do.
func (c *cli) sayAction(a *action.Action, item *clip.Item) error {
	what := "builtin " + string(a.Builtin)
	if a.Builtin == "" {
		program, stdin, err := a.Command(item)
		if err != nil {
			return err
		}
		what = shellquote.Join(program...)
		if stdin != nil {
			what += fmt.Sprintf(" <(%d bytes of item %d)", len(stdin), item.ID)
		}
	}
	if a.Output != action.None {
		what += " | " + string(a.Output)
	}
	fmt.Fprintln(c.stdout, what)
	return nil
}

func (c *cli) runAction(cmd *cobra.Command, a action.Action, item *clip.Item) error {
	s := c.source()
	switch a.Builtin { //nolint:exhaustive // the others make something
	case action.Edit:
		return c.edit(cmd, item.ID)
	case action.Swatch:
		colour, _ := action.ParseColour(action.Text(item))
		fmt.Fprintf(c.stdout, "%s rgb(%d, %d, %d)\n", colour, colour.R, colour.G, colour.B)
		return nil
	case action.QR:
		code, err := picker.Encode(action.Text(item))
		if err != nil {
			return fmt.Errorf("no QR code of item %d: %w", item.ID, err)
		}
		fmt.Fprintln(c.stdout, strings.Join(terminal.Code(code), "\n"))
		return nil
	}
	printed, err := s.Run(cmd.Context(), item.ID, a)
	if err != nil {
		return err
	}
	fmt.Fprint(c.stdout, printed)
	if printed != "" && !strings.HasSuffix(printed, "\n") {
		fmt.Fprintln(c.stdout)
	}
	return nil
}

func (c *cli) editCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "edit [ID|-]",
		Short: "Edit an item's text in $EDITOR; what comes of it is a new item",
		Long: `Edit an item's text in the editor that VISUAL or EDITOR names. What comes of it is a new item, with the tags and the note of the old one, which stays as it is. Its id is
printed.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.one(args)
			if err != nil {
				return err
			}
			return c.edit(cmd, id)
		},
	}
}

func (c *cli) edit(cmd *cobra.Command, id clip.ID) error {
	made, err := c.source().Edit(cmd.Context(), id, c.stdin, c.stderr, c.stderr)
	switch {
	case err != nil:
		return err
	case made == nil:
		return errors.New("nothing was changed")
	case c.output == "json":
		return c.json(made)
	}
	fmt.Fprintln(c.stdout, made.ID)
	return nil
}
