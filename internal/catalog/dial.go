package catalog

import (
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"kvol/internal/block"
)

// Bounds of what is waited for from PostgreSQL, unless the URL has others.
const (
	connectLimit = 5 * time.Second // for a connection to each of its servers; connect_timeout in seconds, as libpq's
	// answerLimit is for the answer to a statement, and for the turn of a
	// transaction: longer than those that the server keeps, so that it says why;
	// answer_timeout in seconds.
	answerLimit = 65 * time.Second
	// ackLimit is for a sign of the server's machine, not of the server;
	// tcp_user_timeout in milliseconds, as libpq's.
	ackLimit = 15 * time.Second

	maxAnswerLimit = time.Hour
)

// answerSetting is what no server knows of the URL's parameters.
const answerSetting = "answer_timeout"

// settings are those of a session that the URL does not name. The lock of a process
// that hangs is not waited for without end, and taken from it, and that of one whose
// machine is gone too.
var settings = map[string]string{
	"application_name": "kvol", "lock_timeout": "30s", "statement_timeout": "60s",
	"idle_in_transaction_session_timeout": "30s", "tcp_user_timeout": strconv.FormatInt(ackLimit.Milliseconds(), 10),
	"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
}

// config is how to connect, and how long an answer may take.
func (p *postgres) config() (c *pgx.ConnConfig, answer time.Duration, err error) {
	if c, err = pgx.ParseConfig(p.url); err != nil {
		// the cause may hold a password
		return nil, 0, block.Errorf(block.Invalid, "the URL of the catalog can't be read")
	}
	for name, value := range settings {
		if _, given := c.RuntimeParams[name]; !given {
			c.RuntimeParams[name] = value
		}
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectLimit
	}
	answer, err = limitOf(c.RuntimeParams, answerSetting, time.Second, answerLimit)
	if err != nil {
		return nil, 0, err
	}
	delete(c.RuntimeParams, answerSetting)
	ack, err := limitOf(c.RuntimeParams, "tcp_user_timeout", time.Millisecond, ackLimit)
	if err != nil {
		return nil, 0, err
	}
	c.DialFunc = dialer(ack).DialContext
	return c, answer, nil
}

// limitOf reads a whole number of units among the URL's parameters.
func limitOf(given map[string]string, name string, unit, otherwise time.Duration) (time.Duration, error) {
	text, ok := given[name]
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if most := int64(maxAnswerLimit / unit); err != nil || n < 1 || n > most {
		return 0, block.Errorf(block.Invalid, "%s of the catalog's URL is a whole number from 1 to %d", name, most)
	}
	return time.Duration(n) * unit, nil
}

// dialer makes connections that break when nothing is heard of the other machine
// for a time, whether something was sent to it or not (tcp(7)).
func dialer(ack time.Duration) *net.Dialer {
	pause := max(ack/3, time.Second)
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: pause, Interval: pause, Count: 3},
		Control: func(network, _ string, c syscall.RawConn) (err error) {
			if network == "unix" {
				return nil
			}
			failed := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ack.Milliseconds()))
			})
			if failed != nil {
				return failed
			}
			return err
		},
	}
}
