package postgresql

// forkMark says of a fork what its component's properties cannot: it lies in the component's folder.
type forkMark struct {
	Method string `json:"method"`
	User   string `json:"user,omitempty"` // of clients, where that is not the container's
	Port   int    `json:"port,omitempty"` // of the fork's own server
	Bin    string `json:"bin,omitempty"`  // of that server's programs
}

// at is the server as the fork's clients find it.
func (k forkMark) at(s server) server {
	if k.User != "" {
		s.User = k.User
	}
	if k.Port != 0 {
		s.Host, s.Port, s.SSLMode = "127.0.0.1", k.Port, "disable"
	}
	return s
}
