package lan

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"orrery/internal/testenv"
)

// Lose has the kernels of all hosts lose a share of the packets that reach them (nft's meta random), instead of the switch; 0 ends that. An error is why nft, or this machine's kernel, cannot.
func (l *LAN) Lose(share float64) error {
	testenv.Need(l.tb, "nft", "apt-get install nftables", "/usr/sbin/nft", "/sbin/nft")
	rules := "table inet orrery\ndelete table inet orrery\n"
	if share > 0 {
		rules += fmt.Sprintf(`table inet orrery {
			counter lost {}
			chain arriving {
				type filter hook input priority 0
				iifname "eth0" meta random < %d counter name lost drop
			}
		}`, uint32(share*math.MaxUint32))
	}
	var errs []error
	for _, h := range l.hosts {
		_, err := h.nft(rules)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Lost is how many packets a host has lost since Lose.
func (l *LAN) Lost(name string) int {
	l.tb.Helper()
	out, err := l.hosts[name].nft("list counter inet orrery lost\n")
	found := packets.FindStringSubmatch(out)
	if err != nil || found == nil {
		l.tb.Fatalf("host %s does not say what it lost: %s, %v", name, out, err)
	}
	count, err := strconv.Atoi(found[1])
	if err != nil {
		l.tb.Fatal(err)
	}
	return count
}

var packets = regexp.MustCompile(`packets (\d+)`)

// nft hands commands to nft on the host.
func (h *Host) nft(commands string) (string, error) {
	cmd := h.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("nft on host %s: %w: %s", h.Name, err, strings.TrimSpace(string(out)))
	}
	return string(out), err
}
