package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/history"
	"orrery/clip/keyring"
	"orrery/internal/commandline"
)

// keyringTime is how long the recorder waits for the keyring before it begins without the history.
const keyringTime = 3 * time.Second

// unlocking opens an encrypted history as it can be opened without being told a passphrase; else it stays locked. A keyring may ask its user first, so it takes long at times:
// begun is closed when it has ended, or is not to be waited for any more.
func unlocking(ctx context.Context, h *history.History, log *slog.Logger, begun chan<- struct{}) error {
	begin := sync.OnceFunc(func() { close(begun) })
	defer begin()
	if !h.Locked() {
		return nil
	}
	timer := time.AfterFunc(keyringTime, begin)
	defer timer.Stop()
	secrets, missing := keyring.Find(ctx, h.Stats().Keys)
	if ctx.Err() != nil {
		return nil // it was told to end
	}
	err := h.Unlock(secrets)
	if errors.Is(err, clip.ErrLocked) {
		log.WarnContext(ctx, "the history is locked, and nothing is recorded until clip unlock", "why", errors.Join(err, missing))
		return nil
	}
	sayRepair(ctx, h, log)
	return err
}

func (c *cli) encryptCommand() *cobra.Command {
	var keys []string
	cmd := &cobra.Command{
		Use:   "encrypt --key KIND...",
		Short: "Encrypt the history; if it is encrypted, with a new key",
		Long: `Encrypt the history on disk, with a new random key; if it is encrypted already, it is written anew with another one, which only the ways that are named now open. A way is

    secret-service   the desktop's keyring; the recorder opens the history by itself while that is unlocked
    passphrase       which is asked for on the terminal, or is the first line of the standard input; the recorder asks nobody: clip unlock
    file, file:PATH  a file that only its user can read, and that is made if it is not there (default: beside the settings)

Each of several opens the history. If the computer stops in the middle, the history is as it was before or as it is afterwards.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(keys) == 0 {
				return commandline.Usage(errors.New("say what opens the history: --key secret-service, --key passphrase or --key file"))
			}
			return c.encrypt(cmd.Context(), keys)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "what opens the history: secret-service, passphrase, file or file:PATH; may be given more than once")
	return cmd
}

func (c *cli) encrypt(ctx context.Context, keys []string) (err error) {
	before, err := c.status(ctx)
	if err != nil {
		return err
	}
	if before.History.Locked {
		return fmt.Errorf("%w (clip unlock)", clip.ErrLocked)
	}
	var secrets []history.Secret
	var undo []func() error
	for _, k := range slices.Compact(keys) {
		s, back, err := c.newSecret(ctx, k)
		if err == nil {
			secrets = append(secrets, s)
			undo = append(undo, back)
			continue
		}
		for _, u := range undo {
			err = errors.Join(err, u())
		}
		return err
	}
	if _, _, err := c.recorder().Do(ctx, control.Request{Op: control.OpRekey, Secrets: secrets}); err != nil {
		// A recorder that does not answer may have done it; then the secrets are needed.
		if after, failed := c.status(context.WithoutCancel(ctx)); failed == nil && slices.Equal(after.History.Keys, before.History.Keys) {
			for _, u := range undo {
				err = errors.Join(err, u())
			}
		}
		return err
	}
	return c.rekeyed(ctx, before)
}

// rekeyed forgets what opened the history before, and says what is left in the clear.
func (c *cli) rekeyed(ctx context.Context, before *control.Status) error {
	var errs []error
	for _, w := range before.History.Keys {
		errs = append(errs, keyring.Forget(ctx, w))
		if w.Kind == history.KeyFile {
			fmt.Fprintf(c.stderr, "key file %s does not open the history any more, unless it was named again\n", w.Hint)
		}
	}
	aside, err := filepath.Glob(filepath.Join(c.directory, "history.damaged-*"))
	if err == nil && len(aside) > 0 {
		fmt.Fprintf(c.stderr, "damaged histories stay as they are: %s\n", strings.Join(aside, ", "))
	}
	return errors.Join(append(errs, err)...)
}

// newSecret makes or asks for a secret; undo takes it back.
func (c *cli) newSecret(ctx context.Context, kind string) (s history.Secret, undo func() error, err error) {
	undo = func() error { return nil }
	name, path, _ := strings.Cut(kind, ":")
	switch {
	case kind == history.Passphrase:
		text, err := c.passphrase("New passphrase: ")
		if err == nil && c.asks() {
			var again []byte
			if again, err = c.passphrase("The same again: "); err == nil && string(again) != string(text) {
				err = errors.New("the two passphrases differ")
			}
		}
		return history.Secret{Kind: history.Passphrase, Text: text}, undo, err
	case kind == history.SecretService:
		s, err = keyring.NewService(ctx)
		return s, func() error {
			return keyring.Forget(context.WithoutCancel(ctx), history.Way{Kind: s.Kind, Hint: s.Hint})
		}, err
	case name == history.KeyFile:
		if path == "" {
			path = filepath.Join(filepath.Dir(c.settings), "key")
		}
		if path, err = filepath.Abs(path); err != nil {
			return s, undo, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return s, undo, err
		}
		s, fresh, err := keyring.NewFile(path)
		if fresh {
			undo = func() error {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				return nil
			}
		}
		return s, undo, err
	}
	return s, undo, commandline.Usage(fmt.Errorf("key %q is unknown (use secret-service, passphrase, file or file:PATH)", kind))
}

// asks says whether there is somebody to ask.
func (c *cli) asks() bool {
	f, ok := c.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// passphrase asks on the terminal, without showing what is typed; where there is none it is the first line of the standard input.
func (c *cli) passphrase(prompt string) (text []byte, err error) {
	if c.asks() {
		fmt.Fprint(c.stderr, prompt)
		text, err = term.ReadPassword(int(c.stdin.(*os.File).Fd())) //nolint:forcetypeassert // asks
		fmt.Fprintln(c.stderr)
	} else {
		text, err = bufio.NewReader(io.LimitReader(c.stdin, 4<<10)).ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		text = []byte(strings.TrimRight(string(text), "\r\n"))
	}
	if err == nil && len(text) == 0 {
		err = errors.New("no passphrase was given")
	}
	return text, err
}

func (c *cli) status(ctx context.Context) (*control.Status, error) {
	r, _, err := c.recorder().Do(ctx, control.Request{Op: control.OpStatus})
	if err != nil {
		return nil, err
	}
	return r.Status, nil
}

func (c *cli) decryptCommand() *cobra.Command {
	return &cobra.Command{
		Use: "decrypt", Short: "Write the history anew without encryption", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			before, err := c.status(cmd.Context())
			if err != nil {
				return err
			}
			if !before.History.Encrypted {
				return history.ErrPlain
			}
			if _, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpRekey}); err != nil {
				return err
			}
			return c.rekeyed(cmd.Context(), before)
		},
	}
}

func (c *cli) lockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lock",
		Short: "Let the recorder forget the key of the encrypted history, and all that it has of it in memory",
		Long: `Let the recorder forget the key of the encrypted history, and all that it has of it in memory, until clip unlock. Nothing is recorded meanwhile, and whoever asks for items
gets exit code 5. What the clipboard has stays there.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpLock})
			return err
		},
	}
}

func (c *cli) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unlock",
		Short: "Open the encrypted history again: by the keyring or a key file, or else by the passphrase",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.status(cmd.Context())
			if err != nil || !s.History.Locked {
				return err
			}
			_, _, err = c.recorder().Do(cmd.Context(), control.Request{Op: control.OpUnlock})
			if !errors.Is(err, clip.ErrLocked) || !slices.ContainsFunc(s.History.Keys, func(w history.Way) bool { return w.Kind == history.Passphrase }) {
				return err
			}
			text, err := c.passphrase("Passphrase: ")
			if err != nil {
				return err
			}
			_, _, err = c.recorder().Do(cmd.Context(), control.Request{Op: control.OpUnlock, Secrets: []history.Secret{{Kind: history.Passphrase, Text: text}}})
			return err
		},
	}
}
