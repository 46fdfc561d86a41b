package validation

import (
	"strings"

	"orrery/matrix/contact"
)

// letter is what a mail is about.
type letter struct {
	Server  string
	Purpose contact.Purpose
	Refused bool   // the address cannot be used for this
	Owner   string // whose account has the address; "": nobody's
	User    string // who wants to add it; "": that is not known
	Link    string
}

// write is a mail's subject and text.
func write(l letter) (subject, text string) {
	if l.Refused {
		return l.refusal()
	}
	var what, otherwise string
	switch l.Purpose {
	case contact.Register:
		subject, what, otherwise = "Your new account on "+l.Server, "make an account on "+l.Server+" with this address", "no account is made with this address"
	case contact.Reset:
		subject, what, otherwise = "A new password on "+l.Server, "set a new password for the account "+l.Owner, "your password stays as it is"
	case contact.Add:
		subject, what, otherwise = "Your address on "+l.Server, "add this address to their account on "+l.Server, "the address is added to no account"
		if l.User != "" {
			what = "add this address to the account " + l.User
		}
	}
	return subject, lines(
		"Somebody, probably you, wants to "+what+".", "",
		"If it was you, open this page within a day:", "", l.Link, "",
		"If it was not you, do not open it: "+otherwise+".",
	)
}

func (l letter) refusal() (subject, text string) {
	unless := "If it was not you, there is nothing to do."
	switch l.Purpose {
	case contact.Register:
		return "Your account on " + l.Server, lines(
			"Somebody, probably you, wants to make an account on "+l.Server+" with this address.", "",
			"There is one already: "+l.Owner+". If you do not know its password any more, your app can have a new one set.", "", unless)
	case contact.Reset:
		return "No account on " + l.Server, lines(
			"Somebody, probably you, wants to set a new password for an account on "+l.Server+" with this address.", "",
			"No account there has this address. Perhaps yours has another one.", "", unless)
	default:
		return "Your address on " + l.Server, lines(
			"Somebody, probably you, wants to add this address to their account on "+l.Server+".", "",
			"It belongs to the account "+l.Owner+" already, and can be in one only.", "", unless)
	}
}

func lines(all ...string) string { return strings.Join(all, "\r\n") + "\r\n" }
