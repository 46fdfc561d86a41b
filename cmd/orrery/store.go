package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state/store"
	"orrery/state/vault"
)

// naming a store, for help texts.
const storeNaming = `STORE is a folder, file:///PATH, s3://BUCKET/PREFIX (with ?endpoint=URL&region=NAME for services other than
Amazon's), gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX; nothing means this machine's own store. Credentials of a
service come from its usual environment variables and files. What opens an encrypted store comes from --identity,
--passphrase-file, or the environment: ` + vault.EnvIdentityFile + `, ` + vault.EnvPassphraseFile + ` (names of files),
` + vault.EnvIdentity + `, ` + vault.EnvPassphrase + ` (what would be in them).`

// opening adds the flags with which encrypted stores are opened.
func (c *cli) opening(cmd *cobra.Command) func() agent.Stores {
	var identities []string
	var passphrase string
	cmd.PersistentFlags().StringArrayVar(&identities, "identity", nil, "file of age identities, or an SSH private key, that opens an encrypted store")
	cmd.PersistentFlags().StringVar(&passphrase, "passphrase-file", "", "file whose first line is the passphrase of an encrypted store")
	return func() agent.Stores {
		return agent.Stores{Dir: c.dir, Identities: identities, PassphraseOf: passphrase}
	}
}

func (c *cli) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Make snapshot stores in folders and buckets, and handle the keys of encrypted ones",
		Long:  "Make snapshot stores in folders and buckets, and handle the keys of encrypted ones.\n\n" + storeNaming,
	}
	stores := c.opening(cmd)
	keys := &cobra.Command{Use: "key", Short: "Handle the keys that open an encrypted store"}
	keys.AddCommand(c.storeKeyList(stores), c.storeKeyAdd(stores), c.storeKeyRemove(stores))
	cmd.AddCommand(c.storeInit(stores), c.storeInfo(stores), keys)
	return cmd
}

// addressOf is the store that the arguments name.
func addressOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// onStore runs an operation on a store.
func onStore(cmd *cobra.Command, s agent.Stores, address string, do func(*store.Store) error) (err error) {
	opened, end, err := s.Open(cmd.Context(), address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	return do(opened)
}

// inStore lets operations on a machine work on another store than its own, if one is named.
func (c *cli) inStore(with onMachine, stores func() agent.Stores, elsewhere *string) onMachine {
	return func(cmd *cobra.Command, do func(agent.Machine) error) error {
		if *elsewhere == "" {
			return with(cmd, do)
		}
		return onStore(cmd, stores(), *elsewhere, func(s *store.Store) error {
			return with(cmd, func(m agent.Machine) error {
				m.Store, m.Library = s, agent.InStore(cmd.Context(), c.dir, s)
				return do(m)
			})
		})
	}
}

// wrapping are the flags that say for whom a store's key is wrapped.
type wrapping struct {
	recipients []string
	file       string
	passphrase string
	note       string
}

func (w *wrapping) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&w.recipients, "recipient", nil, "public key of age (age1...) or SSH that opens the store")
	f.StringVar(&w.file, "recipients-file", "", "file with a public key in each line")
	f.StringVar(&w.passphrase, "new-passphrase-file", "", "file whose first line is a passphrase that opens the store")
	f.StringVar(&w.note, "note", "", "what the key is, for people; readable by everybody who sees the store")
}

func (w *wrapping) slots(k vault.Key) ([]vault.Slot, error) {
	recipients := w.recipients
	if w.file != "" {
		b, err := os.ReadFile(w.file)
		if err != nil {
			return nil, fmt.Errorf("cannot read recipients: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				recipients = append(recipients, line)
			}
		}
	}
	var all []vault.Slot
	now := time.Now().UTC()
	for _, r := range recipients {
		s, err := vault.WrapRecipient(k, r, w.note, now)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if w.passphrase == "" {
		return all, nil
	}
	pass, err := vault.ReadPassphrase(w.passphrase)
	if err != nil {
		return nil, err
	}
	s, err := vault.WrapPassphrase(k, pass, w.note, vault.WorkFactor, now)
	return append(all, s), err
}

func (w *wrapping) any() bool { return len(w.recipients) > 0 || w.file != "" || w.passphrase != "" }

func (c *cli) storeInit(stores func() agent.Stores) *cobra.Command {
	var w wrapping
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "init [STORE]",
		Short: "Make a store, encrypted if a recipient or passphrase is given",
		Long: `Make a store, encrypted if a recipient or passphrase is given. Any of them opens it; without one of their private
keys or passphrases nobody can read it again, so give more than one and keep one elsewhere. A plain store
becomes an encrypted one by orrery snapshot copy into it.

` + storeNaming,
		Example: `  orrery store init s3://backups/home --encrypt --recipient age1... --new-passphrase-file recovery
  orrery snapshot copy --to s3://backups/home`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if encrypt != w.any() {
				return commandline.Usage(errors.New("an encrypted store takes --encrypt and a key: --recipient, --recipients-file or --new-passphrase-file"))
			}
			wrap := w.slots
			if !encrypt {
				wrap = nil
			}
			made, end, err := stores().Init(cmd.Context(), addressOf(args), wrap)
			if err != nil {
				return err
			}
			return errors.Join(c.printStore(cmd, made), end())
		},
	}
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "make it an encrypted one")
	w.add(cmd)
	return cmd
}

