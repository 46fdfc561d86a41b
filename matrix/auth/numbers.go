package auth

import "orrery/matrix"

// numbers are those of the rules in the clause of a room version. 0 is a rule that it does not have.
type numbers struct {
	create, room, authEvents, federate, aliases, member, joined, thirdParty, required, ownKey, power, redaction int

	// below member
	authorised, join, invite, leave, ban, knock, unknown int
}

func numbersOf(v *matrix.Version) numbers {
	n := numbers{create: 1}
	next := 1
	count := func(there bool, rules ...*int) {
		for _, r := range rules {
			if there {
				next++
				*r = next
			}
		}
	}
	count(v.CreateIsRoom, &n.room)
	count(true, &n.authEvents, &n.federate)
	count(v.Aliases, &n.aliases)
	count(true, &n.member, &n.joined, &n.thirdParty, &n.required, &n.ownKey, &n.power)
	count(v.RedactionRule, &n.redaction)
	next = 1
	count(v.Restricted, &n.authorised)
	count(true, &n.join, &n.invite, &n.leave, &n.ban)
	count(v.Knock, &n.knock)
	count(true, &n.unknown)
	return n
}
