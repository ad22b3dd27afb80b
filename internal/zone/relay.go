package zone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
)

// relayed marks a request that one process of the zone passed to another.
const relayed = "X-Kvol-Relayed"

// relay passes requests to the process that leads. While none does, they wait: a
// takeover is over in a lease and the time that it takes to open the stores.
func (m *Member) relay(clients *clients) http.Handler {
	transport := &leadTransport{
		m: m,
		base: &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			TLSHandshakeTimeout: headerTimeout, MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTimeout / 2},
	}
	var err error
	if transport.base.TLSClientConfig, err = m.relayTLS(); err != nil {
		m.log.Error("requests can't be passed to the process that leads", "err", err)
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { noLeader(w, err) })
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.Host = r.In.Host
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "leader" // the transport knows
			r.Out.Header.Set(relayed, m.cfg.Process.Name)
			clients.seal(r.Out, r.In.RemoteAddr)
		},
		Transport: transport, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			m.log.Warn("a request could not be passed to the process that leads", "path", r.URL.Path, "err", err)
			noLeader(w, err)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(relayed) != "" {
			noLeader(w, errors.New("the lead changes hands"))
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// relayTLS is how processes speak TLS to each other. Where clients need certificates, they
// show the one that they serve with.
func (m *Member) relayTLS() (*tls.Config, error) {
	roots, err := m.cfg.Process.roots()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if f := m.cfg.TLS; f != nil && f.ClientCA != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func noLeader(w http.ResponseWriter, _ error) {
	w.Header().Set("Retry-After", "1")
	api.WriteJSON(w, http.StatusServiceUnavailable, map[string]any{"error": map[string]any{
		"kind":    block.Unavailable.String(),
		"message": "No process of the zone can do this now; one of them takes it over. Try again."}})
}

// roots are the authorities by which other processes' certificates are signed; nil
// for the system's.
func (c *ProcessConfig) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("process.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("process.ca: %s holds no certificate", c.CA)
	}
	return pool, nil
}

// leadTransport sends requests to whoever leads. It implements http.RoundTripper.
type leadTransport struct {
	m    *Member
	base *http.Transport
}

// RoundTrip implements http.RoundTripper. A leader that can't be reached got
// nothing of the request, so that the next one may be asked.
func (t *leadTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body := r.Body
		defer body.Close() //nolint:errcheck // it was read
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(body) // each try closes it
	}
	patience, cancel := context.WithTimeout(r.Context(), 2*t.m.cfg.Process.Lease)
	defer cancel()
	for {
		to, err := t.m.leaderURL(patience)
		if err != nil {
			return nil, err
		}
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = to.Scheme, to.Host
		out.Body = r.Body
		answer, err := t.base.RoundTrip(out)
		var failed *net.OpError
		if err == nil || !errors.As(err, &failed) || failed.Op != "dial" {
			return answer, err
		}
		if sleepFor(patience, t.m.cfg.Process.Lease/20) != nil {
			return nil, err
		}
	}
}

// leaderURL waits for somebody to lead.
func (m *Member) leaderURL(ctx context.Context) (*url.URL, error) {
	for {
		if l := m.seen.Load(); l.live && l.URL != "" {
			return url.Parse(l.URL)
		}
		if err := sleepFor(ctx, m.cfg.Process.Lease/50); err != nil {
			return nil, fmt.Errorf("no process leads the zone: %w", err)
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// led lets the requests to the block storage API that look into stores, or at other
// zones, be answered by the process that leads; all others are but the catalog's
// business.
func (s *Server) led(h http.Handler) http.Handler {
	if !s.follows() {
		return h
	}
	relay := s.of.relay(s.clients)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.Path
		if strings.Contains(p, "manage") || strings.Contains(p, "/os-services/fail") ||
			strings.Contains(p, "/groups/") && strings.HasSuffix(p, "/action") {
			relay.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
