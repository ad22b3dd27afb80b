package policy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often Run looks whether the file changed.
const lookEvery = 2 * time.Second

// Config is what an Enforcer works with.
type Config struct {
	Path string // of the operator's rules; "" for the defaults alone
	// OldDefaults makes rules hold that held by the checks that Cinder had before
	// it told readers from members.
	OldDefaults bool
	Log         *slog.Logger    // discarded if nil
	Observe     func(err error) // told of each reading; nil for nobody
}

// Enforcer holds the rules as they are now. Its methods may be called at once.
type Enforcer struct {
	cfg   Config
	rules atomic.Pointer[Rules]

	mu   sync.Mutex // guards text and broken
	text []byte     // of the file as it was read last
}

// New reads the rules. A file that can't be read or understood is an error.
func New(cfg Config) (*Enforcer, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(error) {}
	}
	e := &Enforcer{cfg: cfg}
	if cfg.Path == "" {
		r, _, err := build(nil, cfg.OldDefaults)
		e.rules.Store(r)
		return e, err
	}
	text, err := readFile(cfg.Path)
	if err == nil {
		err = e.take(text)
	}
	return e, err
}

// Rules returns the rules as they are now. A request should ask once, so that
// it is judged by one state of them.
func (e *Enforcer) Rules() *Rules { return e.rules.Load() }

// Run reads the file again when it changes and when asked comes, until ctx
// ends. A file that can't be read or understood changes nothing: the rules stay
// as they were, the log says why, and Observe is told.
func (e *Enforcer) Run(ctx context.Context, asked <-chan struct{}) error {
	if e.cfg.Path == "" {
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		forced := false
		select {
		case <-ctx.Done():
			return nil
		case <-asked:
			forced = true
		case <-tick.C:
		}
		e.reload(forced)
	}
}

// Reload reads the file again now, and keeps the rules as they are if it is
// broken.
func (e *Enforcer) Reload() { e.reload(true) }

func (e *Enforcer) reload(forced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text, err := readFile(e.cfg.Path)
	if err == nil && bytes.Equal(text, e.text) && !forced {
		return
	}
	if err == nil {
		err = e.take(text)
	}
	e.cfg.Observe(err)
	if err != nil {
		e.cfg.Log.Error("the policy file is broken; the rules stay as they were", "err", err)
		return
	}
	e.cfg.Log.Info("the policy file was read")
}

// take makes a file's text the rules.
func (e *Enforcer) take(text []byte) error {
	e.text = text
	r, warnings, err := Parse(text, e.cfg.OldDefaults)
	if err != nil {
		return fmt.Errorf("%s: %w", e.cfg.Path, err)
	}
	for _, w := range warnings {
		e.cfg.Log.Warn("the policy file has a rule without a meaning", "why", w)
	}
	e.rules.Store(r)
	return nil
}
