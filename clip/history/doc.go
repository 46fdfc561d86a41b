// Package history keeps copied items in an append-only log with checksums, and an index of it in memory.
//
// What Add and the other changes have returned is on disk and synced. Items are de-duplicated over the whole history by content. A record that a
// crash left half-written is cut off; where bytes in the middle are damaged, the file is put aside and what can be read is kept. The log may be
// encrypted, each record by itself; the index, with the beginning of each item's text, is in memory only. docs/formats/clip-history.md specifies the format.
//
// One History at a time may have a folder; it is safe for concurrent use.
package history