// storeInfo is what is said about a store.
type storeInfo struct {
	Store       string `json:"store"`
	Encrypted   bool   `json:"encrypted"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Keys        int    `json:"keys"`
	Snapshots   int    `json:"snapshots"`
	Logical     int64  `json:"logical"`
	Stored      int64  `json:"stored"`
}

func (c *cli) printStore(cmd *cobra.Command, s *store.Store) error {
	u, err := s.Usage(cmd.Context())
	if err != nil {
		return err
	}
	info := storeInfo{s.String(), s.Encrypted(), s.Fingerprint(), 0, u.Snapshots, u.Logical, u.Stored}
	if info.Encrypted {
		keys, err := s.Keys(cmd.Context())
		if err != nil {
			return err
		}
		info.Keys = len(keys)
	}
	encrypted := "no"
	if info.Encrypted {
		encrypted = fmt.Sprintf("yes, key %s, which %d keys open", info.Fingerprint, info.Keys)
	}
	return c.table(info, []string{"what", "value"}, [][]string{
		{"store", info.Store},
		{"encrypted", encrypted},
		{"snapshots", fmt.Sprint(info.Snapshots)},
		{"size", commandline.Size(info.Logical)},
		{"stored", commandline.Size(info.Stored)},
	})
}

func (c *cli) storeInfo(stores func() agent.Stores) *cobra.Command {
	return &cobra.Command{
		Use: "info [STORE]", Short: "Describe a store", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onStore(cmd, stores(), addressOf(args), func(s *store.Store) error { return c.printStore(cmd, s) })
		},
	}
}

func (c *cli) printKeys(all []vault.Slot) error {
	type key struct {
		ID        string    `json:"id"`
		Kind      string    `json:"kind"`
		Recipient string    `json:"recipient,omitempty"`
		Note      string    `json:"note,omitempty"`
		Created   time.Time `json:"created"`
	}
	keys, rows := []key{}, [][]string{}
	for _, s := range all {
		keys = append(keys, key{s.ID, s.Kind, s.Recipient, s.Note, s.Created})
		rows = append(rows, []string{s.ID, s.Kind, orDash(s.Recipient), orDash(s.Note), s.Created.Local().Format(time.DateTime)})
	}
	return c.table(keys, []string{"key", "kind", "recipient", "note", "created"}, rows)
}

func (c *cli) storeKeyList(stores func() agent.Stores) *cobra.Command {
	return &cobra.Command{
		Use: "list [STORE]", Short: "List the keys that open a store", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onStore(cmd, stores(), addressOf(args), func(s *store.Store) error {
				all, err := s.Keys(cmd.Context())
				if err != nil {
					return err
				}
				return c.printKeys(all)
			})
		},
	}
}

func (c *cli) storeKeyAdd(stores func() agent.Stores) *cobra.Command {
	var w wrapping
	cmd := &cobra.Command{
		Use: "add [STORE]", Short: "Let another key open a store", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !w.any() {
				return commandline.Usage(errors.New("which key? Give --recipient, --recipients-file or --new-passphrase-file"))
			}
			return onStore(cmd, stores(), addressOf(args), func(s *store.Store) error {
				added, err := s.AddKeys(cmd.Context(), w.slots)
				if err != nil {
					return err
				}
				return c.printKeys(added)
			})
		},
	}
	w.add(cmd)
	return cmd
}

func (c *cli) storeKeyRemove(stores func() agent.Stores) *cobra.Command {
	return &cobra.Command{
		Use:   "remove KEY [STORE]",
		Short: "Let a key open a store no longer",
		Long: `Let a key open a store no longer. Nothing but the key's file is removed. Who had the key may have kept the
store's own key, or a copy of the file: where that matters, copy the snapshots into a new store.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onStore(cmd, stores(), addressOf(args[1:]), func(s *store.Store) error {
				if err := s.RemoveKey(cmd.Context(), args[0]); err != nil {
					return err
				}
				c.line("key %s does not open %s any more", args[0], s)
				return nil
			})
		},
	}
}
