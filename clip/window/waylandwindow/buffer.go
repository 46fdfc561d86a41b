package waylandwindow

import (
	"errors"
	"image"

	"golang.org/x/sys/unix"

	"orrery/clip/wayland/wire"
)

const (
	shmPool      = 0
	poolBuffer   = 0
	poolDestroy  = 1
	bufferFree   = 0
	formatXRGB   = 1
	maxBuffers   = 3
	bytesOfPixel = 4
)

// memory is what is shared with the compositor: buffers of one size.
type memory struct {
	size    image.Point
	mapped  []byte
	buffers []*buffer
}

// buffer is a picture in it.
type buffer struct {
	remote *wire.Object
	pixels []byte
	busy   bool // the compositor reads it
}

// prepare makes buffers of a size.
func (s *Screen) prepare(size image.Point) error {
	one := size.X * size.Y * bytesOfPixel
	fd, err := unix.MemfdCreate("orrery-clip", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the compositor has its own by then, and so has the mapping
	if err := unix.Ftruncate(fd, int64(one*maxBuffers)); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	mapped, err := unix.Mmap(fd, 0, one*maxBuffers, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	pool, err := s.shm.Create("wl_shm_pool", shmPool, (*wire.Message).Unknown, wire.New, wire.FD(fd), wire.Int(one*maxBuffers)) //nolint:gosec // bounded by maxSide
	if err != nil {
		return errors.Join(err, unix.Munmap(mapped))
	}
	if err := s.memory.free(); err != nil { // the compositor has a mapping of its own of what it still reads
		return err
	}
	for _, b := range s.memory.buffers {
		if err := b.remote.Destroy(0); err != nil {
			return err
		}
	}
	s.memory.size, s.memory.mapped, s.memory.buffers = size, mapped, nil
	for i := range maxBuffers {
		b := &buffer{pixels: mapped[i*one : (i+1)*one]}
		if b.remote, err = pool.Create("wl_buffer", poolBuffer, func(m *wire.Message) error { return s.released(b, m) }, wire.New,
			wire.Int(i*one), wire.Int(size.X), wire.Int(size.Y), wire.Int(size.X*bytesOfPixel), wire.Uint(formatXRGB)); err != nil { //nolint:gosec // bounded by maxSide
			return err
		}
		s.memory.buffers = append(s.memory.buffers, b)
	}
	return pool.Destroy(poolDestroy)
}

// free unmaps it.
func (m *memory) free() error {
	if m.mapped == nil {
		return nil
	}
	mapped := m.mapped
	m.mapped = nil
	return unix.Munmap(mapped)
}

// released is told that the compositor does not read a buffer any more.
func (s *Screen) released(b *buffer, m *wire.Message) error {
	if m.Opcode != bufferFree {
		return m.Unknown()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.busy = false
	if next := s.waiting; next != nil {
		s.waiting = nil
		return s.show(next)
	}
	return nil
}

// Show is window.Screen's.
func (s *Screen) Show(picture *image.RGBA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil // Next says so
	}
	return s.show(picture)
}

// show shows a picture, or keeps a copy of it until a buffer is free. The caller holds the lock.
func (s *Screen) show(picture *image.RGBA) error {
	size := picture.Rect.Size()
	if size != s.pixels() {
		return nil // one of another size is being drawn
	}
	if s.memory.size != size {
		if err := s.prepare(size); err != nil {
			return err
		}
	}
	var free *buffer
	for _, b := range s.memory.buffers {
		if !b.busy {
			free = b
		}
	}
	if free == nil {
		s.waiting = image.NewRGBA(picture.Rect)
		copy(s.waiting.Pix, picture.Pix)
		return nil
	}
	s.waiting, free.busy = nil, true
	for i := 0; i+3 < len(free.pixels); i += bytesOfPixel {
		p := picture.Pix[i : i+4 : i+4]
		q := free.pixels[i : i+4 : i+4]
		q[0], q[1], q[2], q[3] = p[2], p[1], p[0], 0xff
	}
	if s.viewport != nil {
		if err := s.viewport.Request(viewportSize, wire.Int(s.size.X), wire.Int(s.size.Y)); err != nil { //nolint:gosec // bounded by maxSide
			return err
		}
	} else if n := s.scale.value() / unit; n != max(1, s.buffered) {
		s.buffered = n
		if err := s.surface.Request(surfaceScale, wire.Int(n)); err != nil { //nolint:gosec // small
			return err
		}
	}
	if err := s.surface.Request(surfaceAttach, free.remote, wire.Int(0), wire.Int(0)); err != nil {
		return err
	}
	if err := s.surface.Request(surfaceDamage, wire.Int(0), wire.Int(0), wire.Int(s.size.X), wire.Int(s.size.Y)); err != nil { //nolint:gosec // bounded by maxSide
		return err
	}
	return s.surface.Request(surfaceCommit)
}
