package load

import (
	"context"
	"fmt"
	"time"
)

// PingSize is the number of bytes that a round trip sends and receives.
const PingSize = 64

// Answers keeps up to atOnce connections open. Each connection ends with its answer, and Answers
// then opens the next one. After the duration d, or after "limit" connections, it opens no more
// connections, and waits for the open ones to end. It returns the number of all connections.
func (l *Loop) Answers(ctx context.Context, t Target, atOnce, limit int, d time.Duration) (int, error) {
	end := time.Now().Add(d)
	started, done := 0, 0
	var launch func()
	finish := func() {
		done++
		if started < limit && time.Now().Before(end) {
			launch()
		}
	}
	launch = func() {
		started++
		if err := l.dial(t, wantAnswer, 0, func(c client) file { return &answerClient{client: c, done: finish} }); err != nil {
			l.fail(err)
		}
	}
	for range min(atOnce, limit) {
		launch()
	}
	err := l.phase(ctx, func() bool { return done == started })
	return done, err
}

// Open opens connections until n are open, and keeps them open.
func (l *Loop) Open(ctx context.Context, t Target, n int) error {
	started, opened := len(l.held), len(l.held)
	launch := func() error {
		return l.dial(t, wantEcho, 0, func(c client) file {
			e := &echoClient{client: c}
			e.opened = func() {
				l.held = append(l.held, e)
				opened++
			}
			return e
		})
	}
	err := l.phase(ctx, func() bool {
		for ; started < n && started-opened < openAtOnce && l.failure == nil; started++ {
			if err := launch(); err != nil {
				l.fail(err)
			}
		}
		return opened >= n
	})
	if err != nil {
		return fmt.Errorf("%d of %d connections open: %w", opened, n, err)
	}
	return nil
}

// openAtOnce is the number of connections that Open opens at the same time. It is well below the
// backlog of every router.
const openAtOnce = 32

// Held returns how many connections Open holds.
func (l *Loop) Held() int { return len(l.held) }

// Release closes the connections that Open holds.
func (l *Loop) Release() {
	for _, e := range l.held {
		l.close(e.fd)
	}
	l.held, l.nextHeld = nil, 0
}

// Pings makes round trips over the connections that Open has opened, in turn, and returns their
// times. At most atOnce round trips are in progress, one on each connection. After the duration d,
// Pings begins no further round trip, and waits for the end of the running ones.
func (l *Loop) Pings(ctx context.Context, atOnce int, d time.Duration) ([]time.Duration, error) {
	end := time.Now().Add(d)
	times := make([]time.Duration, 0, 1<<16)
	var message [PingSize]byte
	waiting := 0
	var send func()
	send = func() {
		e := l.held[l.nextHeld%len(l.held)]
		l.nextHeld++
		waiting++
		start := time.Now()
		e.ping(l, message[:], func() {
			now := time.Now()
			times = append(times, now.Sub(start))
			waiting--
			if now.Before(end) {
				send()
			}
		})
	}
	for range min(atOnce, len(l.held)) {
		send()
	}
	err := l.phase(ctx, func() bool { return waiting == 0 })
	return times, err
}

// Bulk makes the backends send data to the clients. The parameter "streams" is the number of
// connections, and the parameter "total" is the number of bytes over all connections together. Each
// connection has an equal share.
func (l *Loop) Bulk(ctx context.Context, t Target, streams int, total int64) error {
	left := streams
	for range streams {
		err := l.dial(t, wantBulk, total/int64(streams), func(c client) file {
			return &bulkClient{client: c, done: func() { left-- }}
		})
		if err != nil {
			l.fail(err)
		}
	}
	return l.phase(ctx, func() bool { return left == 0 })
}

// phase runs one phase of the benchmark: it handles events until the function "done" returns true.
// After a failure it closes all connections.
func (l *Loop) phase(ctx context.Context, done func() bool) error {
	err := l.run(ctx, func() bool { return l.failure != nil || done() })
	if err != nil {
		l.Reset()
	}
	return err
}
