package iscsi

import (
	"errors"
	"fmt"
)

// errImmediate says that there are too many immediate commands.
var errImmediate = errors.New("too many immediate commands")

// enter makes a task one of the connection's, which its reader holds. Who holds
// a task, the reader or later a worker, ends it; others only abort it.
func (c *conn) enter(t *task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tasks[t.tag] != nil:
		return fmt.Errorf("%w: task tag %#x is in use", errProtocol, t.tag)
	case !t.numbered && c.open >= c.limits.Commands+immediateCommands:
		return errImmediate
	}
	t.held = true
	c.tasks[t.tag] = t
	c.open++
	return nil
}

// hold has the reader hold a task that waits for data; nil for none.
func (c *conn) hold(tag uint32) *task {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tasks[tag]
	if t == nil || t.held {
		return nil
	}
	t.held = true
	return t
}

// letGo leaves a task until more of its data comes.
func (c *conn) letGo(t *task) {
	c.mu.Lock()
	t.held = false
	aborted := t.aborted
	c.mu.Unlock()
	if aborted {
		c.finish(t)
	}
}

// begin says that a task is carried out from now on; false if it was aborted.
func (c *conn) begin(t *task) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.begun = !t.aborted
	return t.begun
}

// finish forgets a task, which its holder calls, and gives its buffer back;
// false if it was aborted: then it gets no answer, and its place in the window
// and what was admitted for it are free.
func (c *conn) finish(t *task) (answer bool) {
	if t.buf != nil {
		c.filling.Add(-int64(len(t.buf.Data)))
		t.buf.Free()
		t.buf = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.over {
		return false
	}
	t.over = true
	c.open--
	if c.tasks[t.tag] == t {
		delete(c.tasks, t.tag)
	}
	if t.aborted {
		c.out.drop(t)
	}
	c.changed.Broadcast()
	return !t.aborted
}

// dismiss ends a task that the caller holds, without an answer.
func (c *conn) dismiss(t *task) {
	c.mu.Lock()
	t.aborted = true
	c.mu.Unlock()
	c.finish(t)
}

// forget aborts all tasks, since the connection ends.
func (c *conn) forget() { c.abort(everyTask) }

func everyTask(*task) bool { return true }

// abort aborts the tasks that are meant, which get no answer. What waits for
// data or for its turn ends at once, and what is not begun never is; those that are being
// carried out are returned, see await. some says that there were any. Any
// goroutine may call it.
func (c *conn) abort(meant func(*task) bool) (begun []*task, some bool) {
	var idle []*task
	waits := false
	c.mu.Lock()
	for _, t := range c.tasks {
		if !meant(t) {
			continue
		}
		some = true
		t.aborted = true
		if t.begun {
			begun = append(begun, t)
			continue
		}
		delete(c.tasks, t.tag)
		if !t.held { // nobody will from now on
			idle = append(idle, t)
		}
		waits = waits || t.held
	}
	c.mu.Unlock()
	for _, t := range idle {
		c.finish(t)
	}
	if waits { // maybe for its turn
		c.unwait()
	}
	return begun, some
}

// wasAborted has what takes long look whether it is of use still.
func (c *conn) wasAborted(t *task) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.aborted
}

// await waits until tasks that were begun are done.
func (c *conn) await(begun []*task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range begun {
		for !t.over {
			c.changed.Wait()
		}
	}
}

// aborted are tasks of several connections that were being carried out when they
// were aborted.
type aborted []abortedBy

type abortedBy struct {
	c     *conn
	begun []*task
}

// await waits until they are done.
func (a aborted) await() {
	for _, one := range a {
		one.c.await(one.begun)
	}
}

// abort aborts a session's tasks, and adds those that are being carried out to
// what there is; some says that there were any.
func (s *session) abort(a aborted) (with aborted, some bool) {
	for _, c := range s.conns() {
		begun, had := c.abort(everyTask)
		if len(begun) > 0 {
			a = append(a, abortedBy{c, begun})
		}
		some = some || had
	}
	return a, some
}

// abort aborts the tasks of the sessions that are meant, and tells those that
// lost any, besides the one that does it. Tasks that come from now on are not
// meant.
func (u *unit) abort(by *session, meant func(*session) bool) (all aborted) {
	u.mu.Lock()
	var victims []*session
	for s := range u.sessions {
		if meant(s) {
			victims = append(victims, s)
		}
	}
	u.mu.Unlock()
	for _, s := range victims {
		var some bool
		if all, some = s.abort(all); some && s != by {
			u.mu.Lock()
			s.raise(codeCleared)
			u.mu.Unlock()
		}
	}
	return all
}
