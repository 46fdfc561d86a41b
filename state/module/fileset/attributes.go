package fileset

import (
	"slices"
	"strings"
)

// attributePrefix begins the names of extended attributes in a tar header, as other programs have them too.
const attributePrefix = "SCHILY.xattr."

// kept are the extended attributes that are state: those of users, access control lists and capabilities. Labels of
// security modules belong to the machine.
var kept = []string{"system.posix_acl_access", "system.posix_acl_default", "security.capability"}

// isAttribute says whether a record of a tar header is an extended attribute that is kept.
func isAttribute(record string) bool {
	name, ok := strings.CutPrefix(record, attributePrefix)
	return ok && (strings.HasPrefix(name, "user.") || slices.Contains(kept, name))
}
