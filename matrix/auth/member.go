package auth

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/signature"
)

// Join rules.
const (
	public          = "public"
	restricted      = "restricted"
	knockRestricted = "knock_restricted"
)

// deny notes a rule about members: one of their numbers, and the one below it.
func (c *check) deny(rule, sub int, format string, args ...any) {
	c.rejectAt(fmt.Sprintf("%d.%d", c.n.member, rule), sub, format, args...)
}

func (c *check) member() {
	target, isState := c.e.StateKey()
	membership, ok := c.e.Content().Find("membership")
	if !isState || !ok {
		c.deny(1, 0, "it lacks a state key or a membership")
		return
	}
	n := c.n
	switch m := membership.String(); {
	case m == matrix.Join:
		c.join(target)
	case m == matrix.Invite:
		c.invite(target)
	case m == matrix.Leave:
		c.leave(target)
	case m == matrix.Ban:
		c.ban(target)
	case m == matrix.Knock && c.v.Knock:
		c.knock(target)
	default:
		c.deny(n.unknown, 0, "membership %.40q is none of this room version", m)
	}
}

func (c *check) join(target string) {
	e, n := c.e, c.n
	if prev := e.Prev(); len(prev) == 1 && prev[0] == c.create.ID() && target == Creator(c.v, c.create) {
		return
	}
	if e.Sender() != target {
		c.deny(n.join, 2, "nobody joins for somebody else")
		return
	}
	is := c.membership(target)
	if is == matrix.Ban {
		c.deny(n.join, 3, "its sender is banned")
		return
	}
	in := is == matrix.Invite || is == matrix.Join
	otherwise := 6
	if c.v.Restricted {
		otherwise = 7
	}
	switch rule := c.joinRule(); {
	case rule == public, in && rule == matrix.Invite, in && rule == matrix.Knock && c.v.Knock:
	case rule == restricted && c.v.Restricted, rule == knockRestricted && c.v.KnockRestricted:
		by := e.Content().Get("join_authorised_via_users_server").String()
		if !in && (c.membership(by) != matrix.Join || c.levels.User(by) < c.levels.Invite()) {
			c.rejectAt(fmt.Sprintf("%d.%d.5", n.member, n.join), 2, "the room is restricted, and %s cannot let its sender in", orNobody(by))
		}
	default:
		c.deny(n.join, otherwise, "the room's join rule is %.40q, and its sender is not invited (%s)", rule, orNone(is))
	}
}

func orNobody(user string) string {
	if user == "" {
		return "nobody"
	}
	return user
}

func (c *check) invite(target string) {
	e, n := c.e, c.n
	if third, ok := e.Content().Find("third_party_invite"); ok {
		c.thirdPartyInvite(target, third)
		return
	}
	if m := c.membership(e.Sender()); m != matrix.Join {
		c.deny(n.invite, 2, "its sender has not joined (%s)", orNone(m))
		return
	}
	if m := c.membership(target); m == matrix.Join || m == matrix.Ban {
		c.deny(n.invite, 3, "%s cannot be invited (%s)", target, m)
		return
	}
	if power := c.levels.User(e.Sender()); power < c.levels.Invite() {
		c.deny(n.invite, 5, "its sender's power level %s is below that for invitations, %d", Level(power), c.levels.Invite())
	}
}

// thirdPartyInvite is rule 1 of invitations.
func (c *check) thirdPartyInvite(target string, third canonical.Value) {
	at := fmt.Sprintf("%d.%d.1", c.n.member, c.n.invite)
	signed, ok := third.Find("signed")
	mxid, hasUser := signed.Find("mxid")
	token, hasToken := signed.Find("token")
	var issued *event.Event
	if hasToken {
		issued = c.state(matrix.Key{Type: matrix.TypeThirdPartyInvite, StateKey: token.String()})
	}
	switch {
	case c.membership(target) == matrix.Ban:
		c.rejectAt(at, 1, "%s is banned", target)
	case !ok:
		c.rejectAt(at, 2, "third_party_invite has no signed")
	case !hasUser || !hasToken:
		c.rejectAt(at, 3, "what is signed lacks mxid or token")
	case mxid.String() != target:
		c.rejectAt(at, 4, "what is signed is for %.255s, not for %s", mxid.String(), target)
	case issued == nil:
		c.rejectAt(at, 5, "nobody was invited by token %.255s", token.String())
	case issued.Sender() != c.e.Sender():
		c.rejectAt(at, 6, "its sender is not %s, who invited", issued.Sender())
	case !signedByAny(signed, issued.Content()):
		c.rejectAt(at, 8, "no signature of what is signed is by a key of the invitation")
	}
}

// signedByAny says whether any signature on a value is by one of the keys in an invitation.
func signedByAny(signed, content canonical.Value) bool {
	keys := []string{content.Get("public_key").String()}
	for k := range content.Get("public_keys").Elements {
		keys = append(keys, k.Get("public_key").String())
	}
	for entity := range signed.Get("signatures").Members {
		if slices.ContainsFunc(keys, func(key string) bool { return signedBy(signed, entity, key) }) {
			return true
		}
	}
	return false
}

func signedBy(signed canonical.Value, entity, key string) bool {
	public, err := signature.Decode(key)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return false
	}
	for id := range signed.Get("signatures", entity).Members {
		one := func(_, other string) (ed25519.PublicKey, bool) { return public, other == id }
		if signature.Check(signed, entity, one) == nil {
			return true
		}
	}
	return false
}

func (c *check) leave(target string) {
	e, n := c.e, c.n
	is, own := c.membership(target), c.membership(e.Sender())
	if e.Sender() == target {
		if is != matrix.Invite && is != matrix.Join && (is != matrix.Knock || !c.v.Knock) {
			c.deny(n.leave, 1, "its sender is not there to leave (%s)", orNone(is))
		}
		return
	}
	power := c.levels.User(e.Sender())
	switch {
	case own != matrix.Join:
		c.deny(n.leave, 2, "its sender has not joined (%s)", orNone(own))
	case is == matrix.Ban && power < c.levels.Ban():
		c.deny(n.leave, 3, "its sender's power level %s is below that for lifting bans, %d", Level(power), c.levels.Ban())
	case power < c.levels.Kick() || c.levels.User(target) >= power:
		c.deny(n.leave, 5, "its sender's power level %s is below that for kicking, %d, or not above that of %s, %s", Level(power), c.levels.Kick(), target, Level(c.levels.User(target)))
	}
}

func (c *check) ban(target string) {
	e, n := c.e, c.n
	power := c.levels.User(e.Sender())
	if m := c.membership(e.Sender()); m != matrix.Join {
		c.deny(n.ban, 1, "its sender has not joined (%s)", orNone(m))
	} else if power < c.levels.Ban() || c.levels.User(target) >= power {
		c.deny(n.ban, 3, "its sender's power level %s is below that for bans, %d, or not above that of %s, %s", Level(power), c.levels.Ban(), target, Level(c.levels.User(target)))
	}
}

func (c *check) knock(target string) {
	e, n := c.e, c.n
	rule, is := c.joinRule(), c.membership(e.Sender())
	switch {
	case rule != matrix.Knock && (rule != knockRestricted || !c.v.KnockRestricted):
		c.deny(n.knock, 1, "the room's join rule is %.40q, which does not let people knock", rule)
	case e.Sender() != target:
		c.deny(n.knock, 2, "nobody knocks for somebody else")
	case is == matrix.Ban || is == matrix.Invite || is == matrix.Join:
		c.deny(n.knock, 4, "its sender cannot knock (%s)", is)
	}
}
