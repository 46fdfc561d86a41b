package validation

import (
	"errors"

	"orrery/matrix/contact"
)

// Said is what pages say of a code that does not count; "" if that is not what an error is about.
func Said(err error) string {
	for kind, text := range map[error]string{
		contact.ErrToken: "This is not the code of the newest message.", contact.ErrTries: "These were too many wrong codes. Begin again.",
		contact.ErrExpired: "This code is too old. Begin again.", contact.ErrSession: "This code was used, or is too old. Begin again.",
	} {
		if errors.Is(err, kind) {
			return text
		}
	}
	return ""
}

// message is what is sent to a telephone: short, and in letters of which one message has the most. The code comes first, where telephones show it without
// opening the message.
func (l letter) message(code string) string {
	switch {
	case l.Refused && l.Purpose == contact.Reset:
		return "Somebody wants a new password on " + l.Server + " with this number. No account there has it. If it was not you, there is nothing to do."
	case l.Refused:
		return "Somebody wants to use this number on " + l.Server + ". It is in the account " + l.Owner + " already. If it was not you, there is nothing to do."
	case l.Purpose == contact.Register:
		return code + " is your code for a new account on " + l.Server + ". Tell it to nobody."
	case l.Purpose == contact.Reset:
		return code + " is your code for a new password of " + l.Owner + ". Tell it to nobody."
	case l.User != "":
		return code + " is your code to add this number to " + l.User + ". Tell it to nobody."
	}
	return code + " is your code to add this number to your account on " + l.Server + ". Tell it to nobody."
}
