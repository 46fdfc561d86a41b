package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/room"
	"orrery/matrix/server"
)

// cli is what all commands share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // table or json
	config         string // path
}

// Exit codes, so that scripts can tell failures apart.
const (
	exitFailure  = 1
	exitUsage    = commandline.StatusUsage
	exitNotFound = 3 // no such user, room, ...
	exitRefused  = 4 // an event is not allowed, or is no event
)

func exitCode(err error) int {
	switch {
	case commandline.IsUsage(err):
		return exitUsage
	case errors.Is(err, account.ErrNotFound), errors.Is(err, room.ErrNotFound), errors.Is(err, contact.ErrUnknown):
		return exitNotFound
	case errors.Is(err, matrix.ErrForbidden), errors.Is(err, matrix.ErrMalformed), errors.Is(err, matrix.ErrTooLarge):
		return exitRefused
	}
	return exitFailure
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "homeserver",
		Short: "A Matrix homeserver",
		Long: `Homeserver serves Matrix clients. "homeserver init" writes a configuration, "homeserver serve" serves, "homeserver user create" makes accounts. It is being
built: docs/matrix.md says what works.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := commandline.CheckFlags(cmd); err != nil {
				return err
			}
			return commandline.CheckOutput(c.output)
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	commandline.Output(root, &c.output)
	root.PersistentFlags().StringVar(&c.config, "config", server.ConfigFile, "the configuration's file")
	root.AddCommand(c.initCommand(), c.serveCommand(), c.userCommand(), c.tokenCommand(), c.appserviceCommand(), c.eventCommand(), c.noticeCommand())
	root.AddCommand(c.roomCommand(), c.mediaCommand(), c.migrateCommand(), c.copyCommand(), c.backupCommand(), c.checkCommand(), c.doctorCommand())
	commandline.Strict(root)
	return root
}

func (c *cli) json(value any) error {
	return commandline.JSON(c.stdout, value)
}

func (c *cli) logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log_level %q is none of debug, info, warn, error", level)
	}
	return slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: l})), nil
}

// configured reads the configuration, and makes the logger that it asks for.
func (c *cli) configured() (*server.Config, *slog.Logger, error) {
	config, err := server.ReadConfig(filepath.Clean(c.config))
	if err != nil {
		return config, nil, err
	}
	surroundings(config, os.Getenv)
	logger, err := c.logger(config.LogLevel)
	return config, logger, err
}

// surroundings takes what the environment says in place of the configuration: where this server's things are on the machine that it runs on. In a session of
// Orrery it is a copy of a server, and tells nobody anything.
func surroundings(config *server.Config, get func(string) string) {
	for name, setting := range map[string]*string{
		"HOMESERVER_LISTEN": &config.Listen, "HOMESERVER_DATABASE": &config.Database, "HOMESERVER_MEDIA": &config.Media, "HOMESERVER_SIGNING_KEY": &config.SigningKey,
	} {
		if value := get(name); value != "" {
			*setting = value
		}
	}
	if value := get("HOMESERVER_OPERATOR"); value != "" { // relative to where the program runs: servers that share a configuration run in folders of their own
		if path, err := filepath.Abs(value); err == nil {
			config.Operator = path
		}
	}
	if get("ORRERY_SESSION") != "" {
		config.Outbound = false
	}
}

func (c *cli) initCommand() *cobra.Command {
	var name, dir string
	cmd := &cobra.Command{
		Use:   "init --server-name NAME",
		Short: "Write a configuration with every default, and a signing key",
		Args:  commandline.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			path, err := server.Init(name, dir)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]string{"config": path})
			}
			fmt.Fprintf(c.stdout, "wrote %s and its signing key. Next:\n  homeserver --config %s user create NAME\n  homeserver --config %s serve\n", path, path, path)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "server-name", "", "the name in the ids of users and rooms; it can never be changed")
	cmd.Flags().StringVar(&dir, "data-dir", ".", "the folder to write into")
	_ = cmd.MarkFlagRequired("server-name")
	_ = cmd.MarkFlagDirname("data-dir")
	return cmd
}

// open opens the server that the configuration describes.
func (c *cli) open(cmd *cobra.Command, change func(*server.Config)) (*server.Server, *slog.Logger, error) {
	config, logger, err := c.configured()
	if err != nil {
		return nil, nil, err
	}
	change(config)
	config.Version = version
	s, err := server.Open(cmd.Context(), config, logger)
	return s, logger, err
}
