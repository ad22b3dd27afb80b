package identity

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"kvol/internal/block"
)

// GuessLimits bound how often passwords may be guessed. Every failed attempt
// takes one from the user's allowance and one from the address's; each grows
// back by one per Refill. A success takes nothing. Where a user has logged in lately
// from an address, neither what others guess of that user nor what was guessed of
// others from that address holds the user up there, since many may share one: only
// what was guessed of that user from there, as often as from an address at all. Zero
// fields stand for DefaultGuessLimits.
type GuessLimits struct {
	User          int           // failures in a row for one user name
	UserRefill    time.Duration // until one more is allowed
	Address       int           // failures in a row from one address (an IPv6 /64)
	AddressRefill time.Duration
	Entries       int // names and addresses that are remembered, each
}

// knownTime is how long it is remembered at most from where a user has logged in.
const knownTime = 30 * 24 * time.Hour

// DefaultGuessLimits allow a person some typing errors, and a program about
// six guesses a minute for a name.
var DefaultGuessLimits = GuessLimits{
	User: 10, UserRefill: 10 * time.Second,
	Address: 30, AddressRefill: 2 * time.Second,
	Entries: 10_000,
}

func (l GuessLimits) orDefault() GuessLimits {
	d := DefaultGuessLimits
	if l.User == 0 || l.UserRefill == 0 {
		l.User, l.UserRefill = d.User, d.UserRefill
	}
	if l.Address == 0 || l.AddressRefill == 0 {
		l.Address, l.AddressRefill = d.Address, d.AddressRefill
	}
	if l.Entries == 0 {
		l.Entries = d.Entries
	}
	return l
}

// TooManyError says that passwords were guessed too often. It is the cause of
// an OverLimit error; RetryAfter finds it.
type TooManyError struct {
	Wait time.Duration // until the next attempt is looked at
}

// Error says so without telling about whom.
func (e *TooManyError) Error() string { return "too many failed logins" }

// RetryAfter returns after how long the refused attempt may be repeated, for
// the header Retry-After. Front ends that do not import this package find it
// through errors.As with an interface of this one method.
func (e *TooManyError) RetryAfter() time.Duration { return e.Wait }

// RetryAfter returns how long whoever got err is to wait; ok is false for
// other errors than those of guessing too often.
func RetryAfter(err error) (wait time.Duration, ok bool) {
	var e *TooManyError
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Wait, true
}

// guard counts failed logins by user name and by address. Its methods may be
// called at once.
type guard struct {
	now func() time.Time

	mu        sync.Mutex // guards the tables
	users     allowances
	addresses allowances
	known     allowances // user and address of logins that succeeded, and when
	there     allowances // of these users at these addresses
}

func newGuard(l GuessLimits, now func() time.Time) *guard {
	l = l.orDefault()
	return &guard{
		now:       now,
		users:     newAllowances(l.User, l.UserRefill, l.Entries),
		addresses: newAllowances(l.Address, l.AddressRefill, l.Entries),
		known:     newAllowances(1, 0, l.Entries),
		there:     newAllowances(l.Address, l.AddressRefill, l.Entries),
	}
}

// attempt is a login that was let through and not judged yet.
type attempt struct {
	g             *guard
	user, address string
	known         bool // the user has logged in from there lately: nothing was taken from the user
}

// begin takes one from each allowance that counts before the password is looked at,
// so that many guesses at once pass no more than one after another would. OverLimit,
// caused by a TooManyError, where one is used up.
func (g *guard) begin(user, remote string) (*attempt, error) {
	address := addressKey(remote)
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	a := &attempt{g: g, user: user, address: address}
	last, ok := g.known.at(a.place())
	a.known = ok && now.Sub(last) < knownTime
	wait := max(g.addresses.wait(address, now), g.users.wait(user, now))
	if a.known {
		wait = g.there.wait(a.place(), now)
	}
	if wait > 0 {
		return nil, block.Wrap(block.OverLimit, &TooManyError{Wait: wait},
			"Too many failed logins. Try again in %d seconds.", seconds(wait))
	}
	g.addresses.take(address, now)
	if a.known {
		g.there.take(a.place(), now)
	} else {
		g.users.take(user, now)
	}
	return a, nil
}

func (a *attempt) place() string { return a.user + "@" + a.address }

// forgive gives back what begin took, since the password was not looked at.
func (a *attempt) forgive() {
	now := a.g.now()
	a.g.mu.Lock()
	defer a.g.mu.Unlock()
	a.g.addresses.give(a.address, now)
	if a.known {
		a.g.there.give(a.place(), now)
	} else {
		a.g.users.give(a.user, now)
	}
}

// succeed is forgive after the right password, and remembers who came from
// where.
func (a *attempt) succeed() {
	a.forgive()
	a.g.mu.Lock()
	defer a.g.mu.Unlock()
	a.g.known.take(a.place(), a.g.now())
}

// seconds rounds up to whole seconds, as Retry-After wants them.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// addressKey is what one attacker can't easily have many of: an IPv4 address,
// or an IPv6 network of 64 bits.
func addressKey(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// allowances is a table of token buckets that forgets the least recently used
// when it is full. A bucket that is not in it is full.
type allowances struct {
	burst  int
	refill time.Duration
	limit  int
	byKey  map[string]*list.Element // of *allowance
	order  *list.List               // most recently used first
}

type allowance struct {
	key  string
	full time.Time // when it will be, or was, full again
}

func newAllowances(burst int, refill time.Duration, limit int) allowances {
	return allowances{burst: burst, refill: refill, limit: limit, byKey: map[string]*list.Element{}, order: list.New()}
}

// at is when a bucket that takes no time to refill was taken from last.
func (a *allowances) at(key string) (t time.Time, ok bool) {
	e, ok := a.byKey[key]
	if !ok {
		return t, false
	}
	return e.Value.(*allowance).full, true
}

// wait returns how long key has to wait for one more; 0 if it need not.
func (a *allowances) wait(key string, now time.Time) time.Duration {
	e, ok := a.byKey[key]
	if !ok {
		return 0
	}
	// One more is there once no more than burst-1 are missing.
	return max(0, e.Value.(*allowance).full.Sub(now)-time.Duration(a.burst-1)*a.refill)
}

func (a *allowances) take(key string, now time.Time) {
	e, ok := a.byKey[key]
	if !ok {
		e = a.order.PushFront(&allowance{key: key, full: now})
		a.byKey[key] = e
	}
	a.order.MoveToFront(e)
	b := e.Value.(*allowance)
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(a.refill)
	for a.order.Len() > a.limit {
		a.drop(a.order.Back())
	}
}

func (a *allowances) give(key string, now time.Time) {
	e, ok := a.byKey[key]
	if !ok {
		return
	}
	b := e.Value.(*allowance)
	b.full = b.full.Add(-a.refill)
	if !b.full.After(now) {
		a.drop(e)
	}
}

func (a *allowances) drop(e *list.Element) {
	delete(a.byKey, e.Value.(*allowance).key)
	a.order.Remove(e)
}
