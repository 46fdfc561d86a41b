// Package clients has tests only: programs that people use as clients, against the homeserver.
package clients
