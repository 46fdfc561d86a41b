package peer_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"orrery/matrix/contact"
)

// subscribers are the kinds of numbers, as the other library has them, that are somebody's telephone.
var subscribers = []phonenumbers.PhoneNumberType{
	phonenumbers.MOBILE, phonenumbers.FIXED_LINE, phonenumbers.FIXED_LINE_OR_MOBILE, phonenumbers.VOIP, phonenumbers.PERSONAL_NUMBER,
}

// TestNumbers: numbers as people write them become what another library makes of them, in every country, or are refused.
func TestNumbers(t *testing.T) {
	refused := 0
	for country := range phonenumbers.GetSupportedRegions() {
		code, err := contact.CallingCode(country)
		if want := strconv.Itoa(phonenumbers.GetCountryCodeForRegion(country)); err != nil || code != want {
			t.Errorf("the calling code of %s is %q, %v, not %s", country, code, err, want)
			continue
		}
		for _, kind := range subscribers {
			n := phonenumbers.GetExampleNumberForType(country, kind)
			if n == nil {
				continue
			}
			for text, needed := range written(country, n) {
				needed = needed && (kind == phonenumbers.MOBILE || kind == phonenumbers.FIXED_LINE)
				if !agree(t, country, text) && needed {
					refused++
					t.Errorf("%s %q is refused", country, text)
				}
			}
		}
	}
}

// written are ways to write a number, and whether it must be understood so.
func written(country string, n *phonenumbers.PhoneNumber) map[string]bool {
	whole := strings.TrimPrefix(phonenumbers.Format(n, phonenumbers.E164), "+")
	within := phonenumbers.GetNationalSignificantNumber(n)
	code := strconv.Itoa(int(n.GetCountryCode()))
	trunk := phonenumbers.GetNddPrefixForRegion(country, true)
	all := map[string]bool{"00" + whole: false, "011" + whole: false, whole: false, code + trunk + within: false, "0" + within: false, "1" + within: false, "8" + within: false}
	for _, text := range []string{"+" + whole, phonenumbers.Format(n, phonenumbers.INTERNATIONAL), phonenumbers.Format(n, phonenumbers.NATIONAL), within, trunk + within} {
		all[text] = true
	}
	if trunk == "0" {
		all["+"+code+" (0) "+within] = true
	}
	if country == "CO" { // there the 0 is followed by a digit for who carries the call, or by none
		all["0"+within], all["+"+code+" (0) "+within] = false, false
	}
	return all
}

// agree says whether a text is understood; then it is what the other library understands, if that takes it for the number of a telephone.
func agree(t *testing.T, country, text string) bool {
	t.Helper()
	ours, err := contact.Dialled(country, text)
	if err != nil {
		if !errors.Is(err, contact.ErrAddress) {
			t.Error(err)
		}
		return false
	}
	if again, err := contact.Parse(contact.MSISDN, ours.Text); err != nil || again != ours {
		t.Errorf("%s %q becomes %s, and then %s, %v", country, text, ours, again, err)
	}
	theirs, err := phonenumbers.Parse(text, country)
	if err == nil && slices.Contains(subscribers, phonenumbers.GetNumberType(theirs)) && phonenumbers.Format(theirs, phonenumbers.E164) != "+"+ours.Text {
		t.Errorf("%s %q is %s, and %s by the other library", country, text, ours, phonenumbers.Format(theirs, phonenumbers.E164))
	}
	return true
}

// TestRandomNumbers: so do numbers by chance, most of which nobody has.
func TestRandomNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 0))
	for _, country := range slices.Sorted(maps.Keys(phonenumbers.GetSupportedRegions())) {
		for range 20 {
			agree(t, country, digits(r))
		}
		for _, kind := range subscribers[:3] {
			n := phonenumbers.GetExampleNumberForType(country, kind)
			if n == nil {
				continue
			}
			for range 5 {
				theirs, err := phonenumbers.Parse(fmt.Sprintf("+%d%s", n.GetCountryCode(), changed(r, phonenumbers.GetNationalSignificantNumber(n))), country)
				if err != nil || !phonenumbers.IsValidNumberForRegion(theirs, country) {
					continue
				}
				for text := range written(country, theirs) {
					agree(t, country, text)
				}
			}
		}
	}
}

// seed is the same each time, so that what passes passes again; ORRERY_TEST_FULL=1 makes another one.
func seed(t *testing.T) uint64 {
	t.Helper()
	if os.Getenv("ORRERY_TEST_FULL") == "" {
		return 1
	}
	s := rand.Uint64()
	t.Logf("seed %d", s)
	return s
}

// digits are what somebody might dial.
func digits(r *rand.Rand) string {
	text := []string{"", "0", "00", "1", "8", "08"}[r.IntN(6)]
	for range 5 + r.IntN(8) {
		text += strconv.Itoa(r.IntN(10))
	}
	return text
}

// changed is a number with some digits changed.
func changed(r *rand.Rand, number string) string {
	b := []byte(number)
	for range 1 + r.IntN(len(b)) {
		b[r.IntN(len(b))] = byte('0' + r.IntN(10))
	}
	return string(b)
}
