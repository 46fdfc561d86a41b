package account

import (
	"strconv"
	"strings"
)

// line is a table of the words of a command line. A row whose placeholder has no value is left out.
type line [][]string

// Platform is how one operating system makes and removes accounts.
type Platform struct {
	addGroup, addUser, deleteGroup, deleteUser []line
	// setPassword reads NAME:HASH (or only HASH, with hashOnly) from its standard input; none: it cannot be set.
	setPassword []line
	hashOnly    bool
	needsNumber bool // the system does not choose numbers itself
}

// Linux has the commands of the shadow suite.
var Linux = Platform{
	addGroup: []line{{{"groupadd"}, {"--prefix", "{root}"}, {"--gid", "{number}"}, {"{name}"}}},
	addUser: []line{{
		{"useradd"},
		{"--prefix", "{root}"},
		{"--uid", "{number}"},
		{"--gid", "{group}"},
		{"--groups", "{groups}"},
		{"--comment", "{description}"},
		{"--home-dir", "{home}"},
		{"--create-home{create}"},
		{"--no-create-home{keep}"},
		{"--shell", "{shell}"},
		{"{name}"},
	}},
	deleteGroup: []line{{{"groupdel"}, {"--prefix", "{root}"}, {"{name}"}}},
	deleteUser:  []line{{{"userdel"}, {"--prefix", "{root}"}, {"{name}"}}},
	setPassword: []line{{{"chpasswd"}, {"--root", "{root}"}, {"--encrypted"}}},
}

// FreeBSD has pw.
var FreeBSD = Platform{
	addGroup: []line{{{"pw"}, {"-R", "{root}"}, {"groupadd"}, {"-n", "{name}"}, {"-g", "{number}"}}},
	addUser: []line{{
		{"pw"},
		{"-R", "{root}"},
		{"useradd"},
		{"-n", "{name}"},
		{"-u", "{number}"},
		{"-g", "{group}"},
		{"-G", "{groups}"},
		{"-c", "{description}"},
		{"-d", "{home}"},
		{"-m{create}"},
		{"-s", "{shell}"},
	}},
	deleteGroup: []line{{{"pw"}, {"-R", "{root}"}, {"groupdel"}, {"-n", "{name}"}}},
	deleteUser:  []line{{{"pw"}, {"-R", "{root}"}, {"userdel"}, {"-n", "{name}"}}},
	setPassword: []line{{{"pw"}, {"-R", "{root}"}, {"usermod"}, {"-n", "{name}"}, {"-H", "0"}}},
	hashOnly:    true,
}

// Darwin has dscl, which sets one attribute at a time and chooses no numbers.
var Darwin = Platform{
	addGroup: []line{
		{{"dscl", ".", "-create", "/Groups/{name}"}},
		{{"dscl", ".", "-create", "/Groups/{name}", "PrimaryGroupID", "{number}"}},
	},
	addUser: []line{
		{{"dscl", ".", "-create", "/Users/{name}"}},
		{{"dscl", ".", "-create", "/Users/{name}", "UniqueID", "{number}"}},
		{{"dscl", ".", "-create", "/Users/{name}", "PrimaryGroupID", "{gid}"}},
		{{"dscl", ".", "-create", "/Users/{name}", "RealName", "{description}"}},
		{{"dscl", ".", "-create", "/Users/{name}", "NFSHomeDirectory", "{home}"}},
		{{"dscl", ".", "-create", "/Users/{name}", "UserShell", "{shell}"}},
		{{"dscl", ".", "-append", "/Groups/{member}", "GroupMembership", "{name}"}},
		{{"createhomedir", "-c", "-u", "{name}{create}"}},
	},
	deleteGroup: []line{{{"dscl", ".", "-delete", "/Groups/{name}"}}},
	deleteUser:  []line{{{"dscl", ".", "-delete", "/Users/{name}"}}},
	needsNumber: true,
}

// unset is a placeholder's value that leaves its row out.
const unset = "\x00"

// render fills in tables. A line of which no row is left is left out.
func render(lines []line, values map[string]string) [][]string {
	var all [][]string
	for _, l := range lines {
		var argv []string
		for _, row := range l {
			words := make([]string, len(row))
			for i, word := range row {
				words[i] = fill(word, values)
			}
			if !strings.Contains(strings.Join(words, ""), unset) {
				argv = append(argv, words...)
			}
		}
		if len(argv) > 0 {
			all = append(all, argv)
		}
	}
	return all
}

// fill replaces the placeholders of one word, each once: what a value says is never looked at again.
func fill(word string, values map[string]string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(word, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		value, ok := values[name]
		if !ok {
			value = unset
		}
		b.WriteString(value)
		word = after
	}
}

func put(values map[string]string, name, value string) {
	if value != "" {
		values[name] = value
	}
}

func number(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func switchOn(values map[string]string, name string, on bool) {
	if on {
		values[name] = ""
	}
}

// AddGroup returns the command lines that make a group, with the files of the system below root.
func (p Platform) AddGroup(root string, g Group) [][]string {
	values := map[string]string{"name": g.Name}
	put(values, "root", root)
	put(values, "number", number(g.GID))
	return render(p.addGroup, values)
}

// AddUser returns the command lines that make a user; gid is the number of its first group where that is known.
func (p Platform) AddUser(root string, u User, gid string) [][]string {
	values := map[string]string{"name": u.Name}
	put(values, "root", root)
	put(values, "number", number(u.UID))
	put(values, "group", u.Group)
	put(values, "gid", gid)
	put(values, "groups", strings.Join(u.Groups, ","))
	put(values, "description", u.Description)
	put(values, "home", u.Home)
	put(values, "shell", u.Shell)
	switchOn(values, "create", u.CreateHome)
	switchOn(values, "keep", !u.CreateHome)
	var all [][]string
	for _, l := range p.addUser {
		if !strings.Contains(strings.Join(l[0], " "), "{member}") {
			all = append(all, render([]line{l}, values)...)
			continue
		}
		for _, group := range u.Groups {
			values["member"] = group
			all = append(all, render([]line{l}, values)...)
		}
	}
	return all
}

// DeleteGroup returns the command lines that remove a group.
func (p Platform) DeleteGroup(root, name string) [][]string {
	return p.remove(p.deleteGroup, root, name)
}

// DeleteUser returns the command lines that remove a user, and leave its home.
func (p Platform) DeleteUser(root, name string) [][]string { return p.remove(p.deleteUser, root, name) }

// SetPassword returns the command lines that set a password's hash, and what the last of them reads.
func (p Platform) SetPassword(root, name, hash string) (lines [][]string, input string) {
	if p.hashOnly {
		return p.remove(p.setPassword, root, name), hash + "\n"
	}
	return p.remove(p.setPassword, root, name), name + ":" + hash + "\n"
}

func (Platform) remove(lines []line, root, name string) [][]string {
	values := map[string]string{"name": name}
	put(values, "root", root)
	return render(lines, values)
}
