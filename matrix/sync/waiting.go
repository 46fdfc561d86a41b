package sync

// Waiting is how many requests wait for something new.
func (s *Syncer) Waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.waiting {
		n += len(of)
	}
	return n
}
