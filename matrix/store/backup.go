package store

import "orrery/matrix/table"

// BackupVersion is a backup of the keys by which a user's messages are encrypted; the keys in it are encrypted, too.
type BackupVersion struct {
	User      string `col:"user,key"`
	Version   int64  `col:"version,key"`
	Algorithm string `col:"algorithm"`
	AuthData  []byte `col:"auth_data"` // JSON
	ETag      int64  `col:"etag"`      // changes with the keys
	Count     int64  `col:"count"`     // of keys
	Deleted   bool   `col:"deleted"`   // its number is not given out again
}

// BackupKey is a key in a backup.
type BackupKey struct {
	User       string `col:"user,key"`
	Version    int64  `col:"version,key"`
	Room       string `col:"room,key"`
	Session    string `col:"session,key"`
	FirstIndex int64  `col:"first_index"`
	Forwarded  int64  `col:"forwarded"`
	Verified   bool   `col:"verified"`
	JSON       []byte `col:"json"`
}

// Tables of backups.
var (
	BackupVersions = table.Define[BackupVersion]("backup_versions")
	BackupKeys     = table.Define[BackupKey]("backup_keys")

	backupSchemas = []*table.Schema{BackupVersions.Schema(), BackupKeys.Schema()}
)
