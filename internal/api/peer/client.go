package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/replication"
)

// ClientConfig is what a Client works with.
type ClientConfig struct {
	Credentials Credentials
	Peers       map[block.Zone]string // URL of each zone's peer listener: "https://host:port"
}

const (
	maxAnswer   = 32 << 20 // bytes
	dialTimeout = 5 * time.Second
	idleTimeout = time.Minute
	idlePerZone = 4
)

// Client reaches other zones. It implements control.Peers and
// replication.PeerDialer; its methods may be called by many at once.
type Client struct {
	credentials Credentials
	peers       map[block.Zone]*remote
}

var (
	_ control.Peers          = (*Client)(nil)
	_ replication.PeerDialer = (*Client)(nil)
)

// remote is one other zone.
type remote struct {
	url  *url.URL
	http *http.Client
}

// NewClient makes a Client. A URL that is not https is Invalid.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{credentials: cfg.Credentials, peers: map[block.Zone]*remote{}}
	for zone, at := range cfg.Peers {
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, block.Errorf(block.Invalid, "The address of zone %s must be https://host:port, not %q.", zone, at)
		}
		c.peers[zone] = &remote{url: u, http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				TLSClientConfig: cfg.Credentials.Client(zone), TLSHandshakeTimeout: dialTimeout,
				DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
				MaxIdleConnsPerHost: idlePerZone, IdleConnTimeout: idleTimeout,
			},
		}}
	}
	return c, nil
}

// Close gives idle connections back.
func (c *Client) Close() {
	for _, p := range c.peers {
		p.http.CloseIdleConnections()
	}
}

// Zones are all other zones, by name.
func (c *Client) Zones() []block.Zone { return slices.Sorted(maps.Keys(c.peers)) }

func (c *Client) remote(zone block.Zone) (*remote, error) {
	p, ok := c.peers[zone]
	if !ok {
		return nil, block.Errorf(block.Unavailable, "Zone %s is not configured here.", zone)
	}
	return p, nil
}

// Call asks a zone; see control.Peers.
func (c *Client) Call(ctx context.Context, zone block.Zone, method, path string, in, out any) error {
	p, err := c.remote(zone)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url.Scheme+"://"+p.url.Host+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := p.http.Do(req)
	if err != nil {
		return unreachable(zone, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil || len(answer) > maxAnswer {
		return unreachable(zone, fmt.Errorf("its answer of %d bytes is cut: %w", len(answer), err))
	}
	return decode(zone, res.StatusCode, answer, out)
}

func decode(zone block.Zone, status int, answer []byte, out any) error {
	if status != http.StatusOK {
		var f fault
		if err := json.Unmarshal(answer, &f); err != nil {
			return unreachable(zone, fmt.Errorf("it answered %d: %w", status, err))
		}
		return f.err(zone)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return unreachable(zone, fmt.Errorf("its answer can't be read: %w", err))
	}
	return nil
}

func unreachable(zone block.Zone, cause error) error {
	return block.Wrap(block.Unavailable, cause, "Zone %s can't be reached.", zone)
}

// Replicate opens a stream to a zone's receiver; see replication.PeerDialer.
func (c *Client) Replicate(ctx context.Context, zone block.Zone) (net.Conn, error) {
	p, err := c.remote(zone)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: c.credentials.Client(zone)}
	conn, err := dialer.DialContext(ctx, "tcp", p.url.Host)
	if err != nil {
		return nil, unreachable(zone, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends a read that waits
	up, err := upgrade(conn, zone, p.url.Host)
	if !stop() && err == nil {
		err = unreachable(zone, context.Cause(ctx))
	}
	if err != nil {
		_ = conn.Close() // what went wrong is known
		return nil, err
	}
	return up, nil
}

// upgrade makes a stream of a connection.
func upgrade(conn net.Conn, zone block.Zone, host string) (net.Conn, error) {
	request := "POST " + PathReplicate + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: " + Protocol +
		"\r\nContent-Length: 0\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil, unreachable(zone, err)
	}
	buffered := bufio.NewReader(conn)
	res, err := http.ReadResponse(buffered, &http.Request{Method: http.MethodPost})
	if err != nil {
		return nil, unreachable(zone, err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		answer, err := io.ReadAll(io.LimitReader(res.Body, maxBodyOfFault))
		if err != nil {
			return nil, unreachable(zone, err)
		}
		if err := decode(zone, res.StatusCode, answer, nil); err != nil {
			return nil, err
		}
		return nil, block.Errorf(block.Unavailable, "Zone %s did not take the stream.", zone)
	}
	return withRest(conn, buffered), nil
}

const maxBodyOfFault = 64 << 10
