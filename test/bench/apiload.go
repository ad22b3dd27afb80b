package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// load is the same request, over and over, on so many connections that are kept:
// HTTP/1.1 without a library, which would use more of the processor than the
// zone. It ends after Count requests or after Duration.
type load struct {
	Address     string
	Request     []byte
	Status      int // that each answer must have
	Concurrency int
	Count       int
	Duration    time.Duration
}

// loaded is what came of it.
type loaded struct {
	Count         int
	Elapsed       time.Duration
	P50, P99      time.Duration
	CPU           time.Duration // the client's own
	Bytes         int64         // of one answer's body
	FirstResponse []byte        // the first answer's body
}

// maxAnswer is the largest answer whose body is kept.
const maxAnswer = 4 << 20

// load runs a load in a process of its own.
func (z *apiZone) load(ctx context.Context, l load) (r loaded, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	l.Address = z.address
	spec, err := json.Marshal(l)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "-load")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(spec), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// runLoad is the other process.
func runLoad(ctx context.Context) error {
	var l load
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		return err
	}
	r, err := l.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func (l load) run(ctx context.Context) (r loaded, err error) {
	conns := make([]*loadConn, l.Concurrency)
	for i := range conns {
		c, err := net.Dial("tcp", l.Address)
		if err != nil {
			return r, err
		}
		defer c.Close()
		conns[i] = &loadConn{Conn: c, buf: make([]byte, 64<<10)}
	}
	var left atomic.Int64
	left.Store(int64(l.Count))
	start := time.Now()
	wanted := func() bool {
		if l.Count > 0 {
			return ctx.Err() == nil && left.Add(-1) >= 0
		}
		return ctx.Err() == nil && time.Since(start) < l.Duration
	}
	took, errs := make([][]time.Duration, l.Concurrency), make([]error, l.Concurrency)
	var workers sync.WaitGroup
	for i, c := range conns {
		workers.Go(func() {
			for errs[i] == nil && wanted() {
				begin := time.Now()
				errs[i] = c.exchange(l.Request, l.Status)
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	workers.Wait()
	r.Elapsed = time.Since(start)
	all := slices.Concat(took...)
	slices.Sort(all)
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return r, err
	}
	r.Count, r.P50, r.P99 = len(all), all[len(all)/2], all[len(all)*99/100]
	r.FirstResponse, r.Bytes = conns[0].first, int64(len(conns[0].first))
	var u syscall.Rusage
	err = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	r.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	return r, err
}

// loadConn is a connection with what was read from it.
type loadConn struct {
	net.Conn
	buf   []byte
	first []byte
}

// exchange sends a request and reads its answer to the end.
func (c *loadConn) exchange(request []byte, status int) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	have, end := 0, -1
	for end < 0 {
		if have == len(c.buf) {
			return errors.New("the answer's headers are too long")
		}
		n, err := c.Read(c.buf[have:])
		if err != nil {
			return err
		}
		have += n
		end = bytes.Index(c.buf[:have], []byte("\r\n\r\n"))
	}
	code, length, err := parseHead(c.buf[:end+2])
	if err != nil {
		return err
	}
	body := c.buf[end+4 : have]
	keep := c.first == nil || code != status
	var kept []byte
	if keep {
		kept = append(make([]byte, 0, min(length, maxAnswer)), body...)
	}
	for left := length - len(body); left > 0; {
		n, err := c.Read(c.buf[:min(left, len(c.buf))])
		if err != nil {
			return err
		}
		if keep && len(kept) < maxAnswer {
			kept = append(kept, c.buf[:n]...)
		}
		left -= n
	}
	if code != status {
		return fmt.Errorf("answered %d: %.300s", code, kept)
	}
	if keep {
		c.first = kept
	}
	return nil
}

// parseHead reads the status and the length of the body out of an answer's head.
func parseHead(head []byte) (status, length int, err error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return 0, 0, io.ErrUnexpectedEOF
	}
	if status, err = strconv.Atoi(string(fields[1])); err != nil {
		return 0, 0, err
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		const name = "Content-Length: "
		if len(line) > len(name) && string(line[:len(name)]) == name {
			length, err = strconv.Atoi(string(line[len(name):]))
			return status, length, err
		}
	}
	return 0, 0, errors.New("the answer does not say how long it is")
}
