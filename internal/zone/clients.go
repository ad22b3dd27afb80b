package zone

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// TrustedProxies are the addresses and networks of proxies in front of the APIs:
// only of these is it believed whom they forward.
type TrustedProxies []string

// prefixes reads them.
func (t TrustedProxies) prefixes() (all []netip.Prefix, err error) {
	for _, text := range t {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, bad := netip.ParseAddr(text)
			if bad != nil || a.Zone() != "" {
				return nil, fmt.Errorf("trusted_proxies: %q is neither an address nor a network such as 10.0.0.0/8", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("trusted_proxies: %q: write an IPv4 address as one", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// clients tells from which address a request comes in truth: logins are counted by
// it, and logs and audit name it. It may be used by many goroutines.
type clients struct {
	trusted []netip.Prefix
	key     []byte // of the seals
	now     func() time.Time
}

func newClients(t TrustedProxies, zoneKey [32]byte, now func() time.Time) (*clients, error) {
	trusted, err := t.prefixes()
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, zoneKey[:])
	mac.Write([]byte("kvol: who asked the process that relays"))
	return &clients{trusted: trusted, key: mac.Sum(nil), now: now}, nil
}

// known has a handler see the client as the request's RemoteAddr, where somebody who
// may says who that is.
func (c *clients) known(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if of := c.of(r); of != r.RemoteAddr {
			copied := *r
			copied.RemoteAddr = of
			r = &copied
		}
		h.ServeHTTP(w, r)
	})
}

// of is the address of who asked, as host:port.
func (c *clients) of(r *http.Request) string {
	if remote, ok := c.sealed(r); ok {
		return remote
	}
	peer, ok := hostAddr(r.RemoteAddr)
	if !ok || !c.trusts(peer) {
		return r.RemoteAddr
	}
	listed, standard := r.Header.Values("X-Forwarded-For"), r.Header.Values("Forwarded")
	forwarded, one := c.rightmost(split(listed))
	other, two := c.rightmost(forElements(split(standard)))
	switch {
	case len(standard) == 0 && one:
		return at(forwarded)
	case len(listed) == 0 && two:
		return at(other)
	case one && two && forwarded == other:
		return at(forwarded)
	}
	// A proxy writes one of them, and passes on what a client made of the other:
	// where they differ nobody knows which is which.
	return r.RemoteAddr
}

// rightmost is the last of some addresses, which each hop wrote at the end, that is
// no trusted proxy's; the first where all are.
func (c *clients) rightmost(hops []string) (a netip.Addr, ok bool) {
	for i := len(hops) - 1; i >= 0; i-- {
		hop, is := hostAddr(hops[i])
		if !is {
			return a, ok // what a client, or a hop that hides itself, wrote
		}
		a, ok = hop, true
		if !c.trusts(a) {
			break
		}
	}
	return a, ok
}

func (c *clients) trusts(a netip.Addr) bool {
	for _, p := range c.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func at(a netip.Addr) string { return net.JoinHostPort(a.String(), "0") }

// hostAddr reads an address that may have a port, and brackets.
func hostAddr(text string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

// split takes a list apart that may be spread over several headers.
func split(values []string) (all []string) {
	for _, one := range strings.Split(strings.Join(values, ","), ",") {
		all = append(all, strings.TrimSpace(one))
	}
	return all
}

// forElements are the "for" parameters of a Forwarded header (RFC 7239); "" where an
// element has none.
func forElements(elements []string) (all []string) {
	for _, element := range elements {
		node := ""
		for _, pair := range strings.Split(element, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.EqualFold(name, "for") {
				node = strings.Trim(value, `"`)
			}
		}
		all = append(all, node)
	}
	return all
}

const (
	// relayedFor is the header in which a process that relays a request says whose
	// it is, under a seal that needs the zone's key.
	relayedFor = "X-Kvol-Relayed-For"
	// sealTime is how far the clocks of two processes may be apart.
	sealTime = time.Minute
)

// seal says whose a request is, to the process that it is relayed to.
func (c *clients) seal(to *http.Request, remote string) {
	stamp := strconv.FormatInt(c.now().Unix(), 10)
	to.Header.Set(relayedFor, remote+" "+stamp+" "+c.tag(to, remote, stamp))
}

// sealed is what seal said.
func (c *clients) sealed(r *http.Request) (remote string, ok bool) {
	parts := strings.Split(r.Header.Get(relayedFor), " ")
	if len(parts) != 3 || !hmac.Equal([]byte(parts[2]), []byte(c.tag(r, parts[0], parts[1]))) {
		return "", false
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0], err == nil && c.now().Sub(time.Unix(seconds, 0)).Abs() <= sealTime
}

func (c *clients) tag(r *http.Request, remote, stamp string) string {
	mac := hmac.New(sha256.New, c.key)
	fmt.Fprintf(mac, "%q %q %q %q", r.Method, r.URL.RequestURI(), remote, stamp)
	return hex.EncodeToString(mac.Sum(nil))
}
