//go:build clouds

package bucket

// Their libraries nearly double the size of the program and the time that each start of it takes, so that they are
// there only on demand: docs/decisions/0005-object-storage.md.
import (
	_ "gocloud.dev/blob/azureblob" // azblob
	_ "gocloud.dev/blob/gcsblob"   // gs
)
