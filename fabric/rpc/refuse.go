package rpc

// Why something was turned away, as Config.Refused is told.
const (
	RefusedHandshake   = "handshake"   // no TLS, an old one, or none of our protocols
	RefusedCertificate = "certificate" // of another cluster, put out, or out of date
	RefusedCrowd       = "crowd"       // there are as many connections as may be
	RefusedRole        = "role"        // whoever asks may not; who has no certificate may do nothing but join
	RefusedFrame       = "frame"       // a stream that begins with what is no header
)

// Refusals are all of them.
func Refusals() []string {
	return []string{RefusedHandshake, RefusedCertificate, RefusedCrowd, RefusedRole, RefusedFrame}
}

func (s *Server) refuse(why string) {
	if s.config.Refused != nil {
		s.config.Refused(why)
	}
}
