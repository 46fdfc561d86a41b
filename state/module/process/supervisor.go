package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 30 * time.Second
	// stableRun is how long a process must have run for its next start to be prompt again.
	stableRun = 10 * time.Second
	// drain is how long output is read on after the process group is gone; only a
	// process that left the group can still hold the pipe then.
	drain = 2 * time.Second
)

// supervisor keeps one process running until it is stopped.
type supervisor struct {
	spec spec
	log  *logFile
	slog *slog.Logger

	stopping chan struct{} // closed when the process shall end
	kill     chan struct{} // closed when it shall end at once
	started  chan struct{} // closed at the first start
	ended    chan error    // the first end
	done     chan struct{} // closed when nothing is left

	stopOnce sync.Once
	killOnce sync.Once

	mu       sync.Mutex
	leader   int    // process id, also of the group; 0: none
	why      string // why there is none
	failures int    // ends in a row without a stable run
	gaveUp   bool
}

func newSupervisor(spec spec, output *logFile, logger *slog.Logger) *supervisor {
	return &supervisor{
		spec: spec, log: output, slog: logger,
		stopping: make(chan struct{}), kill: make(chan struct{}),
		started: make(chan struct{}), ended: make(chan error, 1), done: make(chan struct{}),
	}
}

// run starts the process again and again. It holds its thread because the kernel sends the death
// signal of a child when the thread that started it ends, not when the program does.
func (s *supervisor) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	backoff := minBackoff
	for !s.isStopping() {
		began := time.Now()
		err := s.runOnce()
		if s.isStopping() {
			break
		}
		stable := time.Since(began) >= stableRun
		if stable {
			backoff = minBackoff
		}
		if !s.note(err, stable, backoff) {
			<-s.stopping
			break
		}
		if !s.sleep(backoff) {
			break
		}
		backoff = min(2*backoff, maxBackoff)
	}
	_ = s.log.Close() // never fails
}

// note records an end of the process and says whether to start it again.
func (s *supervisor) note(err error, stable bool, backoff time.Duration) bool {
	again := s.spec.properties.Restart == restartAlways ||
		s.spec.properties.Restart == restartOnFailure && err != nil
	s.mu.Lock()
	if stable {
		s.failures = 0
	}
	s.failures++
	s.why = "ended by itself"
	if err != nil {
		s.why = err.Error()
	}
	s.gaveUp = !again
	failures, why := s.failures, s.why
	s.mu.Unlock()
	select {
	case s.ended <- err:
	default:
	}
	if again {
		s.slog.Warn("process ended, starting it again", "why", why, "times", failures, "pause", backoff)
	} else {
		s.slog.Warn("process ended, not starting it again", "why", why, "restart", s.spec.properties.Restart)
	}
	return again
}

// runOnce runs the process until it and its group are gone; nil if it ended with status 0.
func (s *supervisor) runOnce() error {
	cmd := s.spec.build(s.log)
	if err := cmd.Start(); err != nil {
		return startError(s.spec, err)
	}
	pid := cmd.Process.Pid
	if err := writeRunFile(s.spec.directory, pid); err != nil {
		s.slog.Error("cannot write run file: what the process starts may outlive a crash of the node", "error", err)
	}
	s.setLeader(pid)
	// The process is not reaped yet when this returns, so that its id, which
	// is the group's too, cannot come to mean another process.
	awaitExit(pid)
	s.endGroup(pid)
	s.setLeader(0)
	err := exitError(cmd.Wait(), cmd.ProcessState)
	removeRunFile(s.spec.directory)
	return err
}

// setLeader publishes the process, and asks it to stop if that was asked of the supervisor while it started.
func (s *supervisor) setLeader(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = pid
	if pid == 0 {
		return
	}
	s.why = ""
	select {
	case <-s.started:
	default:
		close(s.started)
	}
	if s.isStopping() {
		signalGroup(pid, s.spec.signal)
	}
}

// endGroup returns when no process of the group is left. After a crash the rest is killed; while
// stopping it may take the rest of the time.
func (s *supervisor) endGroup(pid int) {
	wait := time.NewTicker(20 * time.Millisecond)
	defer wait.Stop()
	for s.isStopping() && groupLives(pid) {
		select {
		case <-s.kill:
			signalGroup(pid, syscall.SIGKILL)
			return
		case <-wait.C:
		}
	}
	signalGroup(pid, syscall.SIGKILL)
}

// stop asks the process to end, kills its group when its time or ctx is over, and returns when all is gone.
func (s *supervisor) stop(ctx context.Context) {
	s.stopOnce.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.stopping)
		if s.leader != 0 {
			signalGroup(s.leader, s.spec.signal)
		}
	})
	patience := time.NewTimer(s.spec.stopTimeout())
	defer patience.Stop()
	select {
	case <-s.done:
		return
	case <-ctx.Done():
	case <-patience.C:
	}
	s.killOnce.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.kill)
		if s.leader != 0 {
			s.slog.WarnContext(ctx, "process did not stop in time, killing it", "pid", s.leader)
			signalGroup(s.leader, syscall.SIGKILL)
		}
	})
	<-s.done
}

func (s *supervisor) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// sleep waits; false if the supervisor shall stop.
func (s *supervisor) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopping:
		return false
	}
}

func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader
}

// alive says whether the supervisor has a process and was not told to stop.
func (s *supervisor) alive() bool { return !s.isStopping() && s.pid() != 0 }

// health returns nil, or why the process does not serve.
func (s *supervisor) health(ctx context.Context) error {
	s.mu.Lock()
	leader, why, failures, gaveUp := s.leader, s.why, s.failures, s.gaveUp
	s.mu.Unlock()
	switch {
	case leader != 0:
		return s.probe(ctx)
	case gaveUp:
		return fmt.Errorf("%s and is not started again (restart is %s)", why, s.spec.properties.Restart)
	case why == "":
		return errors.New("is starting")
	}
	return fmt.Errorf("%s, %d times in a row, and is started again after a pause", why, failures)
}

// exit is how a process ended that did not end with status 0.
type exit string

func (e exit) Error() string { return "ended with " + string(e) }

// exitError puts how a process ended into words; nil for status 0.
func exitError(waited error, end *os.ProcessState) error {
	if waited == nil || errors.Is(waited, exec.ErrWaitDelay) {
		return nil
	}
	return exit(end.String())
}
