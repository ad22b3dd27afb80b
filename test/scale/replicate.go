package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/replication"
)

type linkStatus = replication.LinkStatus

// wire connects the two zones by loopback, and counts.
type wire struct {
	to      net.Listener
	receive *replication.Receiver
	ctx     context.Context //nolint:containedctx // the connections end with it
	serving sync.WaitGroup
}

// Replicate implements replication.PeerDialer.
func (w *wire) Replicate(ctx context.Context, _ block.Zone) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", w.to.Addr().String())
}

// accept serves connections until the listener is closed.
func (w *wire) accept() {
	for {
		conn, err := w.to.Accept()
		if err != nil {
			return
		}
		w.serving.Go(func() { _ = w.receive.ServeConn(w.ctx, conn, here) })
	}
}

func (l *lab) status() []linkStatus {
	if l.sending == nil {
		return nil
	}
	return l.sending()
}

// replicate has the protected volumes copied, which are empty, and watches what
// it costs that nothing changes.
func (l *lab) replicate(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	quiet := slog.New(slog.DiscardHandler)
	w := &wire{to: listener, ctx: running, receive: replication.NewReceiver(replication.ReceiverConfig{Catalog: l.target,
		Backends: l.backups, Zone: there, Protections: l.policies, Log: quiet})}
	before := heap()
	s := replication.NewSender(replication.SenderConfig{Catalog: l.catalog, Backends: l.stores, Zone: here,
		Protections: l.policies, Dialer: w, Log: quiet})
	l.sending = s.Status
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	go w.accept()
	defer func() {
		stop()
		<-ended
		listener.Close()
		w.serving.Wait()
	}()
	if err := l.firstCopies(ctx, s); err != nil {
		return err
	}
	l.paper.note("heap for a link, at both ends, with the store in memory", (heap()-before)/int64(max(1, l.protected)),
		"bytes")
	return l.watchIdle(ctx, s)
}

// firstCopies waits until the target has all volumes.
func (l *lab) firstCopies(ctx context.Context, s *replication.Sender) error {
	began, used, asked := time.Now(), processor(), l.seen.count()
	for {
		all := s.Status()
		left := l.protected - len(all)
		for _, one := range all {
			if one.ReplicatedTo.IsZero() {
				left++
			}
		}
		if left == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	n := float64(max(1, l.protected))
	l.paper.note("first copies of empty volumes", fmt.Sprintf("%.0f", n/time.Since(began).Seconds()), "/s")
	l.paper.note("processor for a first copy, both ends", fmt.Sprintf("%.3f", 1000*(processor()-used).Seconds()/n), "ms")
	l.paper.note("statements for a first copy, both ends", fmt.Sprintf("%.1f", float64(l.seen.count()-asked)/n), "")
	return nil
}

// watchIdle lets nothing change.
func (l *lab) watchIdle(ctx context.Context, s *replication.Sender) error {
	asked, used, began := l.seen.count(), processor(), time.Now()
	l.seen.keep()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(l.watch):
	}
	took := time.Since(began).Seconds()
	l.paper.note("idle replication, statements", fmt.Sprintf("%.0f", float64(l.seen.count()-asked)/took), "/s")
	l.paper.note("idle replication, processors, both ends", fmt.Sprintf("%.2f", (processor()-used).Seconds()/took), "")
	var ages []time.Duration
	now := time.Now()
	for _, one := range s.Status() {
		ages = append(ages, now.Sub(one.ReplicatedTo))
	}
	slices.Sort(ages)
	if n := len(ages); n > 0 {
		l.paper.note("idle replication, known up to, p50", milliseconds(ages[n/2]), "ms ago")
		l.paper.note("idle replication, known up to, p99", milliseconds(ages[n*99/100]), "ms ago")
		l.paper.note("idle replication, known up to, worst", milliseconds(ages[n-1]), "ms ago")
	}
	for _, line := range most(l.seen.keep(), 8) {
		l.paper.note("  most frequent statement", line[:min(len(line), 110)], "")
	}
	return nil
}
