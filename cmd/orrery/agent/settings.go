package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"orrery/state"
	"orrery/state/keeper"
)

// Settings are what a node is told when it is made; they are kept in node.json
// in its folder, where people may edit them while the node is stopped.
type Settings struct {
	Name      string   `json:"name"`
	Listen    string   `json:"listen"`              // host:port for mutual TLS
	Gossip    string   `json:"gossip"`              // host:port for the membership, UDP and TCP
	Dashboard string   `json:"dashboard"`           // host:port on loopback
	Advertise string   `json:"advertise"`           // the host at which others reach this machine, where the above name all interfaces
	Zone      string   `json:"zone,omitempty"`      // machines that may fail together, such as those of a rack: replicas of a chain are spread over zones
	Roles     []string `json:"roles,omitempty"`     // free words for what the machine is for
	Loopback  bool     `json:"loopback"`            // discover on this machine only
	Discovery string   `json:"discovery,omitempty"` // the ways by which nodes are found, separated by commas; empty: DefaultDiscovery
	Cluster   string   `json:"cluster,omitempty"`   // the cluster's name, at its first node until the table has it
}

// Files in the folder of a node or a login.
const (
	settingsFile   = "node.json"
	loginFile      = "login.json"
	containersFile = "containers.json"
	hooksFile      = "hooks.json"
	addressesFile  = "addresses.json"
	socketFile     = "node.sock"
)

func isNode(dir string) bool {
	for _, file := range []string{settingsFile, loginFile} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return true
		}
	}
	return false
}

func saveJSON(path string, value any) error {
	encoded, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func loadJSON(path string, into any) error {
	encoded, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(encoded, into); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

// loadContainers reads the containers that somebody described for this machine; none is fine.
func loadContainers(dir string) ([]state.Container, error) {
	var containers []state.Container
	err := loadJSON(filepath.Join(dir, containersFile), &containers)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return containers, err
}

// loadHooks reads the programs that somebody wants to run around operations; none is fine. Others than the folder's owner
// cannot have written them.
func loadHooks(dir string) ([]keeper.Hook, error) {
	path := filepath.Join(dir, hooksFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s names programs to run and others can write it: nothing is done (chmod go-w it)", path)
	}
	var hooks []keeper.Hook
	return hooks, loadJSON(path, &hooks)
}

func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
