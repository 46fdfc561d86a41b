// Package desktop is what benchmarks of the clipboard manager share: an X server, and a history to measure with.
package desktop

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"orrery/bench/internal/server"
)

// StartX starts an X server without a screen (Xvfb of Debian), whose output goes to the end of a file, and returns its display when it can be used.
func StartX(log string) (p *server.Process, display string, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer from.Close()                                                                                            //nolint:errcheck // it was only read
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset") //nolint:noctx // it ends with the benchmark
	cmd.ExtraFiles = []*os.File{to}
	p, err = server.Start(cmd, log)
	if err := errors.Join(err, to.Close()); err != nil {
		return p, "", err
	}
	number, err := bufio.NewReader(from).ReadString('\n')
	if err != nil {
		return p, "", fmt.Errorf("no X server came: %w", err)
	}
	return p, ":" + strings.TrimSpace(number), nil
}

// History writes a history of n items, as clip export has it, and their texts, a line each, below a folder. Texts have some 75 bytes, about as those that people
// copy have on average when few are long.
func History(folder string, n int) (export, lines string, err error) {
	export, lines = filepath.Join(folder, "export"), filepath.Join(folder, "lines")
	var items, texts strings.Builder
	fmt.Fprintln(&items, `{"format":"orrery-clip-export","version":1}`)
	words := strings.Fields("the of and a to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when")
	at := time.Now().Add(-time.Duration(n) * time.Minute)
	for i := range n {
		said := []string{"item", strconv.Itoa(i)}
		for j := range 14 {
			said = append(said, words[(i*7+j*j*13+i*j)%len(words)])
		}
		text := strings.Join(said, " ")
		fmt.Fprintln(&texts, text)
		when := at.Add(time.Duration(i) * time.Minute).UTC().Format(time.RFC3339)
		fmt.Fprintf(&items, `{"contents":[{"type":"text/plain;charset=utf-8","data":%q}],"created":%q,"used":%q,"count":1}`+"\n", base64.StdEncoding.EncodeToString([]byte(text)), when, when)
	}
	return export, lines, errors.Join(os.WriteFile(export, []byte(items.String()), 0o600), os.WriteFile(lines, []byte(texts.String()), 0o600))
}
